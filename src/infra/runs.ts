import { createHash, randomBytes } from "node:crypto";
import { type Selectable, sql } from "kysely";
import type { Identity } from "../access/roles.ts";
import { namesWithRole } from "../access/tokens.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail, type Problem, toProblem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { InfraSpec } from "../spec/app-spec.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { InfraEnvironmentsTable, InfraRunsTable } from "../store/schema.ts";
import type {
  DriftedResource,
  DriftReport,
  InfraRunKind,
  InfraRunStatus,
  PlanSummary,
  StateIn,
  Takeover,
} from "./infra-run.ts";
import { newDrift } from "./read-drift.ts";
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
};

/** A run to hand to the workflow engine, after the commit; recovery does so too. */
export type StartedRun = { id: string; workflow: "infra" | "infra-apply" };

/** Plans older than this are made anew: what they were made from may have changed by hand, and Terraform does not look again. */
export const PLAN_GOOD_FOR_MS = 24 * 3_600_000;

/**
 * Records a run. One apply holds an environment at a time, the others wait in their order; plans and drift checks take no lock and start at once.
 * Repeating a request of the same delivery returns the run that is there.
 * @throws INFRA_BLOCKED for an apply where the outcome of an earlier one is unknown
 */
export async function requestRun(tx: Tx, request: RunRequest): Promise<{ id: string; start: StartedRun | undefined }> {
  const environment = await lockEnvironment(tx, request);
  const existing = request.deliveryId === undefined ? undefined : await findRequested(tx, request, request.deliveryId);
  if (existing !== undefined) return { id: existing, start: undefined };
  if (request.kind === "apply" && environment.blocked_by !== null && !recovers(request)) {
    throw blocked(request, environment.blocked_by);
  }
  const id = newId("i");
  const waits = request.kind === "apply";
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
const recovers = ({ imports }: { imports?: readonly unknown[] }): boolean => (imports?.length ?? 0) > 0;

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

function blocked(place: Place, runId: string) {
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

// --- the state's credential

/** A password for this run's state, good until the run ends. Only its hash is kept; a step that runs again makes a new one. */
export async function newRunCredential(db: Database, id: string): Promise<string> {
  const password = randomBytes(24).toString("base64url");
  await db
    .updateTable("infra_runs")
    .set({ credential: hashOf(password) })
    .where("id", "=", id)
    .execute();
  return password;
}

export async function findRunByCredential(db: Database, id: string, password: string): Promise<InfraRun | undefined> {
  return db
    .selectFrom("infra_runs")
    .selectAll()
    .where("id", "=", id)
    .where("credential", "=", hashOf(password))
    .where("status", "=", "running")
    .executeTakeFirst();
}

/** Recognisable in a leak scan, and by the mask. */
const RUN_TOKEN = /^shr_(i_[a-z0-9]+)\.([\w-]+)$/;

/** What the run's own Terraform shows our API: its password again, as a bearer token. */
export const runToken = (id: string, password: string): string => `shr_${id}.${password}`;

/**
 * Who asks with a run's token; undefined when it is none, or its run is not at work any more. An apply may do in its app what an operator may, once it has
 * begun: code runs while it plans, too (`data "external"`), and nobody has approved that. Until then, as a plan or a drift check, it may read what a
 * developer may, and change nothing.
 */
export async function findRunIdentity(db: Database, token: string): Promise<Identity | undefined> {
  const [, id, password] = RUN_TOKEN.exec(token) ?? [];
  const run = id && password ? await findRunByCredential(db, id, password) : undefined;
  if (run === undefined) return undefined;
  const mayWrite = run.kind === "apply" && run.apply_started_at !== null;
  return {
    tokenId: run.id,
    name: `infra run ${run.id}`,
    role: mayWrite ? "operator" : "developer",
    app: run.app,
    run: { mayWrite },
  };
}

const hashOf = (password: string): Buffer => createHash("sha256").update(password).digest();

// --- what happens to a run

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
  const updated = await db
    .updateTable("infra_runs")
    .set({ apply_started_at: new Date() })
    .where("id", "=", id)
    .where("apply_started_at", "is", null)
    .where("cancel_requested_at", "is", null)
    .executeTakeFirst();
  return updated.numUpdatedRows > 0n;
}

/** The run stands at its gate: it gives the environment free and waits for `approveRun`. Returns the run to start instead. */
export async function waitForApproval(db: Database, run: InfraRun, reasons: string[]): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    await lockEnvironment(tx, run);
    const { cancel_requested_by: canceledBy, approved_by: approvedBy } = await getRun(tx, run.id);
    // Repeated after a crash: it waited, somebody let it go on, and it is at work.
    if (approvedBy !== null) return undefined;
    if (canceledBy !== null) {
      await closeRun(tx, run, "canceled", toProblem(canceledUnchanged(run, canceledBy)));
      await releaseEnvironment(tx, run);
      return startNextRun(tx, run);
    }
    const updated = await tx
      .updateTable("infra_runs")
      .set({ status: "waiting", credential: null })
      .where("id", "=", run.id)
      .where("status", "=", "running")
      .executeTakeFirst();
    if (updated.numUpdatedRows > 0n) {
      await releaseEnvironment(tx, run);
      await appendEvent(tx, frameOf(run), { kind: "infra.waiting", data: { runId: run.id, reasons } });
    }
    return startNextRun(tx, run);
  });
}

