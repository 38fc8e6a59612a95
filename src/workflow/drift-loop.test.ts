import { afterAll, beforeAll, expect, it } from "vitest";
import { recordDrift } from "../infra/drift-reports.ts";
import { findInfra, getRun, listRuns, requestRun } from "../infra/runs.ts";
import { until } from "../shared/until.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { forgetOldChecks, startDriftLoop } from "./drift-loop.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
});
afterAll(() => store?.close());

const DAY_MS = 24 * 3_600_000;
const text = JSON.stringify({
  app: "shop",
  services: { web: { build: {}, port: 80 } },
  environments: { production: { infra: { dir: "infra" } } },
});

async function newRun(kind: "plan" | "drift", endedAt: Date | null): Promise<string> {
  const spec = parseAppSpec(text).environments.production?.infra;
  if (!spec) throw new Error("no infra");
  const request = { app: "shop", environment: "production", kind, commit: "c", refName: "main", actor: "ada", spec };
  const { id } = await store.db.transaction().execute((tx) => requestRun(tx, { ...request, inputs: "" }));
  const status = endedAt === null ? "running" : "succeeded";
  await store.db.updateTable("infra_runs").set({ ended_at: endedAt, status }).where("id", "=", id).execute();
  return id;
}

it("keeps drift checks for 30 days, and for longer only the one that is shown; other runs stay", async () => {
  const now = Date.now();
  const old = new Date(now - 31 * DAY_MS);
  const forgotten = await newRun("drift", old);
  const kept = [
    await newRun("drift", new Date(now - 29 * DAY_MS)),
    await newRun("drift", null),
    await newRun("plan", old),
  ];
  const shown = await newRun("drift", old);
  await recordDrift(store.db, await getRun(store.db, shown), []);
  const removed: string[] = [];
  const logs = { remove: async (id: string) => void removed.push(id) };
  await forgetOldChecks({ store, logs }, now);
  const left = (await listRuns(store.db, "shop", { limit: 10 })).map(({ id }) => id);
  expect(left.sort()).toEqual([...kept, shown].sort());
  expect(removed).toEqual([`${forgotten}.init`, `${forgotten}.plan`]);
  expect((await findInfra(store.db, { app: "shop", environment: "production" }))?.drift?.runId).toBe(shown);
});

it("starts a recorded run that the engine could not take, as soon as it can", async () => {
  const id = await newRun("plan", null);
  let refusals = 2;
  const started: string[] = [];
  const loop = startDriftLoop({
    store,
    logs: { remove: async () => undefined },
    startInfra: async () => undefined,
    startIfNew: async (run) => {
      if (refusals-- > 0) throw new Error("the engine is away");
      started.push(run.id);
    },
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    everyMs: 10,
  });
  await until("it is started", () => started.includes(id));
  await loop.stop();
});
