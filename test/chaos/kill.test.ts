import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ApiEvent, TaskRun } from "../../src/http/schemas.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, files, server } from "../sample-app.ts";

/** Slow enough at every stage that a kill lands inside it. */
const PIPELINES = `
image: ${BASE_IMAGE}
pipelines:
  default:
    - step:
        name: Test
        script: ["echo before", "sleep 3", "echo after"]
`;
const HOST = "web.production.shop.localhost";

describe("Shipway killed by SIGKILL", () => {
  let shipway: Installation;
  let checkout: string;
  let round = 1;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await shipway.newApp("shop", { ...files("shop", "round 1"), "bitbucket-pipelines.yml": PIPELINES });
    expect((await shipway.push(checkout)).stderr).toContain("live in");
  });
  afterAll(() => shipway.remove());

  const events = () => shipway.api<ApiEvent[]>("/api/events?app=shop&limit=1000");

  /** Pushes a change, kills Shipway as soon as an event of this kind is there, starts it again and waits for the end. */
  async function killAt(kind: string, signal: "SIGKILL" | "SIGINT" = "SIGKILL"): Promise<ApiEvent[]> {
    round += 1;
    const lastId = (await events()).at(-1)?.id ?? 0;
    await shipway.commit(checkout, { "server.js": server(`round ${round}`) }, `Round ${round}`);
    const pushing = shipway.push(checkout);
    await until(
      `the event ${kind}`,
      async () => (await events()).some((event) => event.id > lastId && event.kind === kind),
      { withinMs: 60_000, everyMs: 20 },
    );
    await shipway.kill(signal);
    await pushing;
    await shipway.start();
    return until(
      "the delivery ending",
      async () => {
        const since = (await events()).filter(({ id }) => id > lastId);
        return since.some((event) => event.kind === "delivery.ended") && since;
      },
      { withinMs: 90_000, everyMs: 100 },
    );
  }

  it.each([
    "ci.commandStarted",
    "image.started",
    "release.recorded",
    "deployment.started",
    "rollout.phase-started",
    "rollout.live",
  ])("at %s: finishes the deployment after a restart, and the old release serves meanwhile", async (kind) => {
    const traffic = shipway.traffic(HOST);
    const since = await killAt(kind);
    // As text, so that a failure shows all of it.
    expect(JSON.stringify(since.find((event) => event.kind === "delivery.ended"))).toContain('"status":"live"');
    expect(await shipway.page(HOST)).toMatchObject({ status: 200, body: expect.stringContaining(`round ${round}`) });
    expect((await traffic.stop()).failed).toBe(0);

    expect(since.filter((event) => event.kind === "release.recorded")).toHaveLength(1);
    expect(since.filter((event) => event.kind === "deployment.ended")).toHaveLength(1);
    const running = await shipway.containers({ "shipway.role": "task" });
    // The live release and the one before it as standby, nothing else.
    expect(running).toHaveLength(2);
    expect(await shipway.containers({ "shipway.role": "step" })).toEqual([]);
  });

  it("stopped by Ctrl-C in the middle of a rollout instead: ends within seconds and goes on at the next start", async () => {
    const since = await killAt("rollout.phase-started", "SIGINT");
    expect(JSON.stringify(since.find((event) => event.kind === "delivery.ended"))).toContain('"status":"live"');
    expect((await shipway.page(HOST)).body).toContain(`round ${round}`);
  });

  it("in the middle of a rollback: the rollback finishes", async () => {
    const before = await shipway.page(HOST);
    const rolling = shipway.shipway(["rollback"], checkout);
    await until("the rollback starting", async () => (await shipway.deployments("shop"))[0]?.kind === "rollback", {
      everyMs: 5,
    });
    await shipway.kill("SIGKILL");
    await shipway.start();
    await rolling;
    const ended = await until(
      "the rollback ending",
      async () => {
        const [newest] = await shipway.deployments("shop");
        return newest?.endedAt !== null && newest;
      },
      { withinMs: 60_000 },
    );
    expect(ended).toMatchObject({ kind: "rollback", status: "succeeded" });
    expect((await shipway.page(HOST)).body).not.toBe(before.body);
  });

  it("while a command runs: it goes on, its client sees all of it once, and it is not run twice", async () => {
    const line = "echo begun $HOSTNAME; sleep 6; echo done; exit 7";
    const running = shipway.shipway(["run", "web", "--", "sh", "-c", line], checkout);
    const runsOf = () => shipway.api<TaskRun[]>("/api/apps/shop/runs");
    await until("its first line", async () => {
      const [run] = await runsOf();
      return run && (await shipway.api<unknown[]>(`/api/logs?id=${run.logId}`)).length > 0;
    });
    await shipway.kill("SIGKILL");
    await shipway.start();
    const { code, stdout, stderr } = await running;
    expect({ code, stderr }).toMatchObject({ code: 7, stderr: expect.stringContaining("exited with 7") });
    expect(stdout).toMatch(/^begun \w+\ndone\n$/);
    expect(await runsOf()).toMatchObject([{ status: "failed", exitCode: 7 }]);
    const ended = (await events()).filter(({ kind }) => kind === "run.ended");
    expect(ended).toHaveLength(1);
    await until(
      "its container being gone",
      async () => (await shipway.containers({ "shipway.role": "run" })).length === 0,
    );
  });
});
