import type { Selectable } from "kysely";
import { getEnvironment } from "../environment/environments.ts";
import { appendEvent } from "../events/event-stream.ts";
import { PLAN_GOOD_FOR_MS } from "../infra/approve-run.ts";
import { requireNothingApplied } from "../infra/leave-environment.ts";
import {
  blocked,
  closeRun,
  findInfra,
  getRun,
  lockRun,
  type RunRequest,
  requestRun,
  type StartedRun,
} from "../infra/runs.ts";
import type { Place } from "../rollout/release.ts";
import type { KeptData } from "../rollout/target.ts";
import { fail, type Problem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { TeardownStatus, TeardownsTable } from "../store/schema.ts";
import { startNext } from "./deployments.ts";
import { requireIdle, requireNoBacking } from "./require-idle.ts";

/** The end of an environment, or only of what runs in it. */
export type Teardown = Selectable<TeardownsTable>;

export type TeardownRequest = Place & {
  /** `stopped`: nothing runs, all that is kept can be started again. `removed`: the environment is gone. */
  until: "stopped" | "removed";
  /** What becomes of what its Terraform has made. */
  infra: "keep" | "destroy";
  data: KeptData;
  /** Why what the environment's `infra` protects is destroyed, too. */
  overrule?: string | undefined;
  actor: string;
};

/** A teardown to hand to the workflow engine, after the commit; recovery does so too. */
export type StartedTeardown = { id: string; workflow: "teardown" | "teardown-rest" };

/**
 * Records that what runs there is to end. From here on nothing is desired there, and deployments wait until all of it is gone. One goes on at a time: the same
 * wish finds the one that does, and a new one takes the place of one that waits for an approval which is not good any more.
 * @throws ENVIRONMENT_NOT_FOUND, ENVIRONMENT_BUSY
 */
export async function requestTeardown(
  db: Database,
  request: TeardownRequest,
): Promise<{ teardown: Teardown; start: StartedTeardown | undefined }> {
  await getEnvironment(db, request);
  return db.transaction().execute(async (tx) => {
    const open = await findOpen(tx, request);
    if (open !== undefined && (await goesOn(tx, open, request))) return { teardown: open, start: undefined };
    await requireIdle(tx, request);
    await requireEndable(tx, request);
    if (open !== undefined) await overtake(tx, open, request.actor);
    const teardown = await insert(tx, request);
    await holdAndStop(tx, teardown);
    const { id, until, infra, data } = teardown;
    await appendEvent(tx, frameOf(teardown), {
      kind: "teardown.started",
      data: { teardownId: id, until, infra, data },
    });
    return { teardown, start: { id, workflow: "teardown" } };
  });
}

/** Looked at before anything is stopped: what would stand in the way at the end. @throws ENVIRONMENT_BUSY, INFRA_BLOCKED */
async function requireEndable(tx: Tx, request: TeardownRequest): Promise<void> {
  const { until, infra } = request;
  if (until === "removed") await requireNoBacking(tx, request, infra === "destroy");
  if (until === "removed" && infra === "keep") return requireNothingApplied(tx, request);
  const blockedBy = infra === "destroy" ? ((await findInfra(tx, request))?.blocked_by ?? null) : null;
  if (blockedBy !== null) throw blocked(request, blockedBy);
}

const insert = (tx: Tx, { app, environment, until, infra, data, overrule = undefined, actor }: TeardownRequest) =>
  tx
    .insertInto("teardowns")
    .values({
      id: newId("t"),
      app,
      environment,
      until,
      infra,
      data,
      overrule: overrule ?? null,
      actor,
      status: "running",
      infra_run: null,
      problem: "null",
      ended_at: null,
    })
    .returningAll()
    .executeTakeFirstOrThrow();

async function findOpen(tx: Tx, { app, environment }: Place): Promise<Teardown | undefined> {
  return tx
    .selectFrom("teardowns")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("ended_at", "is", null)
    .executeTakeFirst();
}

/** Whether the open one does what is asked for. @throws ENVIRONMENT_BUSY when it is at work on something else */
async function goesOn(tx: Tx, open: Teardown, request: TeardownRequest): Promise<boolean> {
  const same = (["until", "infra", "data"] as const).every((what) => open[what] === request[what]);
  if (open.status !== "waiting") {
    if (same) return true;
    throw fail("ENVIRONMENT_BUSY", {
      message: `${request.environment} of ${request.app} is being ${open.until} already: ${open.actor} asked for it (${open.id}).`,
      hint: "Wait for its end, then try again.",
    });
  }
  const run = open.infra_run === null ? undefined : await getRun(tx, open.infra_run);
  if (run === undefined || run.status !== "waiting") return same;
  const isFresh = run.planned_at !== null && Date.now() - run.planned_at.getTime() < PLAN_GOOD_FOR_MS;
  return same && isFresh && (request.overrule === undefined || request.overrule === open.overrule);
}

/** @throws ENVIRONMENT_BUSY when its infra run is at work */
async function overtake(tx: Tx, open: Teardown, actor: string): Promise<void> {
  const run = open.infra_run === null ? undefined : await lockRun(tx, open.infra_run);
  if (run !== undefined && run.status !== "waiting" && run.ended_at === null) {
    throw fail("ENVIRONMENT_BUSY", {
      message: `Infra run ${run.id} is at work for ${open.environment} of ${open.app} (${open.id}).`,
      hint: `Wait for its end: \`shipway infra runs ${run.id}\`.`,
    });
  }
  if (run !== undefined) await closeRun(tx, { ...run, actor }, "superseded", undefined);
  await close(tx, open, { status: "canceled", problem: overtaken(actor), remarks: [] });
}

const overtaken = (actor: string): Problem => ({
  code: "CANCELED",
  message: `${actor} asked for it anew.`,
});

/** Nothing is desired there any more, or the reconcile loop would start again what is being stopped. */
async function holdAndStop(tx: Tx, { id, app, environment, actor }: Teardown): Promise<void> {
  const { live_release: live } = await tx
    .selectFrom("environments")
    .select("live_release")
    .where("app", "=", app)
    .where("name", "=", environment)
    .executeTakeFirstOrThrow();
  await tx
    .updateTable("environments")
    .set({
      teardown: id,
      live_release: null,
      standby_release: null,
      standby_until: null,
      ...(live !== null && { stopped_release: live }),
      stopped_by: actor,
      stopped_at: null,
    })
    .where("app", "=", app)
    .where("name", "=", environment)
    .execute();
}

/** Nothing of the environment is there any more; what waited may begin. Repeating it is a no-op. @returns the deployment to start */
export async function recordStopped(db: Database, teardown: Teardown): Promise<string | undefined> {
  const { id, app, environment } = teardown;
  return db.transaction().execute(async (tx) => {
    const stopped = await tx
      .updateTable("environments")
      .set({ teardown: null, stopped_at: new Date() })
      .where("app", "=", app)
      .where("name", "=", environment)
      .where("teardown", "=", id)
      .returning("stopped_release")
      .executeTakeFirst();
    if (stopped === undefined) return undefined;
    await appendEvent(tx, frameOf(teardown), {
      kind: "environment.stopped",
      data: { teardownId: id, release: stopped.stopped_release, until: teardown.until },
    });
    return startNext(tx, teardown);
  });
}

/** Asks for the run that destroys, and waits for it from here on, in one transaction. */
export async function waitForDestroy(
  db: Database,
  { id }: Teardown,
  request: RunRequest,
  allowed: (tx: Tx) => Promise<void>,
): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    await allowed(tx);
    const { id: runId, start } = await requestRun(tx, { ...request, deliveryId: id });
    await tx.updateTable("teardowns").set({ status: "waiting", infra_run: runId }).where("id", "=", id).execute();
    return start;
  });
}

