import { type Selectable, sql } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail, type Problem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { InfraSpec } from "../spec/app-spec.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { InfraEnvironmentsTable, InfraRunsTable } from "../store/schema.ts";
import {
  type InfraRunKind,
  type InfraRunStatus,
  isApplying,
  type PlanSummary,
  type StateIn,
  type Takeover,
} from "./infra-run.ts";
import { newEnvironment } from "./states.ts";

export type InfraRun = Selectable<InfraRunsTable>;
export type InfraEnvironment = Selectable<InfraEnvironmentsTable>;

export type RunRequest = Place & {
  kind: InfraRunKind;
  commit: string;
  refName: string;
  actor: string;
  /** The delivery it belongs to; undefined for a run asked for by hand, which is its own. */
  deliveryId?: string;
  spec: InfraSpec;
  inputs: string;
  imports?: { address: string; id: string }[];
  takeover?: Takeover;
  /** Why what is protected is to be destroyed, too. */
  overrule?: string | undefined;
};

/** A run to hand to the workflow engine, after the commit; recovery does so too. */
export type StartedRun = { id: string; workflow: "infra" | "infra-apply" };

/**
 * Records a run. One apply holds an environment at a time, the others wait in their order; plans and drift checks take no lock and start at once.
 * Repeating a request of the same delivery returns the run that is there.
 * @throws INFRA_BLOCKED for what applies where the outcome of an earlier one is unknown
 */
export async function requestRun(tx: Tx, request: RunRequest): Promise<{ id: string; start: StartedRun | undefined }> {
  const environment = await lockEnvironment(tx, request);
  const existing = request.deliveryId === undefined ? undefined : await findRequested(tx, request, request.deliveryId);
  if (existing !== undefined) return { id: existing, start: undefined };
  if (isApplying(request.kind) && environment.blocked_by !== null && !recovers(request)) {
    throw blocked(request, environment.blocked_by);
  }
  const id = newId("i");
  const waits = isApplying(request.kind);
  await tx
    .insertInto("infra_runs")
    .values({
      id,
      app: request.app,
      environment: request.environment,
      kind: request.kind,
      status: waits ? "queued" : "running",
      commit: request.commit,
      ref_name: request.refName,
      actor: request.actor,
      delivery_id: request.deliveryId ?? id,
      spec: JSON.stringify(request.spec),
      inputs: request.inputs,
      imports: JSON.stringify(request.imports ?? []),
      takeover: JSON.stringify(request.takeover ?? null),
      overrule: request.overrule ?? null,
      plan: "null",
      plan_file: null,
      plan_sha256: null,
      planned_at: null,
      state_version: null,
      state_in: "null",
      credential: null,
      approved_by: null,
      apply_started_at: null,
      cancel_requested_at: null,
      cancel_requested_by: null,
      interrupted_at: null,
      force_requested_at: null,
      force_requested_by: null,
      problem: "null",
      timings: "{}",
      started_at: waits ? null : new Date(),
      ended_at: null,
    })
    .execute();
  const run = await getRun(tx, id);
  if (!waits) await announceStart(tx, run);
  else if (environment.running_run !== null)
    await appendEvent(tx, frameOf(run), {
      kind: "infra.queued",
      data: { runId: id, waitsFor: environment.running_run },
    });
  return { id, start: waits ? await startNextRun(tx, request) : { id, workflow: "infra" } };
}

/** It takes over what a run that was cut off has made: it alone runs while the environment is blocked, or others would make that a second time. */
export const recovers = ({ imports }: { imports?: readonly unknown[] }): boolean => (imports?.length ?? 0) > 0;

async function findRequested(tx: Tx, request: RunRequest, deliveryId: string): Promise<string | undefined> {
  const row = await tx
    .selectFrom("infra_runs")
    .select("id")
    .where("delivery_id", "=", deliveryId)
    .where("app", "=", request.app)
    .where("environment", "=", request.environment)
    .where("kind", "=", request.kind)
    .executeTakeFirst();
  return row?.id;
}

export function blocked(place: Place, runId: string) {
  return fail("INFRA_BLOCKED", {
    message: `The infrastructure of ${place.app} ${place.environment} is blocked: run ${runId} was cut off while it changed things, and what exists may differ from what the state says.`,
    hint: `See what is missing and go on from there: \`shipway infra recover --app ${place.app} --env ${place.environment}\`.`,
  });
}

export async function lockEnvironment(tx: Tx, place: Place): Promise<InfraEnvironment> {
  await tx
    .insertInto("infra_environments")
    .values(newEnvironment(place))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return tx
    .selectFrom("infra_environments")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .forUpdate()
    .executeTakeFirstOrThrow();
}

