import type { StepExecutor } from "../ci/executor.ts";
import { listDeclaredBacking } from "../environment/declared-backing.ts";
import { type EnvironmentRow, listEnvironments } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { recordTaskDrift } from "../environment/task-drift.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { ImageBuilder } from "../image/builder.ts";
import type { InfraCode } from "../infra/infra-code.ts";
import { openDeliveries } from "../release/deliveries.ts";
import { runningDeployments } from "../release/deployments.ts";
import { withoutRunning } from "../release/pipelines.ts";
import { imagesToKeep } from "../release/releases.ts";
import { openTaskRuns } from "../release/task-runs.ts";
import type { Place } from "../rollout/release.ts";
import type { DesiredState, RolloutTarget } from "../rollout/target.ts";
import { hasCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { listInfraRepositories } from "../source/infra-repositories.ts";
import type { Repositories } from "../source/repositories.ts";
import type { Store } from "../store/open-store.ts";
import { readDesiredState } from "./desired-state.ts";
import type { Logger } from "./durable.ts";
import type { Execs } from "./execs.ts";
import { forgetEndedRuns } from "./task-run.ts";
import { watchBacking } from "./watch-backing.ts";

/** How long a task that was removed by hand stays missing at most (DESIGN, section 5). */
const EVERY_MS = 15_000;
const TIDY_EVERY_MS = 3_600_000;
/** Looking at every container costs the engine some milliseconds each, and what is found here waits for a person anyway. */
const LOOK_EVERY_MS = 60_000;
/** When each place was looked at for drift. */
type Looked = Map<string, number>;

export type ReconcileDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  target: RolloutTarget;
  execs: Pick<Execs, "endLeft">;
  builder: ImageBuilder;
  executor: StepExecutor;
  repositories: Repositories;
  code: Pick<InfraCode, "maintain">;
  startDelivery(changeId: string): Promise<void>;
  startDeployment(deploymentId: string): Promise<void>;
  startTaskRun(runId: string): Promise<void>;
  log: Logger;
};

/** Keeps what runs equal to what was declared, until stopped. `once` is one round, also used at start. */
export function startReconcileLoop(deps: ReconcileDeps): { once(): Promise<void>; stop(): Promise<void> } {
  const stopping = new AbortController();
  let tidiedAt = 0;
  const looked: Looked = new Map();
  let round: Promise<void> = Promise.resolve();
  const once = (): Promise<void> => {
    round = round.then(() => reconcileAll(deps, looked)).catch((error: unknown) => report(deps, error));
    return round;
  };
  const loop = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await sleep(EVERY_MS, stopping.signal).catch(() => undefined);
      if (stopping.signal.aborted) return;
      await once();
      if (Date.now() - tidiedAt < TIDY_EVERY_MS) continue;
      tidiedAt = Date.now();
      await tidy(deps).catch((error: unknown) => report(deps, error));
    }
  };
  const looping = loop();
  return {
    once,
    async stop() {
      stopping.abort();
      await looping;
      await round;
    },
  };
}

/** Docker being away is known and shown elsewhere; saying it every round would only fill the log. */
function report(deps: ReconcileDeps, error: unknown): void {
  if (!hasCode(error, "DOCKER_UNREACHABLE")) deps.log.warn({ err: error }, "a reconcile round failed");
}

async function reconcileAll(deps: ReconcileDeps, looked: Looked): Promise<void> {
  // Recorded work whose workflow was never started, because of a crash between the two. A start that happened is a no-op.
  // Each by itself: one that cannot be started must not keep the others waiting for the next round.
  for (const id of await openDeliveries(deps.store.db))
    await deps.startDelivery(id).catch((error) => report(deps, error));
  for (const id of await runningDeployments(deps.store.db))
    await deps.startDeployment(id).catch((error) => report(deps, error));
  for (const id of await openTaskRuns(deps.store.db)) await deps.startTaskRun(id).catch((error) => report(deps, error));
  await deps.execs.endLeft().catch((error: unknown) => report(deps, error));
  await forgetEndedRuns(deps).catch((error: unknown) => report(deps, error));
  await removeCutOffRuns(deps).catch((error: unknown) => report(deps, error));
  await watchBacking({ ...deps, db: deps.store.db }, (error) => report(deps, error)).catch((error: unknown) =>
    report(deps, error),
  );
  for (const environment of await listEnvironments(deps.store.db)) {
    if (environment.running_deployment !== null) continue;
    await reconcileEnvironment(deps, environment, looked).catch((error: unknown) => report(deps, error));
  }
}

/** A pipeline that ended because Docker went away could not clean up behind itself. */
async function removeCutOffRuns(deps: ReconcileDeps): Promise<void> {
  const runs = await deps.executor.runs();
  for (const id of await withoutRunning(deps.store.db, runs)) await deps.executor.cleanUp(id);
}

async function reconcileEnvironment(deps: ReconcileDeps, row: EnvironmentRow, looked: Looked): Promise<void> {
  const place = { app: row.app, environment: row.name };
  if (row.standby_release !== null && row.standby_until !== null && row.standby_until < new Date()) {
    await deps.target.stop(place, row.standby_release);
    await deps.store.db
      .updateTable("environments")
      .set({ standby_release: null, standby_until: null })
      .where("app", "=", row.app)
      .where("name", "=", row.name)
      .execute();
    return;
  }
  const desired = await readDesiredState(deps, row);
  await deps.target.ensureBacking(place, desired.backing ?? [], () => undefined);
  // That may have waited for a database, and the environment may have been changed or removed meanwhile.
  const now = (await listEnvironments(deps.store.db, row.app)).find(({ name }) => name === row.name);
  if (now === undefined) return await removeLeftovers(deps, place);
  if (now.live_release !== row.live_release || now.running_deployment !== null) return;
  const mended = await deps.target.reconcile(place, desired);
  for (const text of mended) {
    await appendEvent(
      deps.store.db,
      { ...place, subject: `environment:${row.name}`, actor: "shipway" },
      { kind: "environment.mended", data: { text } },
    );
  }
  await lookForDrift(deps, place, desired, looked);
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
  await recordTaskDrift(deps.store.db, place, await deps.target.findDrift(place, desired));
}

/** What nobody waits for: packing repositories, and images that no release needs any more. */
async function tidy(deps: ReconcileDeps): Promise<void> {
  for (const { name } of await listInfraRepositories(deps.store.db)) await deps.repositories.maintain(name);
  const apps = await deps.store.db.selectFrom("apps").select("name").execute();
  for (const { name } of apps) {
    const busy = (await openDeliveries(deps.store.db, name)).length > 0;
    await deps.repositories.maintain(name);
    await deps.code.maintain(name);
    // An image that was just built belongs to no release yet.
    if (busy) continue;
    await deps.builder.prune(name, await imagesToKeep(deps.store.db, name));
  }
}