const releaseEnvironment = (tx: Tx, run: InfraRun) =>
  tx
    .updateTable("infra_environments")
    .set({ running_run: null })
    .where("app", "=", run.app)
    .where("environment", "=", run.environment)
    .where("running_run", "=", run.id)
    .execute();

/**
 * Lets a waiting run go on.
 * @throws INFRA_APPROVAL_REFUSED when it does not wait, or when its environment wants somebody else's approval; INFRA_BLOCKED; INFRA_PLAN_STALE
 */
export async function approveRun(db: Database, id: string, actor: string): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    const seen = await getRun(tx, id);
    const environment = await lockEnvironment(tx, seen);
    const run = await getRun(tx, id);
    if (run.status !== "waiting") {
      throw fail("INFRA_APPROVAL_REFUSED", {
        message: `Run ${id} does not wait for an approval: it is ${run.status}.`,
        hint: "Plan anew with `shipway infra apply`.",
      });
    }
    await refuseOwnApproval(tx, run, actor);
    if (environment.blocked_by !== null && !recovers(run)) throw blocked(run, environment.blocked_by);
    if (run.planned_at !== null && Date.now() - run.planned_at.getTime() > PLAN_GOOD_FOR_MS) {
      throw fail("INFRA_PLAN_STALE", {
        message: `The plan of run ${id} is older than a day; what exists may differ from it by now.`,
        hint: `Plan anew: \`shipway infra apply --app ${run.app} --env ${run.environment}\`.`,
      });
    }
    await tx.updateTable("infra_runs").set({ status: "queued", approved_by: actor }).where("id", "=", id).execute();
    await appendEvent(tx, { ...frameOf(run), actor }, { kind: "infra.approved", data: { runId: id, by: actor } });
    return startNextRun(tx, run);
  });
}

/**
 * A person is the name of a token. Whoever asked for the run, or pushed or deployed its commit, is its author. Where no rule is written, one who is
 * alone with the right to approve may do so: nobody else could, and a team of one must not be locked out.
 */
async function refuseOwnApproval(tx: Tx, run: InfraRun, actor: string): Promise<void> {
  const { approvers } = run.spec;
  if (approvers === "anyone") return;
  const authors = await authorsOf(tx, run);
  if (!authors.has(actor)) return;
  const others = (await namesWithRole(tx, "tester", run.app)).filter((name) => !authors.has(name));
  if (approvers === undefined && others.length === 0) return;
  throw fail("INFRA_APPROVAL_REFUSED", {
    message: `${actor} asked for run ${run.id} or pushed its commit; ${run.environment} wants the approval of somebody else${others.length === 0 ? ", and nobody else has the role for it" : ` (such as ${others.slice(0, 3).join(", ")})`}.`,
    hint: "Ask a colleague, or set `approvers: anyone` for the environment in shipway.yml.",
  });
}

async function authorsOf(tx: Tx, run: InfraRun): Promise<Set<string>> {
  // What is taken over was written by nobody's commit.
  if (run.takeover !== null) return new Set([run.actor]);
  const pushed = await tx
    .selectFrom("changes")
    .select("actor")
    .distinct()
    .where("app", "=", run.app)
    .where("commit", "=", run.commit)
    .execute();
  // Who pushed to a connected repository is known to its host alone.
  const pushedApart = await tx
    .selectFrom("infra_pushes")
    .select("actor")
    .where("repository", "=", run.spec.repository ?? "")
    .where("commit", "=", run.commit)
    .execute();
  return new Set([run.actor, ...[...pushed, ...pushedApart].map((change) => change.actor)]);
}

/** The run as it is while its environment's row is held: nothing starts or ends it meanwhile. @throws INFRA_RUN_NOT_FOUND */
export async function lockRun(tx: Tx, id: string): Promise<InfraRun> {
  await lockEnvironment(tx, await getRun(tx, id));
  return getRun(tx, id);
}

