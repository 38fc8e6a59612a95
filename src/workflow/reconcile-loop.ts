import type { StepExecutor } from "../ci/executor.ts";
import { type EnvironmentRow, listEnvironments } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { ImageBuilder } from "../image/builder.ts";
import type { InfraCode } from "../infra/infra-code.ts";
import { openDeliveries } from "../release/deliveries.ts";
import { runningDeployments } from "../release/deployments.ts";
import { withoutRunning } from "../release/pipelines.ts";
import { getRelease, imagesToKeep } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import type { DesiredState, RolloutTarget } from "../rollout/target.ts";
import { hasCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { listInfraRepositories } from "../source/infra-repositories.ts";
import type { Repositories } from "../source/repositories.ts";
import type { Store } from "../store/open-store.ts";
import { backingOf } from "./backings.ts";
import { liveVariables } from "./deployment-stages.ts";
import type { Logger } from "./durable.ts";
import { watchBacking } from "./watch-backing.ts";

/** How long a task that was removed by hand stays missing at most (DESIGN, section 5). */
const EVERY_MS = 15_000;
const TIDY_EVERY_MS = 3_600_000;

export type ReconcileDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  target: RolloutTarget;
  builder: ImageBuilder;
  executor: StepExecutor;
  repositories: Repositories;
  code: Pick<InfraCode, "maintain">;
  startDelivery(changeId: string): Promise<void>;
  startDeployment(deploymentId: string): Promise<void>;
  log: Logger;
};

/** Keeps what runs equal to what was declared, until stopped. `once` is one round, also used at start. */
export function startReconcileLoop(deps: ReconcileDeps): { once(): Promise<void>; stop(): Promise<void> } {
  const stopping = new AbortController();
  let tidiedAt = 0;
  let round: Promise<void> = Promise.resolve();
  const once = (): Promise<void> => {
    round = round.then(() => reconcileAll(deps)).catch((error: unknown) => report(deps, error));
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

async function reconcileAll(deps: ReconcileDeps): Promise<void> {
  // Recorded work whose workflow was never started, because of a crash between the two. A start that happened is a no-op.
  // Each by itself: one that cannot be started must not keep the others waiting for the next round.
  for (const id of await openDeliveries(deps.store.db))
    await deps.startDelivery(id).catch((error) => report(deps, error));
  for (const id of await runningDeployments(deps.store.db))
    await deps.startDeployment(id).catch((error) => report(deps, error));
  await removeCutOffRuns(deps).catch((error: unknown) => report(deps, error));
  await watchBacking({ ...deps, db: deps.store.db }, (error) => report(deps, error));
  for (const environment of await listEnvironments(deps.store.db)) {
    if (environment.running_deployment !== null) continue;
    await reconcileEnvironment(deps, environment).catch((error: unknown) => report(deps, error));
  }
}

/** A pipeline that ended because Docker went away could not clean up behind itself. */
async function removeCutOffRuns(deps: ReconcileDeps): Promise<void> {
  const runs = await deps.executor.runs();
  for (const id of await withoutRunning(deps.store.db, runs)) await deps.executor.cleanUp(id);
}

async function reconcileEnvironment(deps: ReconcileDeps, row: EnvironmentRow): Promise<void> {
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
  const mended = await deps.target.reconcile(place, await desiredState(deps, row));
  for (const text of mended) {
    await appendEvent(
      deps.store.db,
      { ...place, subject: `environment:${row.name}`, actor: "shipway" },
      { kind: "environment.mended", data: { text } },
    );
  }
}

async function desiredState(deps: ReconcileDeps, row: EnvironmentRow): Promise<DesiredState> {
  const place = { app: row.app, environment: row.name };
  if (row.live_release === null) return { inProgress: [] };
  const { release, environmentSpec } = resolveRelease(
    await getRelease(deps.store.db, row.app, row.live_release),
    row.name,
  );
  const backing = await backingOf({ ...deps, db: deps.store.db }, place, environmentSpec);
  await deps.target.ensureBacking(place, backing.own, () => undefined);
  const variables = await liveVariables(
    deps,
    { ...place, release: row.live_release },
    deps.target.backingVariables(place, backing.all),
  );
  const standby =
    row.standby_release === null
      ? undefined
      : resolveRelease(await getRelease(deps.store.db, row.app, row.standby_release), row.name).release;
  return { live: { release, variables }, ...(standby && { standby }), inProgress: [] };
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