/**
 * Takes the environments' turns ahead of several `requestRun` in one transaction. An event holds the stream until the commit, so a transaction that has written one
 * must not wait for an environment: whoever has that may be waiting to write.
 */
export async function lockEnvironments(tx: Tx, places: readonly Place[]): Promise<void> {
  const inOrder = [...places].sort((left, right) => (left.environment < right.environment ? -1 : 1));
  for (const place of inOrder) await lockEnvironment(tx, place);
}

/** Gives an idle environment its next run. */
export async function startNextRun(tx: Tx, place: Place): Promise<StartedRun | undefined> {
  const { running_run: running, blocked_by: blockedBy } = await lockEnvironment(tx, place);
  if (running !== null) return undefined;
  const queued = tx
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("status", "=", "queued")
    .orderBy("created_at");
  const next = (await queued.execute()).find((run) => blockedBy === null || recovers(run));
  if (!next) return undefined;
  await tx
    .updateTable("infra_runs")
    .set({ status: "running", started_at: new Date() })
    .where("id", "=", next.id)
    .execute();
  await updateEnvironment(tx, place, { running_run: next.id });
  if (next.approved_by === null) await announceStart(tx, next);
  return { id: next.id, workflow: next.approved_by === null ? "infra" : "infra-apply" };
}

const updateEnvironment = (
  tx: Tx,
  place: Place,
  set: Partial<
    Pick<
      InfraEnvironment,
      "running_run" | "blocked_by" | "applied_run" | "applied_commit" | "applied_inputs" | "outputs"
    >
  > & {
    applied_spec?: string;
  },
) =>
  tx
    .updateTable("infra_environments")
    .set(set)
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .execute();

const announceStart = (tx: Tx, run: InfraRun) =>
  appendEvent(tx, frameOf(run), {
    kind: "infra.started",
    data: {
      runId: run.id,
      kind: run.kind,
      commit: run.commit,
      refName: run.ref_name,
      ...(run.spec.repository !== undefined && { repository: run.spec.repository }),
      ...(run.overrule !== null && { overrule: run.overrule }),
      ...markOf(run),
    },
  });

export const frameOf = (run: Pick<InfraRun, "id" | "app" | "environment" | "delivery_id" | "actor">) => ({
  app: run.app,
  environment: run.environment,
  subject: `infra:${run.id}`,
  deliveryId: run.delivery_id,
  actor: run.actor,
});

/** @throws INFRA_RUN_NOT_FOUND */
export async function getRun(db: Database | Tx, id: string): Promise<InfraRun> {
  const row = await db.selectFrom("infra_runs").selectAll().where("id", "=", id).executeTakeFirst();
  if (row) return row;
  throw fail("INFRA_RUN_NOT_FOUND", {
    message: `There is no infra run ${id}.`,
    hint: "List them with `shipway infra runs`.",
  });
}

export async function listRuns(
  db: Database,
  app: string,
  { environment, limit }: { environment?: string | undefined; limit: number },
): Promise<InfraRun[]> {
  let query = db.selectFrom("infra_runs").selectAll().where("app", "=", app).orderBy("created_at", "desc").limit(limit);
  if (environment !== undefined) query = query.where("environment", "=", environment);
  return query.execute();
}

/** The newest apply that came as far as to know where its state lies. */
export async function findLastApply(db: Database, place: Place): Promise<InfraRun | undefined> {
  return db
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("kind", "=", "apply")
    .where(sql<boolean>`state_in ->> 'type' is not null`)
    .orderBy("created_at", "desc")
    .executeTakeFirst();
}

/** What the other environments have applied. */
export async function appliedElsewhere(db: Database, { app, environment }: Place): Promise<InfraRun[]> {
  return db
    .selectFrom("infra_runs")
    .innerJoin("infra_environments", "infra_environments.applied_run", "infra_runs.id")
    .selectAll("infra_runs")
    .where((where) =>
      where.or([where("infra_runs.app", "!=", app), where("infra_runs.environment", "!=", environment)]),
    )
    .execute();
}

export async function findInfra(db: Database, place: Place): Promise<InfraEnvironment | undefined> {
  return db
    .selectFrom("infra_environments")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .executeTakeFirst();
}

/** Runs whose files only a recovery needs; none of them does where nothing is blocked. */
export async function recoveredRuns(db: Database, place: Place): Promise<string[]> {
  if (((await findInfra(db, place))?.blocked_by ?? null) !== null) return [];
  const rows = await db
    .selectFrom("infra_runs")
    .select("id")
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("status", "=", "unknown")
    .execute();
  return rows.map(({ id }) => id);
}

