import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hostOf, liveApp, pushBad, pushGood, told } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { files, server, spec } from "../sample-app.ts";

const APP = "health";
const SPEC = spec(APP)
  .replace("interval: 500ms", "interval: 300ms, grace: 2s")
  .replace("port: 3000\n", "port: 3000\n    stopTimeout: 500ms\n");

/** A server that answers with this status and these headers. */
const answering = (status: number, headers = "{}", listen = "3000") =>
  `require("node:http").createServer((request, response) => response.writeHead(${status}, ${headers}).end("answer")).listen(${listen}, () => console.log("started"));\n`;

describe("a release that is not healthy", () => {
  let shipway: Installation;
  let checkout: string;
  const bad = async (program: string, extra: Record<string, string> = {}) => {
    const text = await pushBad(shipway, APP, checkout, { "shipway.yml": SPEC, "server.js": program, ...extra });
    await pushGood(shipway, APP, checkout, { "shipway.yml": SPEC });
    return text;
  };
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP, { ...files(APP, "good"), "shipway.yml": SPEC });
  });
  afterAll(() => shipway.remove());

  it("exits at once: its exit code and its last lines", async () => {
    const text = await bad(
      'console.log("version 2"); console.error("connecting to db"); console.error("no database"); process.exit(7);',
    );
    expect(text).toMatch(/✗ \S+r2-1 exited with 7\./);
    // The engine reads the two streams side by side: only within one of them is there an order.
    expect(text).toContain("      | version 2\n");
    expect(text.replace("      | version 2\n", "")).toContain("      | connecting to db\n      | no database");
    expect(text).toContain("! r1 still serves; nothing changed for your users");
    expect(text).toMatch(/→ Mend it and push again\. `shipway deployments d_\w+` shows all of this once\s+more\./);
  });

  it("never listens: what was tried, and how long", async () => {
    const text = await bad('console.log("warming up"); setInterval(() => {}, 1000);');
    expect(text).toMatch(/runs but listens on no port yet; shipway\.yml says port\s+3000\./);
    expect(text.replace(/\s+/g, " ")).toContain(
      "It was given 2.0 s; a slower start needs a longer `grace` at its `health`.",
    );
    expect(text).toMatch(/GET http:\/\/[\d.]+:3000\/ → connection refused/);
    expect(text).toContain("      | warming up");
    expect(text).not.toContain("→ not checked yet");
  });

  it("answers 500: the status and the answer", async () => {
    const text = await bad(answering(500));
    expect(text).toMatch(/GET http:\/\/[\d.]+:3000\/ → 500 "answer"/);
    expect(text).toMatch(/router check of [\d.]+:3000 → HTTP 500/);
    expect(text).toContain("listens on port 3000");
  });

  it("listens on the wrong port: which it found", async () => {
    const text = (await bad(answering(200, "{}", "8081"))).replace(/\s+/g, " ");
    expect(text).toContain("listens on 8081, but shipway.yml says port 3000; write `port: 8081` at web");
  });

  it("listens only on 127.0.0.1", async () => {
    const text = (await bad(answering(200, "{}", '3000, "127.0.0.1"'))).replace(/\s+/g, " ");
    expect(text).toContain(
      "listens on port 3000 of 127.0.0.1 only, which nothing outside its container can reach; make it listen on 0.0.0.0.",
    );
  });

  it("redirects: that counts as healthy, and it says so", async () => {
    await shipway.commit(checkout, { "server.js": answering(302, '{ location: "/login" }') }, "Redirect");
    const text = told(await shipway.push(checkout)).replace(/\s+/g, " ");
    expect(text).toContain("web answers its health check with a redirect (HTTP 302), which counts as healthy.");
    expect(text).toContain("✓ live in");
    await pushGood(shipway, APP, checkout, { "shipway.yml": SPEC });
  });

  it("has a failing release command", async () => {
    const text = await bad(server("unmigrated"), {
      "shipway.yml": SPEC.replace("    port:", "    release: [node, migrate.js]\n    port:"),
      "migrate.js": 'console.error("table launches is locked"); process.exit(4);',
    });
    expect(text).toContain("failed at release-commands");
    expect(text).toContain("The release command `node migrate.js` of web exited with 4.");
    expect(text).toContain("      | table launches is locked");
  });

  it("fails its verify command, and traffic goes back by itself", async () => {
    const text = await bad(server("unverified"), {
      "shipway.yml": `${SPEC}verify:\n  - { service: web, command: [node, verify.js] }\n`,
      "verify.js": 'console.error("checkout page is blank"); process.exit(5);',
    });
    expect(text).toContain("The verify command `node verify.js` of web exited with 5.");
    expect(text).toContain("      | checkout page is blank");
    expect(text).toMatch(/! r\d+ had the traffic for a moment; r\d+ serves again/);
  });

  it("crashes while it is watched: its users lose it for a moment only", async () => {
    const [before, page] = [await shipway.things(), await shipway.page(hostOf(APP))];
    const program = `${server("short-lived")}\nsetTimeout(() => { console.error("out of cheese"); process.exit(9); }, 2500);`;
    await shipway.commit(
      checkout,
      { "shipway.yml": SPEC.replace("bake: 500ms", "bake: 8s"), "server.js": program },
      "Crash",
    );
    const traffic = shipway.traffic(hostOf(APP));
    const text = told(await shipway.push(checkout));
    const counts = await traffic.stop();
    expect(text).toMatch(/exited with 9\.[\s\S]*out of cheese[\s\S]*had the traffic for a moment; r\d+ serves again/);
    expect(await shipway.page(hostOf(APP))).toEqual(page);
    expect(await shipway.things()).toEqual(before);
    // 50 a second; the only task is gone until the watch has seen it and traffic is back.
    expect(counts.failed).toBeLessThan(100);
    await pushGood(shipway, APP, checkout, { "shipway.yml": SPEC });
  });
});
