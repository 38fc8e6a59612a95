import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { liveApp, pushBad, pushGood } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { files, server, spec } from "../sample-app.ts";

const APP = "health";
const SPEC = spec(APP).replace("interval: 500ms", "interval: 300ms, grace: 3s");

/** A server that answers with this status and these headers. */
const answering = (status: number, headers = "{}", listen = "3000") =>
  `require("node:http").createServer((request, response) => response.writeHead(${status}, ${headers}).end("answer")).listen(${listen}, () => console.log("started"));\n`;

describe("a release that is not healthy", () => {
  let shipway: Installation;
  let checkout: string;
  const bad = async (program: string, extra: Record<string, string> = {}) => {
    const text = await pushBad(shipway, APP, checkout, { "shipway.yml": SPEC, "server.js": program, ...extra });
    console.log(text);
    await pushGood(shipway, APP, checkout, { "shipway.yml": SPEC });
    return text;
  };
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP, { ...files(APP, "good"), "shipway.yml": SPEC });
  });
  afterAll(() => shipway.remove());

  it("exits at once: exit code and last lines", async () => {
    expect(await bad('console.log("connecting to db"); console.error("no database"); process.exit(7);')).toBe("");
  });

  it("never listens", async () => {
    expect(await bad('console.log("warming up"); setInterval(() => {}, 1000);')).toBe("");
  });

  it("answers 500", async () => {
    expect(await bad(answering(500))).toBe("");
  });

  it("listens on the wrong port", async () => {
    expect(await bad(answering(200, "{}", "8081"))).toBe("");
  });

  it("listens only on 127.0.0.1", async () => {
    expect(await bad(answering(200, "{}", '3000, "127.0.0.1"'))).toBe("");
  });

  it("redirects", async () => {
    expect(await bad(answering(302, '{ location: "https://example.com/login" }'))).toBe("");
  });

  it("has a failing release command", async () => {
    const release = { "shipway.yml": SPEC.replace("    port:", "    release: [node, migrate.js]\n    port:") };
    expect(
      await bad(server("unmigrated"), {
        ...release,
        "migrate.js": 'console.error("table launches is locked"); process.exit(4);',
      }),
    ).toBe("");
  });

  it("fails its verify command, and traffic goes back by itself", async () => {
    const verify = {
      "shipway.yml": `${SPEC}verify:\n  - { service: web, command: [node, verify.js] }\n`,
      "verify.js": 'console.error("checkout page is blank"); process.exit(5);',
    };
    expect(await bad(server("unverified"), verify)).toBe("");
  });

  it("crashes while it is watched", async () => {
    const program = `${server("short-lived")}\nsetTimeout(() => { console.error("out of cheese"); process.exit(9); }, 1500);`;
    expect(await bad(program, { "shipway.yml": SPEC.replace("bake: 500ms", "bake: 5s") })).toBe("");
  });
});
