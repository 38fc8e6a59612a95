import type { LogStore } from "../events/log-store.ts";
import { dueForDrift, forgetChecks, isCheckingDrift, oldChecks, skipDriftCheck } from "../infra/drift-reports.ts";
import { infraLogId } from "../infra/run-terraform.ts";
import { openRuns, requestRun, type StartedRun } from "../infra/runs.ts";
import { sleep } from "../shared/until.ts";
import type { Store } from "../store/open-store.ts";
import type { Logger } from "./durable.ts";

/** How soon a due check is noticed, and how soon after one the next. */
const EVERY_MS = 15_000;
const NEXT_MS = 1_000;
/** Fifty environments make some 1,200 checks a day, each a row and a log; what they found is in the events. */
const CHECKS_KEPT_MS = 30 * 24 * 3_600_000;
const FORGET_EVERY_MS = 3_600_000;
const FORGOTTEN_AT_ONCE = 500;

export type DriftLoopDeps = {
  store: Store;
  logs: Pick<LogStore, "remove">;
  startInfra(run: StartedRun): Promise<void>;
  /** For a run that was most likely started before. */
  startIfNew(run: StartedRun): Promise<void>;
  log: Logger;
  /** Between two looks; 15 s. */
  everyMs?: number;
};

/** Asks for the drift checks that are due, one at a time, the longest unchecked environment first: fifty of them never stand in a deployment's way. */
export function startDriftLoop(deps: DriftLoopDeps): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const loop = async (): Promise<void> => {
    let asked: string | undefined;
    let forgotAt = 0;
    while (!stopping.signal.aborted) {
      await startOpen(deps).catch((error: unknown) =>
        deps.log.warn({ err: error }, "recorded infra runs could not start"),
      );
      await sleep(asked === undefined ? (deps.everyMs ?? EVERY_MS) : NEXT_MS, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) return;
      const now = Date.now();
      // While one is under way the next is looked for soon: an hour must do for every environment.
      asked = await checkNextDue(deps, now).catch((error: unknown) => {
        deps.log.warn({ err: error }, "a drift check could not start");
        return undefined;
      });
      if (now - forgotAt >= FORGET_EVERY_MS) {
        forgotAt = now;
        await forgetOldChecks(deps, now).catch((error: unknown) =>
          deps.log.warn({ err: error }, "old drift checks could not be forgotten"),
        );
      }
      asked ??= (await isCheckingDrift(deps.store.db).catch(() => false)) ? "one under way" : undefined;
    }
  };
  const looping = loop();
  return {
    async stop() {
      stopping.abort();
      await looping;
    },
  };
}

/** Recorded runs whose workflow was never started: a crash came between the two, or the engine could not take it. A start that happened is a no-op. */
async function startOpen({ store, startIfNew }: DriftLoopDeps): Promise<void> {
  for (const run of await openRuns(store.db)) await startIfNew(run);
}

/** Starts the check that is due the longest; undefined when none is, or one is under way. */
export async function checkNextDue(
  { store, startInfra }: Pick<DriftLoopDeps, "store" | "startInfra">,
  now: number,
): Promise<string | undefined> {
  if (await isCheckingDrift(store.db)) return undefined;
  const [due] = await dueForDrift(store.db, now);
  if (due === undefined || due.applied_spec === null || due.applied_commit === null) return undefined;
  const place = { app: due.app, environment: due.environment };
  await skipDriftCheck(store.db, place);
  const wanted = {
    ...place,
    kind: "drift" as const,
    commit: due.applied_commit,
    refName: "as applied",
    actor: "shipway",
    spec: due.applied_spec,
    inputs: due.applied_inputs ?? "",
  };
  const { id, start } = await store.db.transaction().execute((tx) => requestRun(tx, wanted));
  if (start) await startInfra(start);
  return id;
}

/** Removes drift checks that are older than 30 days, with their logs; never the one whose report is shown. */
export async function forgetOldChecks(
  { store, logs }: Pick<DriftLoopDeps, "store" | "logs">,
  now: number,
): Promise<void> {
  for (;;) {
    const ids = await oldChecks(store.db, new Date(now - CHECKS_KEPT_MS), FORGOTTEN_AT_ONCE);
    // The logs first: without its row nobody would find them again.
    for (const id of ids) for (const phase of ["init", "plan"] as const) await logs.remove(infraLogId(id, phase));
    await forgetChecks(store.db, ids);
    if (ids.length < FORGOTTEN_AT_ONCE) return;
  }
}
