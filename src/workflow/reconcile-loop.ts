import type { StepExecutor } from "../ci/executor.ts";
import { listDeclaredBacking } from "../environment/declared-backing.ts";
import { type EnvironmentRow, findEnvironment, listEnvironments } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { recordTaskDrift } from "../environment/task-drift.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { ImagePublisher } from "../image/publisher.ts";
import type { InfraCode } from "../infra/infra-code.ts";
import { expireApprovals } from "../release/approval.ts";
import { openDeliveries } from "../release/deliveries.ts";
import { runningDeployments } from "../release/deployments.ts";
import { openContinuations, runnerOf, setTidied, untidiedPipelines, withoutRunning } from "../release/pipelines.ts";
import { currentRuntimes } from "../release/runtimes.ts";
import { openTaskRuns } from "../release/task-runs.ts";
import { openTeardowns, type StartedTeardown, wakeTeardowns } from "../release/teardowns.ts";
import type { Place } from "../rollout/release.ts";
import type { DesiredState, RolloutTarget } from "../rollout/target.ts";
import { hasCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import type { Repositories } from "../source/repositories.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Store } from "../store/open-store.ts";
import { endPaused } from "./continue-pipeline.ts";
import { readDesiredState } from "./desired-state.ts";
import type { Logger } from "./durable.ts";
import type { Execs } from "./execs.ts";
import { forgetEndedRuns } from "./task-run.ts";
import { type TidyDeps, tidy } from "./tidy.ts";
import { newVisits, type Visit } from "./visits.ts";
import { watchBacking } from "./watch-backing.ts";

/** How long a task that was removed by hand stays missing at most (DESIGN, section 5). */
const EVERY_MS = 15_000;
/** On AWS only what a person changed is missed: ECS replaces its tasks itself, and every look is a call to an account that others use too. */
const STEADY_MS = { docker: 0, ecs: 60_000 };
const TIDY_EVERY_MS = 3_600_000;
/** Looking at every container costs the engine some milliseconds each, and what is found here waits for a person anyway. */
const LOOK_EVERY_MS = 60_000;
/** Environments that are visited side by side, of those that are on the same engine or cluster. */
const AT_ONCE = 6;
/** A visit that takes longer (an engine that hangs, a database that starts) keeps no other waiting. */
const VISIT_DEADLINE_MS = 60_000;
/** When each place was looked at for drift. */
type Looked = Map<string, number>;

export type ReconcileDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  target: RolloutTarget;
  execs: Pick<Execs, "endLeft">;
  builderOf: TidyDeps["builderOf"];
  /** Where images were pushed to, by its name. */
  publisherAt(registry: string): Pick<ImagePublisher, "prune">;
  /** By where an app's steps run. */
  executorOf(steps: CiSettings["steps"]): StepExecutor;
  repositories: Repositories;
  code: Pick<InfraCode, "maintain">;
  startDelivery(changeId: string): Promise<void>;
  startDeployment(deploymentId: string): Promise<void>;
  startTaskRun(runId: string): Promise<void>;
  startTeardown(teardown: StartedTeardown): Promise<void>;
  startPipeline(key: string): Promise<void>;
  log: Logger;
  /** How long one visit may keep those after it waiting. */
  visitDeadlineMs?: number;
};

/** Keeps what runs equal to what was declared, until stopped. `once` is one round, also used at start. */
export function startReconcileLoop(deps: ReconcileDeps): { once(): Promise<void>; stop(): Promise<void> } {
  const stopping = new AbortController();
  let tidiedAt = 0;
  let tidying: Promise<void> = Promise.resolve();
  const looked: Looked = new Map();
  const visits = newVisits({
    atOnce: AT_ONCE,
    deadlineMs: deps.visitDeadlineMs ?? VISIT_DEADLINE_MS,
    onError: (_, error) => report(deps, error),
    onLate: (visited) => deps.log.warn({ visited }, "a visit of the reconcile loop takes long; the others go on"),
  });
  const once = async (): Promise<void> => {
    try {
      await visits.begin([...errands(deps), ...(await environmentVisits(deps, looked))]);
    } catch (error) {
      report(deps, error);
    }
  };
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await sleep(EVERY_MS, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) return;
      // Not awaited: an engine that hangs must not keep the next round of the others waiting.
      void once();
      if (Date.now() - tidiedAt < TIDY_EVERY_MS) continue;
      tidiedAt = Date.now();
      tidying = tidying.then(() => tidy(deps, stopping.signal, (error) => report(deps, error)));
    }
  };
  const looping = loop();
  return {
    once,
    async stop() {
      stopping.abort();
      await looping;
      await tidying;
      await visits.stop();
    },
  };
}

/** Docker being away is known and shown elsewhere; saying it every round would only fill the log. */
function report(deps: ReconcileDeps, error: unknown): void {
  if (!hasCode(error, "DOCKER_UNREACHABLE")) deps.log.warn({ err: error }, "a reconcile round failed");
}

/** What is done each round beside the environments, each by itself: none keeps another waiting. */
function errands(deps: ReconcileDeps): Visit[] {
  const errand = (key: string, run: () => Promise<unknown>): Visit => ({
    key,
    lane: key,
    make: async () => {
      await run();
      return { againMs: 0 };
    },
  });
  return [
    errand("recorded work", () => startRecorded(deps)),
    errand("approvals", () => expireApprovals(deps.store.db, new Date())),
    errand("paused pipelines", () => endPaused(deps, new Date())),
    errand("execs", () => deps.execs.endLeft()),
    errand("ended runs", () => forgetEndedRuns(deps)),
    errand("cut-off runs", () => removeCutOffRuns(deps)),
    errand("runs elsewhere", () => removeRunsElsewhere(deps)),
    errand("backing", () => watchBacking({ ...deps, db: deps.store.db }, (error) => report(deps, error))),
  ];
}