/** Runs the engine must know of: after a crash between recording and starting one, nobody else would start it. */
export async function openRuns(db: Database): Promise<StartedRun[]> {
  const rows = await db
    .selectFrom("infra_runs")
    .select(["id", "approved_by"])
    .where("status", "=", "running")
    .execute();
  return rows.map(({ id, approved_by }) => ({ id, workflow: approved_by === null ? "infra" : "infra-apply" }));
}

export async function recordPlan(
  db: Database,
  run: InfraRun,
  plan: { summary: PlanSummary; file: Buffer; sha256: string; stateVersion: number },
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const updated = await tx
      .updateTable("infra_runs")
      .set({
        plan: JSON.stringify(plan.summary),
        plan_file: plan.file,
        plan_sha256: plan.sha256,
        state_version: plan.stateVersion,
        planned_at: new Date(),
      })
      .where("id", "=", run.id)
      .where("status", "=", "running")
      .executeTakeFirst();
    if (updated.numUpdatedRows === 0n) return;
    const { changes, outputs } = plan.summary;
    await appendEvent(tx, frameOf(run), {
      kind: "infra.planned",
      data: { runId: run.id, changes, outputs, ...markOf(run) },
    });
  });
}

export async function keepStateIn(db: Database, run: InfraRun, stateIn: StateIn): Promise<void> {
  if (JSON.stringify(run.state_in) === JSON.stringify(stateIn)) return;
  await db
    .updateTable("infra_runs")
    .set({ state_in: JSON.stringify(stateIn) })
    .where("id", "=", run.id)
    .execute();
}

export async function keepTimings(db: Database, id: string, timings: Record<string, number>): Promise<void> {
  const { timings: known } = await getRun(db, id);
  await db
    .updateTable("infra_runs")
    .set({ timings: JSON.stringify({ ...known, ...timings }) })
    .where("id", "=", id)
    .execute();
}

/** The journal of an apply. True for the caller that may start it: it is said once, and not of a run that somebody has canceled. */
export async function journalApply(db: Database, id: string): Promise<boolean> {
  return db.transaction().execute(async (tx) => {
    const run = await lockRun(tx, id);
    const updated = await tx
      .updateTable("infra_runs")
      .set({ apply_started_at: new Date() })
      .where("id", "=", id)
      .where("apply_started_at", "is", null)
      .where("cancel_requested_at", "is", null)
      .executeTakeFirst();
    if (updated.numUpdatedRows === 0n) return false;
    // From here on less may exist than was applied, whatever comes of it: the next deployment applies again.
    if (run.kind === "destroy") await updateEnvironment(tx, run, { applied_inputs: null });
    return true;
  });
}

export const releaseEnvironment = (tx: Tx, run: InfraRun) =>
  tx
    .updateTable("infra_environments")
    .set({ running_run: null })
    .where("app", "=", run.app)
    .where("environment", "=", run.environment)
    .where("running_run", "=", run.id)
    .execute();

/** The run as it is while its environment's row is held: nothing starts or ends it meanwhile. @throws INFRA_RUN_NOT_FOUND */
export async function lockRun(tx: Tx, id: string): Promise<InfraRun> {
  await lockEnvironment(tx, await getRun(tx, id));
  return getRun(tx, id);
}

/** The command that asks for such a run anew. */
export function commandFor({ app, environment, kind }: Pick<InfraRun, "app" | "environment" | "kind">): string {
  const command = kind === "drift" ? "infra drift --now" : `infra ${kind}`;
  return `shipway ${command} --app ${app} --env ${environment}`;
}

/** Of a run that was stopped before it changed anything. */
export function canceledUnchanged(run: InfraRun, by: string) {
  const { id } = run;
  return fail("INFRA_CANCELED", {
    message: `Run ${id} was stopped, as ${by} asked, before it changed anything.`,
    hint: `Start another when it suits: \`${commandFor(run)}\`.`,
  });
}

export async function closeRun(
  tx: Tx,
  run: InfraRun,
  status: InfraRunStatus,
  problem: Problem | undefined,
): Promise<boolean> {
  const endedAt = new Date();
  const updated = await tx
    .updateTable("infra_runs")
    .set({
      status,
      credential: null,
      ended_at: endedAt,
      problem: JSON.stringify(problem ?? null),
      // A plan that was applied, or never will be, is only a copy of secrets.
      plan_file: null,
    })
    .where("id", "=", run.id)
    .where("ended_at", "is", null)
    .executeTakeFirst();
  if (updated.numUpdatedRows === 0n) return false;
  await appendEvent(tx, frameOf(run), {
    kind: "infra.ended",
    data: {
      runId: run.id,
      kind: run.kind,
      status,
      durationMs: endedAt.getTime() - (run.started_at ?? run.created_at).getTime(),
      changes: countOf(run),
      ...markOf(run),
      ...(problem && { problem }),
    },
  });
  return true;
}

