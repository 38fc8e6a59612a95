import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { declareBacking, listDeclaredBacking } from "../environment/declared-backing.ts";
import { newEnvironment } from "../environment/environments.ts";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets, type Secrets } from "../environment/secrets.ts";
import { appendEvent, lastEventId, readEvents } from "../events/event-stream.ts";
import { dueForDrift, skipDriftCheck } from "../infra/drift-reports.ts";
import { lockEnvironment, requestRun } from "../infra/runs.ts";
import { newEnvironment as newInfra } from "../infra/states.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { fail } from "../shared/errors.ts";
import type { InfraSpec } from "../spec/app-spec.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore, untilSomebodyWaits } from "../store/testing.ts";
import { type Backings, newBackings } from "./backings.ts";
import { watchBacking } from "./watch-backing.ts";

let store: Store;
let secrets: Secrets;
let target: MemoryTarget;
let backings: Backings;
/** Before each call of the target; may throw, as an engine that is gone does. */
let onCall: (method: string) => void;
const place = { app: "shop", environment: "production" };
const ADA = { actor: "ada" };
const redis = { engine: "redis" as const };
beforeAll(async () => {
  store = await newTestStore();
  secrets = newSecrets(store.db, newSealer(Buffer.alloc(32, 3)));
});
afterAll(() => store?.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
  onCall = () => undefined;
  target = memoryTarget({ onCall: (method) => onCall(method) });
  backings = newBackings({ db: store.db, secrets, target });
});

const declaredNames = async () => (await listDeclaredBacking(store.db, place)).map(({ name }) => name);
const eventsSince = async (after: number) =>
  (await readEvents(store.db, { app: "shop", after, limit: 1_000 })).map(({ kind, actor, data }) => [
    kind,
    actor,
    data,
  ]);

/** r1 with a backing service `db` of its own, live in production. */
async function live(): Promise<void> {
  const spec = parseAppSpec(
    "app: shop\nservices: { web: { build: {}, port: 1 } }\nbacking: { db: { engine: redis } }\n",
  );
  const release = { app: "shop", number: 1, change_id: "c", commit: "c", ref_name: "main", subject: "s", author: "a" };
  await store.db
    .insertInto("releases")
    .values({ ...release, spec: JSON.stringify(spec), images: "[]" })
    .execute();
  await store.db
    .insertInto("environments")
    .values({ ...newEnvironment(place), live_release: 1 })
    .execute();
}

describe("a backing service declared through the API", () => {
  it("runs when the answer comes, before any deployment, and a repetition starts nothing", async () => {
    const after = await lastEventId(store.db);
    const status = await backings.put(place, "cache", redis, ADA);
    expect(status).toMatchObject({ name: "cache", engine: "redis", state: "running", variables: ["CACHE_URL"] });
    expect(await backings.put(place, "cache", redis, ADA)).toEqual(status);
    expect([await backings.get(place, "cache"), await backings.list(place)]).toEqual([status, [status]]);
    expect(target.effects).toEqual(["start backing cache"]);
    expect(await eventsSince(after)).toEqual([["backing.declared", "ada", { name: "cache", engine: "redis" }]]);
  });

  it("shows what somebody did to it by hand, and comes back when it is declared again", async () => {
    await backings.put(place, "cache", redis, ADA);
    target.stopBacking(place, "cache");
    expect(await backings.get(place, "cache")).toMatchObject({ state: "stopped" });
    target.loseBacking(place, "cache");
    expect(await backings.get(place, "cache")).toMatchObject({ state: "missing" });
    expect(await backings.put(place, "cache", redis, ADA)).toMatchObject({ state: "running" });
  });

  it("changes its version over the same data, and its engine never", async () => {
    await backings.put(place, "cache", redis, ADA);
    expect(await backings.put(place, "cache", { ...redis, version: "7.2" }, ADA)).toMatchObject({ version: "7.2" });
    const refused = { code: "BACKING_REFUSED", message: expect.stringMatching(/is a redis; mysql/) };
    await expect(backings.put(place, "cache", { engine: "mysql" }, ADA)).rejects.toMatchObject(refused);
    await backings.remove(place, "cache", "keep", "ada");
    await expect(backings.put(place, "cache", { engine: "mysql" }, ADA)).rejects.toMatchObject({
      code: "BACKING_REFUSED",
    });
    expect(await declaredNames()).toEqual([]);
    await backings.remove(place, "cache", "remove", "ada");
    expect(await backings.put(place, "cache", { engine: "mysql" }, ADA)).toMatchObject({ engine: "mysql" });
  });

  it("is declared no more when it could not be started at all, and stays declared when it was there before", async () => {
    onCall = (method) => {
      if (method === "ensureBacking") throw fail("IMAGE_UNAVAILABLE", { message: "no image" });
    };
    const put = () => backings.put(place, "cache", redis, ADA);
    await expect(put()).rejects.toMatchObject({ code: "IMAGE_UNAVAILABLE" });
    expect(await declaredNames()).toEqual([]);
    await declareBacking(store.db, place, "cache", redis, ADA);
    await expect(put()).rejects.toMatchObject({ code: "IMAGE_UNAVAILABLE" });
    expect(await declaredNames()).toEqual(["cache"]);
  });

  it("goes once, and is not there afterwards", async () => {
    await backings.put(place, "cache", redis, ADA);
    await backings.remove(place, "cache", "keep", "ada");
    const gone = { code: "NOT_FOUND" };
    await expect(backings.get(place, "cache")).rejects.toMatchObject(gone);
    await expect(backings.remove(place, "cache", "keep", "ada")).rejects.toMatchObject(gone);
    await backings.remove(place, "cache", "remove", "ada");
    await expect(backings.remove(place, "cache", "remove", "ada")).rejects.toMatchObject(gone);
  });

  it("never takes the data of one that shipway.yml declares", async () => {
    await live();
    await target.ensureBacking(
      place,
      [{ name: "db", spec: redis, password: await secrets.internal(place, "x") }],
      () => 0,
    );
    await expect(backings.remove(place, "db", "remove", "ada")).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(target.effects).toEqual(["start backing db"]);
  });

  it.each(["web", "router"])("cannot be called %s: something else answers there", async (name) => {
    await live();
    await expect(backings.put(place, name, redis, ADA)).rejects.toMatchObject({ code: "BACKING_REFUSED" });
  });

  it("is there, or not, however declaring and removing it meet", async () => {
    await Promise.allSettled([
      backings.put(place, "cache", redis, ADA),
      backings.remove(place, "cache", "keep", "ada"),
      backings.put(place, "cache", redis, ADA),
      backings.remove(place, "cache", "keep", "ada"),
    ]);
    expect(await declaredNames()).toEqual([]);
    expect(await target.removeBacking(place, "cache", "keep")).toBe(false);
  });
});