/** Of a run that was stopped before it changed anything. */
export function canceledUnchanged({ id, app, environment, kind }: InfraRun, by: string) {
  const again = kind === "drift" ? "infra drift --now" : `infra ${kind}`;
  return fail("INFRA_CANCELED", {
    message: `Run ${id} was stopped, as ${by} asked, before it changed anything.`,
    hint: `Start another when it suits: \`shipway ${again} --app ${app} --env ${environment}\`.`,
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
    if (closed && run.kind === "apply") {
      if (result.status === "unknown") await updateEnvironment(tx, run, { blocked_by: run.id });
      if (result.status === "succeeded") await becomeApplied(tx, run, result.outputs);
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
  const stale = await tx
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", run.app)
    .where("environment", "=", run.environment)
    .where("status", "=", "waiting")
    .execute();
  for (const one of stale) await closeRun(tx, one, "superseded", undefined);
}

// --- drift

/** Keeps what a check found, and tells what is new. */
export async function recordDrift(db: Database, run: InfraRun, resources: DriftedResource[]): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const environment = await lockEnvironment(tx, run);
    const report: DriftReport = { commit: run.commit, runId: run.id, resources };
    await tx
      .updateTable("infra_environments")
      .set({ drift: JSON.stringify(report), drift_at: new Date() })
      .where("app", "=", run.app)
      .where("environment", "=", run.environment)
      .execute();
    const found = newDrift(environment.drift?.resources ?? [], resources);
    if (found.length > 0)
      await appendEvent(tx, frameOf(run), { kind: "infra.driftFound", data: { runId: run.id, resources: found } });
    const before = (environment.drift?.resources ?? []).some(({ kind }) => kind === "reverting");
    const now = resources.some(({ kind }) => kind === "reverting");
    if (before && !now) await appendEvent(tx, frameOf(run), { kind: "infra.driftGone", data: { runId: run.id } });
    const differs = resources.filter(({ kind }) => kind === "undeployed");
    // Of a check that follows a takeover: what was drift is now code that says something else.
    if (run.delivery_id !== run.id && differs.length > 0)
      await appendEvent(tx, frameOf(run), { kind: "infra.codeDiffers", data: { runId: run.id, resources: differs } });
  });
}

/** Environments whose check is due, those first in which a change was seen, then the longest unchecked; none while one is being applied. One that is blocked is looked at, too: that is when somebody needs to know. */
export async function dueForDrift(db: Database, now: number): Promise<InfraEnvironment[]> {
  const rows = await db
    .selectFrom("infra_environments")
    .selectAll()
    .where("applied_commit", "is not", null)
    .where("running_run", "is", null)
    .orderBy("drift_due", "desc")
    .orderBy("drift_at", (order) => order.asc().nullsFirst())
    .execute();
  return rows.filter(({ applied_spec: spec, drift_at: at, drift_due: due }) => {
    if (spec === null || spec.drift === "off") return false;
    return due || at === null || now - at.getTime() >= spec.drift;
  });
}

export async function isCheckingDrift(db: Database): Promise<boolean> {
  const row = await db
    .selectFrom("infra_runs")
    .select("id")
    .where("kind", "=", "drift")
    .where("status", "=", "running")
    .executeTakeFirst();
  return row !== undefined;
}

/** Drift checks that ended before then and whose report is not the one that is shown; an environment has one an hour. */
export async function oldChecks(db: Database, before: Date, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom("infra_runs as r")
    .leftJoin("infra_environments as e", (join) =>
      join.onRef("e.app", "=", "r.app").onRef("e.environment", "=", "r.environment"),
    )
    .select("r.id")
    .where("r.kind", "=", "drift")
    .where("r.ended_at", "<", before)
    .where(sql<boolean>`e.drift ->> 'runId' is distinct from r.id`)
    .orderBy("r.ended_at")
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}

export async function forgetChecks(db: Database, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await db.deleteFrom("infra_runs").where("id", "in", ids).where("kind", "=", "drift").execute();
}

/** Something was seen to have changed there: the next check of these environments of an app does not wait for its turn. */
export async function makeDriftDue(tx: Tx, places: readonly Place[]): Promise<void> {
  const inOrder = [...places].sort((left, right) => (left.environment < right.environment ? -1 : 1));
  for (const { app, environment } of inOrder)
    await tx
      .updateTable("infra_environments")
      .set({ drift_due: true })
      .where("app", "=", app)
      .where("environment", "=", environment)
      .execute();
}

/** A check that could not be made counts as one: it is tried again at its next turn, not at once. */
export async function skipDriftCheck(db: Database, place: Place): Promise<void> {
  await db
    .updateTable("infra_environments")
    .set({ drift_at: new Date(), drift_due: false })
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .execute();
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
