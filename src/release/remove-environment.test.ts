import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { declareBacking, forgetBacking } from "../environment/declared-backing.ts";
import { declareEnvironment, everyPlace, listEnvironments } from "../environment/environments.ts";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets, type Secrets } from "../environment/secrets.ts";
import { listVariables, setVariable } from "../environment/variables.ts";
import { lastEventId, readEvents } from "../events/event-stream.ts";
import { waitForApproval } from "../infra/approve-run.ts";
import { ignoreDrift, listIgnored } from "../infra/ignored-drift.ts";
import { findWrites, recordWrite } from "../infra/rollout-writes.ts";
import { getRun, requestRun } from "../infra/runs.ts";
import { newEnvironment as newInfra } from "../infra/states.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { newRelease } from "../rollout/testing.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { endDeployment, listDeployments, requestDeployment } from "./deployments.ts";
import { removeEnvironment } from "./remove-environment.ts";

let store: Store;
let secrets: Secrets;
let target: MemoryTarget;
const demo = { app: "shop", environment: "demo" };
beforeAll(async () => {
  store = await newTestStore();
  secrets = newSecrets(store.db, newSealer(Buffer.alloc(32, 3)));
});
afterAll(() => store?.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
  await declareEnvironment(store.db, demo, { branch: "demo/*", tag: null }, "ada");
  target = memoryTarget();
});

const remove = (data: "keep" | "remove" = "keep") => removeEnvironment({ db: store.db, target }, demo, data, "bob");
const refused = (text: RegExp) => ({ code: "ENVIRONMENT_BUSY", message: expect.stringMatching(text) });

async function deployed(): Promise<string> {
  const request = { ...demo, release: 1, kind: "deploy" as const, actor: "ada", deliveryId: "c_1" };
  const { id } = await store.db.transaction().execute((tx) => requestDeployment(tx, request));
  await target.startService(demo, newRelease(1), newRelease(1).services[0] as never, { env: {}, secrets: {} });
  return id;
}

const succeeded = {
  status: "succeeded" as const,
  live: 1,
  standby: null,
  standbyMs: 0,
  phases: [],
  evidence: [],
  rolledBack: false,
};

const WITH_INFRA = JSON.stringify({
  app: "shop",
  services: { web: { build: {}, port: 80 } },
  environments: { demo: { infra: { dir: "infra" } } },
});

describe("removing an environment", () => {
  it("ends what runs there, forgets its values and keeps its history", async () => {
    await endDeployment(store.db, await deployed(), succeeded);
    await setVariable(store.db, demo, "COLOR", "red", "ada");
    await secrets.set(demo, "KEY", "value", "ada");
    await secrets.set({ ...demo, pipelines: true }, "KEY", "of steps", "ada");
    await remove();
    expect(await target.observe(demo)).toEqual([]);
    expect(await listEnvironments(store.db, "shop")).toEqual([]);
    expect(await listVariables(store.db, demo)).toEqual([]);
    expect(await secrets.list(demo)).toEqual([]);
    expect(await secrets.list({ ...demo, pipelines: true })).toEqual([]);
    expect(await listDeployments(store.db, "shop", { limit: 10 })).toHaveLength(1);
    expect((await readEvents(store.db, { app: "shop", limit: 1_000 })).at(-1)).toMatchObject({
      kind: "environment.removed",
      actor: "bob",
      data: { dataKept: true },
    });
    await expect(remove()).rejects.toMatchObject({ code: "ENVIRONMENT_NOT_FOUND" });
  });

  it("keeps the password of data that it keeps, and the way to them, until those go, too", async () => {
    const password = (await secrets.internal(demo, "backing-db")).reveal();
    await remove();
    expect((await secrets.internal(demo, "backing-db")).reveal()).toBe(password);
    expect(await everyPlace(store.db, "shop")).toEqual([demo]);
    await declareEnvironment(store.db, demo, { branch: null, tag: null }, "ada");
    await remove("remove");
    expect((await secrets.internal(demo, "backing-db")).reveal()).not.toBe(password);
  });

  it("waits for a deployment", async () => {
    const id = await deployed();
    await expect(remove()).rejects.toMatchObject(refused(new RegExp(`deployment ${id}`)));
    expect(await target.observe(demo)).not.toEqual([]);
    await endDeployment(store.db, id, succeeded);
    await remove();
  });

  it("wants declared backing services to be removed first", async () => {
    await declareBacking(store.db, demo, "cache", { engine: "redis" }, { actor: "ada" });
    await expect(remove()).rejects.toMatchObject(refused(/cache is declared/));
    await forgetBacking(store.db, demo, "cache", "ada");
    await remove();
  });

  it("leaves no infrastructure behind that only its state knows, nor a run", async () => {
    await store.db.insertInto("infra_environments").values(newInfra(demo)).execute();
    const state = { ...demo, serial: 1, lineage: "x", sealed: Buffer.alloc(1), run_id: null, actor: "a", reason: "r" };
    await store.db
      .insertInto("infra_states")
      .values({ ...state, version: 1, resources: 2 })
      .execute();
    await expect(remove()).rejects.toMatchObject(refused(/still lists 2 resources/));
    await store.db
      .insertInto("infra_states")
      .values({ ...state, version: 2, resources: 0 })
      .execute();
    await store.db.updateTable("infra_environments").set({ running_run: "i_1" }).execute();
    await expect(remove()).rejects.toMatchObject(refused(/i_1 is at work/));
    await store.db.updateTable("infra_environments").set({ running_run: null, applied_commit: "c" }).execute();
    await remove();
    const row = await store.db.selectFrom("infra_environments").selectAll().executeTakeFirst();
    expect(row).toMatchObject({ applied_commit: null, drift: null });
  });

  it("closes what waits for an approval, on the record, and keeps quiet about nothing when the name is used again", async () => {
    const [infra] = Object.values(parseAppSpec(WITH_INFRA).environments).map((one) => one.infra);
    if (!infra) throw new Error("no infra");
    const request = {
      ...demo,
      kind: "apply" as const,
      commit: "c",
      refName: "main",
      actor: "ada",
      spec: infra,
      inputs: "",
    };
    const { id } = await store.db.transaction().execute((tx) => requestRun(tx, request));
    await waitForApproval(store.db, await getRun(store.db, id), ["it destroys"]);
    await ignoreDrift(store.db, demo, { what: "aws_instance.web", reason: "being replaced", until: null }, "ada");
    await recordWrite(store.db, demo, {
      type: "aws_ecs_service",
      object: "arn",
      path: "task",
      among: {},
      value: "x:1",
    });
    const after = await lastEventId(store.db);
    await remove();
    expect(await getRun(store.db, id)).toMatchObject({ status: "superseded", credential: null });
    const events = await readEvents(store.db, { app: "shop", after });
    expect(events.map(({ kind, actor }) => `${kind} by ${actor}`)).toEqual([
      "infra.ended by bob",
      "environment.removed by bob",
    ]);
    expect([await listIgnored(store.db, demo, Date.now()), await findWrites(store.db, demo)]).toEqual([[], []]);
  });

  it("goes on where a crash cut it off", async () => {
    await endDeployment(store.db, await deployed(), succeeded);
    const cutOff = { destroy: async () => Promise.reject(new Error("killed")) };
    await expect(removeEnvironment({ db: store.db, target: cutOff }, demo, "keep", "bob")).rejects.toThrow("killed");
    expect(await listEnvironments(store.db, "shop")).toMatchObject([{ live_release: null, declared: true }]);
    await remove();
    expect(await listEnvironments(store.db, "shop")).toEqual([]);
  });
});