describe("watching declared backing services", () => {
  const drift: InfraSpec["drift"] = 3_600_000;
  const spec = { dir: "infra", variables: {}, env: {}, secrets: [], outputs: {}, drift };
  const due = async () => (await dueForDrift(store.db, Date.now())).map(({ environment }) => environment);
  const watch = () =>
    watchBacking({ db: store.db, secrets, target }, (error) => {
      throw error;
    });

  beforeEach(async () => {
    const applied = { applied_commit: "c", applied_spec: JSON.stringify(spec), drift_at: new Date() };
    await store.db
      .insertInto("infra_environments")
      .values({ ...newInfra(place), ...applied })
      .execute();
    await store.db.insertInto("environments").values(newEnvironment(place)).execute();
    await backings.put(place, "cache", redis, ADA);
  });

  it("tells once what was done by hand, mends nothing, and lets the drift check not wait for its turn", async () => {
    const after = await lastEventId(store.db);
    await watch();
    expect([await eventsSince(after), await due()]).toEqual([[], []]);
    target.loseBacking(place, "cache");
    await watch();
    await watch();
    const told = ["backing.drifted", "shipway", { name: "cache", text: "the container of cache is gone" }];
    expect([await eventsSince(after), await due()]).toEqual([[told], ["production"]]);
    expect(await backings.get(place, "cache")).toMatchObject({ state: "missing" });
    await skipDriftCheck(store.db, place);
    await watch();
    expect([await eventsSince(after), await due()]).toEqual([[told], []]);
  });

  it("tells anew what happens after it was put right, and what is another change", async () => {
    const after = await lastEventId(store.db);
    const texts = async () => (await eventsSince(after)).map(([, , data]) => (data as { text?: string }).text);
    target.loseBacking(place, "cache");
    await watch();
    await backings.put(place, "cache", redis, ADA);
    await watch();
    target.stopBacking(place, "cache");
    await watch();
    target.loseBacking(place, "cache");
    await watch();
    const gone = "the container of cache is gone";
    expect(await texts()).toEqual([gone, expect.stringContaining("was stopped"), gone]);
  });

  it("finds one that was made from other settings", async () => {
    await store.db.updateTable("declared_backing").set({ version: "9" }).execute();
    await watch();
    expect(await due()).toEqual(["production"]);
  });

  it("is due where the Terraform is that declared it, also when that is another environment's", async () => {
    const other = { app: "shop", environment: "base" };
    const { id } = await store.db.transaction().execute((tx) =>
      requestRun(tx, {
        ...other,
        kind: "plan",
        commit: "c",
        refName: "main",
        actor: "ada",
        spec: { ...spec, backend: {}, varFiles: [], approval: "always", approvers: "anyone" },
        inputs: "",
      }),
    );
    const applied = { applied_commit: "c", applied_spec: JSON.stringify(spec), drift_at: new Date() };
    await store.db.updateTable("infra_environments").set(applied).where("environment", "=", "base").execute();
    await backings.put(place, "cache", redis, { actor: `infra run ${id}`, runId: id });
    target.loseBacking(place, "cache");
    await watch();
    expect((await due()).sort()).toEqual(["base", "production"]);
  });

  it("does not wait for an environment once it has written its event", async () => {
    target.loseBacking(place, "cache");
    let held = () => {};
    const isHeld = new Promise<void>((resolve) => {
      held = resolve;
    });
    // As everything that starts or ends a run there does: the environment first, then the event.
    const other = store.db.transaction().execute(async (tx) => {
      await lockEnvironment(tx, place);
      held();
      await untilSomebodyWaits(store);
      await appendEvent(
        tx,
        { app: "shop", subject: "app:shop", actor: "ada" },
        { kind: "environment.mended", data: { text: "web" } },
      );
    });
    await isHeld;
    await expect(Promise.all([other, watch()])).resolves.toBeDefined();
    expect(await due()).toEqual(["production"]);
  });

  it.each(["deployment", "infra run"])("keeps quiet while a %s is at work there", async (what) => {
    if (what === "deployment") await store.db.updateTable("environments").set({ running_deployment: "d_1" }).execute();
    else await store.db.updateTable("infra_environments").set({ running_run: "i_1" }).execute();
    target.loseBacking(place, "cache");
    await watch();
    const [declared] = await listDeclaredBacking(store.db, place);
    expect(declared?.drift).toBeUndefined();
  });
});
