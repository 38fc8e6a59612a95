import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { memoryExecutor } from "../ci/drivers/memory.ts";
import { readEvents } from "../events/event-stream.ts";
import { memoryBuilder } from "../image/drivers/memory.ts";
import { fail } from "../shared/errors.ts";
import { startReconcileLoop } from "../workflow/reconcile-loop.ts";
import { newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

const WEB = "shop.production.web.r2-1";
const place = { app: "shop", environment: "production" };
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
let test: TestPlatform;
let token: string;
beforeEach(async () => {
  test = await newTestPlatform();
  await newDeliveredApp(test, "shop");
  token = await test.tokenFor("viewer", "shop");
});
afterEach(() => test?.close());

/** One round of a loop of its own: what it looked at lately it does not remember. */
async function reconcile(): Promise<void> {
  const { store, secrets, infra, target, repositories } = test.platform;
  const parts = {
    store,
    secrets,
    sealer: infra.sealer,
    target,
    repositories,
    code: infra.code,
    publisherAt: () => ({ prune: async () => 0 }),
    builderOf: () => memoryBuilder(),
    log,
  };
  const none = async () => undefined;
  const loop = startReconcileLoop({
    ...parts,
    executorOf: () => memoryExecutor(),
    startDelivery: none,
    startTeardown: none,
    startPipeline: none,
    startTaskRun: async () => undefined,
    execs: { endLeft: async () => undefined },
    startDeployment: none,
  });
  await loop.once();
  await loop.stop();
}
async function tasks() {
  const headers = { authorization: `Bearer ${token}` };
  const url = "/api/apps/shop/environments/production/infra";
  const answer = await test.server.inject({ url, headers });
  expect(answer.statusCode).toBe(200);
  return answer.json().tasks;
}
const told = async () =>
  (await readEvents(test.platform.store.db, { app: "shop", limit: 500 }))
    .filter(({ kind }) => kind.startsWith("environment."))
    .map(({ kind, data }) => (kind === "environment.mended" ? `mended ${data.text}` : kind));

describe("drift of tasks", () => {
  it("is shown with what was put right, in the place where drift of infrastructure is shown, Terraform or not", async () => {
    expect((await tasks()).drift).toMatchObject([{ name: WEB, kind: "missing", mendsItself: true }]);
    await reconcile();
    test.platform.target.change(WEB);
    const { drift, mended, problem, deployment, checkedAt } = await tasks();
    expect(drift).toMatchObject([{ name: WEB, kind: "changed", mendsItself: false, attributes: [{ path: "image" }] }]);
    expect(mended.map(({ text }: { text: string }) => text)).toContain(`start ${WEB}`);
    expect([problem, deployment]).toEqual([null, null]);
    expect(Math.abs(Date.parse(checkedAt) - Date.now())).toBeLessThan(60_000);
  });

  it("is an event once, again when more is changed, and once when it is gone; what mends itself is none", async () => {
    await reconcile();
    const before = await told();
    expect(before).toContain(`mended start ${WEB}`);
    expect(before).not.toContain("environment.driftFound");
    test.platform.target.change(WEB);
    await reconcile();
    await reconcile();
    expect((await told()).slice(before.length)).toEqual(["environment.driftFound"]);
    test.platform.target.change(WEB);
    await reconcile();
    expect((await told()).slice(before.length)).toEqual(["environment.driftFound", "environment.driftFound"]);
    test.platform.target.lose(WEB);
    await reconcile();
    expect((await told()).at(-1)).toBe("environment.driftGone");
    await reconcile();
    expect((await told()).at(-1)).toBe("environment.driftGone");
    expect((await tasks()).drift).toEqual([]);
  });

  it("leaves a deployment at work alone, and says that it is", async () => {
    const { db } = test.platform.store;
    await db.updateTable("environments").set({ running_deployment: "d_1" }).where("app", "=", "shop").execute();
    expect(await tasks()).toMatchObject({ deployment: "d_1", drift: [], problem: null });
  });

  it("is no reason to answer nothing while Docker is away", async () => {
    test.onTargetCall.current = () => {
      throw fail("DOCKER_UNREACHABLE", { message: "Docker does not answer." });
    };
    expect(await tasks()).toMatchObject({ drift: [], problem: { code: "DOCKER_UNREACHABLE" } });
  });

  it("is null where nothing was deployed yet", async () => {
    await test.platform.store.db.deleteFrom("environments").where("app", "=", "shop").execute();
    expect(await tasks()).toBeNull();
  });

  it("shows of what was mended the last day, of this environment", async () => {
    const mended = { app: "shop", subject: "environment:x", actor: "shipway", kind: "environment.mended" };
    const at = (hours: number) => new Date(Date.now() - hours * 3_600_000);
    const data = (text: string) => JSON.stringify({ text });
    await test.platform.store.db
      .insertInto("events")
      .values([
        { ...mended, environment: "production", at: at(25), data: data("long ago"), delivery_id: null },
        { ...mended, environment: "staging", at: at(1), data: data("elsewhere"), delivery_id: null },
        { ...mended, environment: "production", at: at(23), data: data("first"), delivery_id: null },
        { ...mended, environment: "production", at: at(1), data: data("second"), delivery_id: null },
      ])
      .execute();
    expect((await tasks()).mended.map(({ text }: { text: string }) => text)).toEqual(["second", "first"]);
  });
});

it("goes with its environment", async () => {
  await reconcile();
  test.platform.target.change(WEB);
  await reconcile();
  const { db } = test.platform.store;
  await db.deleteFrom("environments").where("app", "=", place.app).execute();
  expect(await db.selectFrom("task_drift").selectAll().execute()).toEqual([]);
});