/**
 * Recorded work whose workflow was never started, because of a crash between the two. A start that happened is a no-op.
 * Each by itself: one that cannot be started must not keep the others waiting for the next round.
 */
async function startRecorded(deps: ReconcileDeps): Promise<void> {
  for (const id of await openDeliveries(deps.store.db))
    await deps.startDelivery(id).catch((error) => report(deps, error));
  for (const id of await runningDeployments(deps.store.db))
    await deps.startDeployment(id).catch((error) => report(deps, error));
  for (const key of await openContinuations(deps.store.db))
    await deps.startPipeline(key).catch((error) => report(deps, error));
  for (const id of await openTaskRuns(deps.store.db)) await deps.startTaskRun(id).catch((error) => report(deps, error));
  // An infra run that was turned down ends in no workflow.
  await wakeTeardowns(deps.store.db);
  for (const one of await openTeardowns(deps.store.db))
    await deps.startTeardown(one).catch((error) => report(deps, error));
}

/** One lane for each engine and cluster. */
async function environmentVisits(deps: ReconcileDeps, looked: Looked): Promise<Visit[]> {
  const [rows, runtimes] = await Promise.all([listEnvironments(deps.store.db), currentRuntimes(deps.store.db)]);
  return rows
    .filter((row) => row.running_deployment === null && row.teardown === null)
    .map((row) => {
      const place = { app: row.app, environment: row.name };
      const runtime = runtimes(place);
      const steadyMs = STEADY_MS[runtime.kind];
      return {
        key: `${row.app}/${row.name}`,
        lane: runtime.kind === "docker" ? "docker" : `ecs ${runtime.settings.region} ${runtime.settings.cluster}`,
        // What was just put right is looked at again soon.
        make: async () => ({ againMs: (await reconcileEnvironment(deps, place, looked)) ? 0 : steadyMs }),
      };
    });
}

/** A pipeline that ended because Docker went away could not clean up behind itself. */
async function removeCutOffRuns({ store: { db }, executorOf }: ReconcileDeps): Promise<void> {
  const onEngine = executorOf({ kind: "docker" });
  for (const id of await withoutRunning(db, await onEngine.runs())) await onEngine.cleanUp(id);
}

/** Nor could one on AWS. What is asked for there is not free, so it is our own record that says what may be left. */
async function removeRunsElsewhere(deps: ReconcileDeps): Promise<void> {
  const { db } = deps.store;
  for (const pipeline of await untidiedPipelines(db)) {
    await deps
      .executorOf(runnerOf(pipeline))
      .cleanUp(pipeline.id)
      .then(() => setTidied(db, pipeline.id))
      .catch((error: unknown) => report(deps, error));
  }
}

/** @returns whether anything was changed */
async function reconcileEnvironment(deps: ReconcileDeps, place: Place, looked: Looked): Promise<boolean> {
  // As it is now: the visit may have waited for others.
  const row = await findEnvironment(deps.store.db, place);
  if (row === undefined || row.running_deployment !== null || row.teardown !== null) return false;
  if (await endStandby(deps, place, row)) return true;
  const desired = await readDesiredState(deps, row);
  await deps.target.ensureBacking(place, desired.backing ?? [], () => undefined);
  // That may have waited for a database, and the environment may have been changed or removed meanwhile.
  const now = await findEnvironment(deps.store.db, place);
  if (now === undefined) {
    await removeLeftovers(deps, place);
    return true;
  }
  if (now.live_release !== row.live_release || now.running_deployment !== null || now.teardown !== null) return true;
  const mended = await deps.target.reconcile(place, desired);
  for (const text of mended) {
    await appendEvent(
      deps.store.db,
      { ...place, subject: `environment:${row.name}`, actor: "shipway" },
      { kind: "environment.mended", data: { text } },
    );
  }
  await lookForDrift(deps, place, desired, looked);
  return mended.length > 0;
}

/** Stops a release that stood by for its time. Given up first: a rollback that begins now finds that it has to start it anew. */
async function endStandby({ store, target }: ReconcileDeps, place: Place, row: EnvironmentRow): Promise<boolean> {
  if (row.standby_release === null || row.standby_until === null || row.standby_until >= new Date()) return false;
  const { numUpdatedRows } = await store.db
    .updateTable("environments")
    .set({ standby_release: null, standby_until: null })
    .where("app", "=", place.app)
    .where("name", "=", place.environment)
    .where("standby_release", "=", row.standby_release)
    .where("running_deployment", "is", null)
    .executeTakeFirst();
  if (numUpdatedRows > 0n) await target.stop(place, row.standby_release);
  return true;
}

/** What was started in an environment that was just removed; unless somebody declared anything there again. Data stay. */
async function removeLeftovers({ store, target }: ReconcileDeps, place: Place): Promise<void> {
  if ((await listDeclaredBacking(store.db, place)).length === 0) await target.destroy(place, "keep");
}

/** Looks once in a while whether anything runs otherwise than declared, beside what was just mended. */
async function lookForDrift(deps: ReconcileDeps, place: Place, desired: DesiredState, looked: Looked): Promise<void> {
  const key = JSON.stringify(place);
  if (Date.now() - (looked.get(key) ?? 0) < LOOK_EVERY_MS) return;
  looked.set(key, Date.now());
  await recordTaskDrift(
    deps.store.db,
    place,
    await deps.target.findDrift(place, desired, { mayBeOldMs: LOOK_EVERY_MS }),
  );
}
