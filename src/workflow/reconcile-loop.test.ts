import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { memoryExecutor } from "../ci/drivers/memory.ts";
import { newEnvironment } from "../environment/environments.ts";
import { newSealer } from "../environment/sealing.ts";
import { newSecrets } from "../environment/secrets.ts";
import { readEvents } from "../events/event-stream.ts";
import { memoryBuilder } from "../image/drivers/memory.ts";
import { removeEnvironment } from "../release/remove-environment.ts";
import { type MemoryTarget, memoryTarget } from "../rollout/drivers/memory.ts";
import { newService } from "../rollout/testing.ts";
import { until } from "../shared/until.ts";
import { gitRepositories } from "../source/repositories.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { newBackings } from "./backings.ts";
import { startReconcileLoop } from "./reconcile-loop.ts";

let store: Store;
let dir: string;
let target: MemoryTarget;
/** After each call of the target was counted; as long as it waits, the call does. */
let onCall: (method: string) => Promise<void>;
const sealer = newSealer(Buffer.alloc(32, 3));
const place = { app: "shop", environment: "production" };
beforeAll(async () => {
  store = await newTestStore();
  dir = await mkdtemp(join(tmpdir(), "shipway-reconcile-"));
});
afterAll(async () => {
  await store?.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
  onCall = async () => undefined;
  target = memoryTarget({ onCall: (method) => onCall(method) });
  await live();
});

/** r1 with a backing service `db` of its own, live in production; nothing runs yet. */
async function live(): Promise<void> {
  const spec = parseAppSpec(
    "app: shop\nservices: { web: { build: {}, port: 1 } }\nbacking: { db: { engine: redis } }\n",
  );
  const images = [{ service: "web", name: "shop/web:1", digest: "shop:1", reused: false }];
  const release = { app: "shop", number: 1, change_id: "c", commit: "c", ref_name: "main", subject: "s", author: "a" };
  await store.db
    .insertInto("releases")
    .values({ ...release, spec: JSON.stringify(spec), images: JSON.stringify(images) })
    .execute();
  await store.db
    .insertInto("environments")
    .values({ ...newEnvironment(place), live_release: 1 })
    .execute();
}

const secrets = () => newSecrets(store.db, sealer);

/** One round, whose warnings fail the test. */
async function round(): Promise<void> {
  const warned: unknown[] = [];
  const loop = startLoop((warning) => void warned.push(warning));
  await loop.once();
  await loop.stop();
  expect(warned).toEqual([]);
}

function startLoop(onWarning: (details: object) => void, visitDeadlineMs?: number) {
  return startReconcileLoop({
    store,
    secrets: secrets(),
    sealer,
    target,
    publisherAt: () => ({ prune: async () => 0 }),
    builderOf: () => memoryBuilder(),
    executorOf: () => memoryExecutor(),
    repositories: gitRepositories({ dir: join(dir, "repositories") }),
    code: { maintain: async () => undefined },
    startDelivery: async () => undefined,
    startTeardown: async () => undefined,
    startTaskRun: async () => undefined,
    execs: { endLeft: async () => undefined },
    startPipeline: async () => undefined,
    startDeployment: async () => undefined,
    log: { info: () => undefined, warn: onWarning, error: onWarning },
    ...(visitDeadlineMs !== undefined && { visitDeadlineMs }),
  });
}

it("starts what shipway.yml declares when it is missing, and only tells of what the API declares", async () => {
  await newBackings({ db: store.db, secrets: secrets(), target }).put(
    place,
    "cache",
    { engine: "redis" },
    { actor: "a" },
  );
  await round();
  expect(target.answering(place, "web")).toBe(1);
  for (const name of ["db", "cache"]) target.loseBacking(place, name);
  target.effects.length = 0;
  await round();
  await round();
  expect(target.effects).toEqual(["start backing db"]);
  const told = (await readEvents(store.db, { app: "shop", limit: 1_000 })).filter(
    ({ kind }) => kind === "backing.drifted",
  );
  expect(told.at(-1)?.data).toEqual({ name: "cache", text: "the container of cache is gone" });
});

it("gives the tasks that it starts again the variables of every backing service", async () => {
  await newBackings({ db: store.db, secrets: secrets(), target }).put(
    place,
    "cache",
    { engine: "redis" },
    { actor: "a" },
  );
  await round();
  const { secrets: given = {} } = target.variablesOf("shop.production.web.r1-1") ?? {};
  expect(Object.keys(given).sort()).toEqual(["CACHE_URL", "DB_URL"]);
});

it("leaves nothing of an environment that was removed while a database was waited for", async () => {
  await round();
  let removing: Promise<unknown> | undefined;
  onCall = async (method) => {
    if (method !== "ensureBacking" || removing !== undefined) return;
    removing = removeEnvironment({ db: store.db, target }, place, "keep", "ada");
    await removing;
  };
  target.lose("shop.production.web.r1-1");
  await round();
  expect(removing).toBeDefined();
  expect(await target.observe(place)).toEqual([]);
  const db = {
    name: "db",
    spec: { engine: "redis" as const },
    password: await secrets().internal(place, "backing-db"),
  };
  expect(await target.observeBacking(place, [db])).toMatchObject([{ state: "missing" }]);
});

it("visits the other environments while the engine does not answer for one", async () => {
  const staging = { app: "shop", environment: "staging" };
  await store.db
    .insertInto("environments")
    .values({ ...newEnvironment(staging), live_release: 1 })
    .execute();
  let answer: (() => void) | undefined;
  onCall = async (method) => {
    if (method !== "reconcile" || answer !== undefined) return;
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
  };
  const late: object[] = [];
  const loop = startLoop((warning) => void late.push(warning), 3_000);
  await loop.once();
  expect(late).toHaveLength(1);
  const places = [place, staging];
  expect(places.filter((one) => target.answering(one, "web") === 1)).toHaveLength(1);
  answer?.();
  await until("the first is put right as well", () => places.every((one) => target.answering(one, "web") === 1));
  await loop.stop();
});

it("stops a standby when its time is over", async () => {
  const before = { app: "shop", number: 2, services: [newService("web")] };
  await target.startService(place, before, newService("web"), { env: {}, secrets: {} });
  const over = { standby_release: 2, standby_until: new Date(Date.now() - 1_000) };
  await store.db.updateTable("environments").set(over).execute();
  await round();
  expect(target.effects.at(-1)).toBe("stop shop.production.web.r2-1");
  const row = await store.db.selectFrom("environments").select("standby_release").executeTakeFirstOrThrow();
  expect(row.standby_release).toBeNull();
});