const markOf = ({ takeover }: InfraRun) => (takeover === null ? {} : { takeover: true as const });

const countOf = (run: InfraRun): number => run.plan?.changes.length ?? 0;

export type RunResult =
  | { status: "succeeded"; outputs?: Buffer }
  | { status: "failed"; problem: Problem }
  /** A look that something newer overtook: what it found says nothing any more. */
  | { status: "superseded"; problem: Problem }
  /** Somebody stopped it, and it ended as it should. */
  | { status: "canceled"; problem: Problem }
  | { status: "unknown"; problem: Problem };

/** Ends a run, once. An apply that succeeded is what the environment has from now on; one of unknown outcome blocks it. Returns the run to start next. */
export async function endRun(db: Database, id: string, result: RunResult): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    const seen = await getRun(tx, id);
    await lockEnvironment(tx, seen);
    const run = await getRun(tx, id);
    const closed = await closeRun(tx, run, result.status, "problem" in result ? result.problem : undefined);
    if (closed && isApplying(run.kind)) {
      if (result.status === "unknown") await updateEnvironment(tx, run, { blocked_by: run.id });
      if (result.status === "succeeded")
        await (run.kind === "destroy" ? becomeDestroyed(tx, run) : becomeApplied(tx, run, result.outputs));
      if (result.status === "succeeded" && run.takeover !== null) await requestRun(tx, lookAfter(run));
    }
    await releaseEnvironment(tx, run);
    return startNextRun(tx, run);
  });
}

/** Once the state says what exists, what the code says otherwise is no drift any more: somebody has to be told in another way. */
const lookAfter = (run: InfraRun): RunRequest => ({
  app: run.app,
  environment: run.environment,
  kind: "drift",
  commit: run.commit,
  refName: run.ref_name,
  actor: run.actor,
  deliveryId: run.delivery_id,
  spec: run.spec,
  inputs: run.inputs,
});

/** The check that belongs to a takeover and was not started by it. */
export async function findLookAfter(db: Database, id: string): Promise<StartedRun | undefined> {
  const { takeover, delivery_id: deliveryId } = await getRun(db, id);
  if (takeover === null) return undefined;
  const row = await db
    .selectFrom("infra_runs")
    .select("id")
    .where("delivery_id", "=", deliveryId)
    .where("kind", "=", "drift")
    .where("status", "=", "running")
    .executeTakeFirst();
  return row && { id: row.id, workflow: "infra" };
}

async function becomeApplied(tx: Tx, run: InfraRun, outputs: Buffer | undefined): Promise<void> {
  const { blocked_by: blockedBy } = await lockEnvironment(tx, run);
  if (blockedBy !== null) await unblock(tx, run, blockedBy, "what the state lacked was imported", run.actor);
  await updateEnvironment(tx, run, {
    applied_run: run.id,
    applied_commit: run.commit,
    applied_inputs: run.inputs,
    applied_spec: JSON.stringify(run.spec),
    ...(outputs && { outputs }),
  });
  await supersedeWaiting(tx, run);
}

/** Nothing is applied there any more, so there is nothing that could drift, and whoever needs it makes it anew. */
async function becomeDestroyed(tx: Tx, run: InfraRun): Promise<void> {
  await tx
    .updateTable("infra_environments")
    .set(NOTHING_APPLIED)
    .where("app", "=", run.app)
    .where("environment", "=", run.environment)
    .execute();
  await supersedeWaiting(tx, run);
}

export const NOTHING_APPLIED = {
  applied_run: null,
  applied_commit: null,
  applied_inputs: null,
  applied_spec: "null",
  outputs: null,
  drift: "null",
  drift_at: null,
  drift_due: false,
};

/** Plans that wait were made from what was there before. */
async function supersedeWaiting(tx: Tx, { app, environment }: Place): Promise<void> {
  const stale = await tx
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "=", "waiting")
    .execute();
  for (const one of stale) await closeRun(tx, one, "superseded", undefined);
}

/** Ends the block, on the record. The caller has dealt with what the state lacks, and starts what waits (`startNextRun`). */
export async function unblock(tx: Tx, place: Place, runId: string, how: string, actor: string): Promise<void> {
  await lockEnvironment(tx, place);
  const updated = await tx
    .updateTable("infra_environments")
    .set({ blocked_by: null })
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("blocked_by", "=", runId)
    .executeTakeFirst();
  if (updated.numUpdatedRows === 0n) return;
  await appendEvent(
    tx,
    { app: place.app, environment: place.environment, subject: `infra:${runId}`, actor },
    { kind: "infra.recovered", data: { runId, how } },
  );
}
