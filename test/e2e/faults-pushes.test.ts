import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../src/shared/until.ts";
import { hostOf, liveApp, pushGood, told } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { files, server } from "../sample-app.ts";

const APP = "pushes";
const ENVIRONMENTS = "environments:\n  production: { branch: main }\n  staging: { branch: develop }\n";
/** Becomes healthy only after a while, so that there is time to interfere. */
const slowly = (text: string, ms: number) =>
  `process.once("SIGTERM", () => process.exit(0));\nsetTimeout(() => {\n${server(text)}}, ${ms});\n`;

describe("pushes that meet, are broken off or canceled", () => {
  let shipway: Installation;
  let checkout: string;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await liveApp(shipway, APP, files(APP, "good", ENVIRONMENTS));
  });
  afterAll(() => shipway.remove());

  const running = (status = "running") =>
    until(`a ${status} deployment`, async () => (await shipway.deployments(APP)).find((one) => one.status === status));

  it("deploys two branches side by side, each to its own environment", async () => {
    await shipway.commit(checkout, { "server.js": server("both") }, "Say both");
    await shipway.git(["branch", "--force", "develop"], checkout);
    const [main, develop] = await Promise.all([
      shipway.push(checkout),
      shipway.git(["push", "shipway", "develop"], checkout),
    ]);
    expect(told(main)).toMatch(/→ production .*[\s\S]*✓ done in /);
    expect(told(develop)).toMatch(/→ staging .*[\s\S]*✓ done in /);
    expect((await shipway.page(hostOf(APP))).body).toContain("both");
    expect((await shipway.page(`web.staging.${APP}.localhost`)).body).toContain("both");
  });

  it("lets the last of three pushes win, and tells the one it overtook", async () => {
    const traffic = shipway.traffic(hostOf(APP));
    await shipway.commit(checkout, { "server.js": slowly("first", 4_000) }, "Say first");
    const first = shipway.push(checkout);
    await running();
    await shipway.commit(checkout, { "server.js": server("second") }, "Say second");
    const second = shipway.push(checkout);
    await running("queued");
    await shipway.commit(checkout, { "server.js": server("third") }, "Say third");
    const said = (await Promise.all([first, second, shipway.push(checkout)])).map(told);
    expect((await shipway.page(hostOf(APP))).body).toContain("third");
    expect((await traffic.stop()).failed).toBe(0);
    const [one = "", two = "", three = ""] = said;
    expect(one).toMatch(/✓ live in [\s\S]*✓ done in /);
    expect(two).toMatch(/… production is busy; waiting for d_\w+ to end/);
    expect(two).toContain("! overtaken by something newer; this was not deployed");
    expect(three).toMatch(/✓ live in [\s\S]*✓ done in /);
  });

  it("finishes the deployment when the client goes away", async () => {
    await shipway.commit(checkout, { "server.js": slowly("alone", 1_500) }, "Say alone");
    const git = spawn("git", ["push", "shipway", "main"], {
      cwd: checkout,
      env: shipway.env,
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    const deployment = await running();
    process.kill(-(git.pid ?? 0), "SIGINT");
    await once(git, "exit");
    const ended = await until("the deployment ending", async () =>
      (await shipway.deployments(APP)).find((one) => one.id === deployment.id && one.endedAt !== null),
    );
    expect(ended.status).toBe("succeeded");
    expect((await shipway.page(hostOf(APP))).body).toContain("alone");
  });

  it("cancels a running deployment by its id and leaves what serves alone", async () => {
    const before = await shipway.things();
    const traffic = shipway.traffic(hostOf(APP));
    await shipway.commit(checkout, { "server.js": slowly("never seen", 60_000) }, "Never serve");
    const pushing = shipway.push(checkout);
    const { id } = await running();
    const canceled = await shipway.shipway(["cancel", id], checkout);
    const text = told(await pushing);
    expect((await traffic.stop()).failed).toBe(0);
    expect(await shipway.things()).toEqual(before);
    const again = await shipway.shipway(["cancel", id], checkout);
    await pushGood(shipway, APP, checkout, { "shipway.yml": files(APP, "", ENVIRONMENTS)["shipway.yml"] ?? "" });
    expect(canceled).toMatchObject({ code: 0, stdout: "" });
    expect(text).toMatch(/! production: r\d+ was canceled; r\d+ still serves/);
    expect(again.code).toBe(2);
    expect(again.stderr).toContain("there is nothing to cancel");
  });
});