/** Those whose infra run has ended go on. Repeated after a crash it returns them again, until they have ended. @returns what to hand to the engine */
export async function wakeTeardowns(db: Database): Promise<StartedTeardown[]> {
  const ended = db.selectFrom("infra_runs").select("id").where("ended_at", "is not", null);
  await db
    .updateTable("teardowns")
    .set({ status: "finishing" })
    .where("status", "=", "waiting")
    .where("infra_run", "in", ended)
    .execute();
  const woken = await db.selectFrom("teardowns").select("id").where("status", "=", "finishing").execute();
  return woken.map(({ id }) => ({ id, workflow: "teardown-rest" }));
}

/** Those that the engine must know of. */
export async function openTeardowns(db: Database): Promise<StartedTeardown[]> {
  const rows = await db
    .selectFrom("teardowns")
    .select(["id", "status"])
    .where("ended_at", "is", null)
    .where("status", "!=", "waiting")
    .execute();
  return rows.map(({ id, status }) => ({ id, workflow: status === "finishing" ? "teardown-rest" : "teardown" }));
}

/** @throws NOT_FOUND */
export async function getTeardown(db: Database, id: string): Promise<Teardown> {
  const row = await db.selectFrom("teardowns").selectAll().where("id", "=", id).executeTakeFirst();
  if (row) return row;
  throw fail("NOT_FOUND", {
    message: `There is no teardown ${id}.`,
    hint: "`shipway events` shows what was stopped and removed.",
  });
}

export type TeardownResult = {
  status: Exclude<TeardownStatus, "running" | "waiting" | "finishing">;
  problem?: Problem | undefined;
  remarks: string[];
};

/** Ends it, once, and gives the environment to what waits for it. @returns the deployment to start */
export async function endTeardown(db: Database, id: string, result: TeardownResult): Promise<string | undefined> {
  return db.transaction().execute(async (tx) => {
    const teardown = await tx.selectFrom("teardowns").selectAll().where("id", "=", id).executeTakeFirst();
    // With its app.
    if (teardown === undefined) return undefined;
    const { numUpdatedRows: held } = await tx
      .updateTable("environments")
      .set({ teardown: null })
      .where("app", "=", teardown.app)
      .where("name", "=", teardown.environment)
      .where("teardown", "=", id)
      .executeTakeFirst();
    await close(tx, teardown, result);
    return held > 0n ? startNext(tx, teardown) : undefined;
  });
}

/** In a transaction of others. */
export async function close(tx: Tx, teardown: Teardown, { status, problem, remarks }: TeardownResult): Promise<void> {
  const endedAt = new Date();
  const closed = await tx
    .updateTable("teardowns")
    .set({ status, problem: JSON.stringify(problem ?? null), remarks: JSON.stringify(remarks), ended_at: endedAt })
    .where("id", "=", teardown.id)
    .where("ended_at", "is", null)
    .executeTakeFirst();
  if (closed.numUpdatedRows === 0n) return;
  const { id, until, created_at: createdAt } = teardown;
  const durationMs = endedAt.getTime() - createdAt.getTime();
  await appendEvent(tx, frameOf(teardown), {
    kind: "teardown.ended",
    data: { teardownId: id, until, status, durationMs, remarks, ...(problem && { problem }) },
  });
}

const frameOf = ({ id, app, environment, actor }: Teardown) => ({
  app,
  environment,
  subject: `environment:${environment}`,
  deliveryId: id,
  actor,
});
