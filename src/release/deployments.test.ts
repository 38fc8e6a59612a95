import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { appendEvent, readEvents } from "../events/event-stream.ts";
import type { Store, Tx } from "../store/open-store.ts";
import { newTestStore, untilSomebodyWaits } from "../store/testing.ts";
import {
  cancelDeployment,
  type DeploymentRequest,
  type DeploymentResult,
  endDeployment,
  getDeployment,
  lockEnvironments,
  requestDeployment,
} from "./deployments.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
});

const place = { app: "shop", environment: "production" };
const request = (wanted: Partial<DeploymentRequest>) =>
  store.db.transaction().execute((tx) =>
    requestDeployment(tx, {
      ...place,
      release: 1,
      kind: "deploy",
      actor: "ada",
      deliveryId: `c_${Math.random()}`,
      ...wanted,
    }),
  );
const succeeded: DeploymentResult = {
  status: "succeeded",
  live: 1,
  standby: null,
  standbyMs: 1_000,
  phases: [],
  evidence: [],
  rolledBack: false,
};
const statusOf = async (id: string) => (await getDeployment(store.db, id)).status;
const environment = () =>
  store.db.selectFrom("environments").selectAll().where("app", "=", "shop").executeTakeFirstOrThrow();

describe("the deployments of an environment", () => {
  it("start at once where nothing runs, and one at a time", async () => {
    const first = await request({ release: 1 });
    const second = await request({ release: 2 });
    expect(first.start).toBe(first.id);
    expect(second.start).toBeUndefined();
    expect([await statusOf(first.id), await statusOf(second.id)]).toEqual(["running", "queued"]);
  });

  it("let the newest waiting deploy win and mark those it overtakes", async () => {
    const first = await request({ release: 1 });
    const second = await request({ release: 2 });
    const third = await request({ release: 3 });
    expect(await statusOf(second.id)).toBe("superseded");
    expect(await endDeployment(store.db, first.id, succeeded)).toBe(third.id);
    expect(await statusOf(third.id)).toBe("running");
  });

  it("never let a push overtake a rollback, and ask the running deploy to stop for one", async () => {
    const running = await request({ release: 5 });
    const rollback = await request({ release: 4, kind: "rollback" });
    const push = await request({ release: 6 });
    expect((await getDeployment(store.db, running.id)).cancel_requested).toBe(true);
    expect(await endDeployment(store.db, running.id, { ...succeeded, status: "canceled", live: 4 })).toBe(rollback.id);
    expect([await statusOf(rollback.id), await statusOf(push.id)]).toEqual(["running", "queued"]);
  });

  it("freeze the environment after a rollback and drop what waited for it", async () => {
    const rollback = await request({ release: 4, kind: "rollback" });
    const push = await request({ release: 6 });
    expect(await endDeployment(store.db, rollback.id, { ...succeeded, live: 4, standby: 5 })).toBeUndefined();
    expect(await statusOf(push.id)).toBe("superseded");
    expect(await environment()).toMatchObject({
      live_release: 4,
      standby_release: 5,
      frozen_reason: "rolled back to r4 by ada",
      running_deployment: null,
    });
  });

  it("are requested once per delivery, however often the step is repeated", async () => {
    const first = await request({ deliveryId: "c_1" });
    const again = await request({ deliveryId: "c_1" });
    expect(again).toEqual({ id: first.id, start: undefined });
  });

  it("end once: a repeated end changes nothing", async () => {
    const first = await request({ deliveryId: "c_end" });
    await endDeployment(store.db, first.id, succeeded);
    await endDeployment(store.db, first.id, { ...succeeded, status: "failed", live: null });
    expect(await statusOf(first.id)).toBe("succeeded");
    const ends = (await readEvents(store.db, { deliveryId: "c_end" })).filter(({ kind }) => kind.endsWith(".ended"));
    expect(ends.map(({ kind }) => kind)).toEqual(["deployment.ended", "delivery.ended"]);
  });

  it("keep the standby when one fails before it changed anything", async () => {
    const first = await request({ release: 2 });
    await endDeployment(store.db, first.id, { ...succeeded, live: 2, standby: 1 });
    const second = await request({ release: 3 });
    await endDeployment(store.db, second.id, { ...succeeded, status: "failed", live: 2, standby: undefined });
    expect(await environment()).toMatchObject({ live_release: 2, standby_release: 1 });
  });

  it("end at once when canceled while they wait", async () => {
    await request({ release: 1 });
    const waiting = await request({ release: 2, deliveryId: "c_wait" });
    expect(await cancelDeployment(store.db, waiting.id)).toBe("canceled");
    expect((await readEvents(store.db, { deliveryId: "c_wait" })).at(-1)?.kind).toBe("delivery.ended");
  });
});

describe("transactions that cross", () => {
  const staging = { app: "shop", environment: "staging" };
  /** Holds an environment's row until somebody waits, then does what `then` says. */
  const holding = (environment: string, then: (tx: Tx) => Promise<unknown>) => {
    let held = () => {};
    const isHeld = new Promise<void>((resolve) => {
      held = resolve;
    });
    const work = store.db.transaction().execute(async (tx) => {
      await lockEnvironments(tx, "shop", [environment]);
      held();
      await untilSomebodyWaits(store);
      await then(tx);
    });
    return { isHeld, work };
  };

  it("of several environments wait for no environment once they have written an event", async () => {
    const holder = holding("staging", (tx) =>
      appendEvent(tx, { app: "shop", subject: "environment:staging", actor: "ada" }, noted),
    );
    await holder.isHeld;
    const asked = store.db.transaction().execute(async (tx) => {
      await lockEnvironments(tx, "shop", ["production", "staging"]);
      for (const one of [place, staging])
        await requestDeployment(tx, { ...one, release: 1, kind: "deploy", actor: "ada", deliveryId: "c_crossing" });
    });
    await expect(Promise.all([holder.work, asked])).resolves.toBeDefined();
  });

  it("cancel a deployment that was just started as a running one, and its environment gets free", async () => {
    const first = await request({ release: 1 });
    const second = await request({ release: 2 });
    // What `endDeployment` does, stopped before its commit.
    const ending = holding("production", async (tx) => {
      await tx.updateTable("deployments").set({ status: "running" }).where("id", "=", second.id).execute();
      await tx.updateTable("deployments").set({ status: "succeeded" }).where("id", "=", first.id).execute();
      await tx.updateTable("environments").set({ running_deployment: second.id }).where("app", "=", "shop").execute();
    });
    await ending.isHeld;
    const canceled = cancelDeployment(store.db, second.id);
    await ending.work;
    expect(await canceled).toBe("running");
    await endDeployment(store.db, second.id, { ...succeeded, status: "canceled", live: 1 });
    expect((await environment()).running_deployment).toBeNull();
  });
});

const noted = { kind: "environment.mended" as const, data: { text: "web-1 was started again" } };
