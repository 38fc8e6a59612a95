import type { Selectable } from "kysely";
import { getEnvironment } from "../environment/environments.ts";
import type { Sealer } from "../environment/sealing.ts";
import { appendEvent } from "../events/event-stream.ts";
import { type Place, requireService } from "../rollout/release.ts";
import { fail, type Problem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import { quoteCommand } from "../shared/quote-command.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { TaskRunsTable } from "../store/schema.ts";
import { taskRunLogId } from "./log-ids.ts";
import { getRelease } from "./releases.ts";
import { resolveRelease } from "./resolve-release.ts";

/** A command that somebody asked for, in a task of its own. */
export type TaskRun = Selectable<TaskRunsTable>;
export type TaskRunStatus = "running" | "succeeded" | "failed" | "canceled" | "timed-out" | "unknown";

/** Each is a task beside those that serve, of the same size: some machines have no room for many. */
export const RUNS_AT_ONCE = { environment: 5, all: 20 };
export type TaskRunRequest = Place & {
  service: string;
  command: string[];
  /** Undefined: the one that serves now. */
  release?: number | undefined;
  deadlineMs: number;
  actor: string;
};

/**
 * Records that a command is to run; the returned id must be handed to the workflow engine, and recovery does so too. `mask` is applied to what is shown of
 * the command; the command itself is kept sealed until it has ended.
 * @throws ENVIRONMENT_NOT_FOUND, RELEASE_NOT_FOUND, REQUEST_INVALID, RUN_LIMIT
 */
export async function requestTaskRun(
  { db, sealer, mask }: { db: Database; sealer: Sealer; mask: (text: string) => string },
  request: TaskRunRequest,
): Promise<TaskRun> {
  const { app, environment, service, command, deadlineMs, actor } = request;
  const place = { app, environment };
  const { live_release } = await getEnvironment(db, place);
  const number = request.release ?? live_release;
  if (number === null) throw nothingLive(place);
  requireService(resolveRelease(await getRelease(db, app, number), environment).release, service);
  const id = newId("run");
  return db.transaction().execute(async (tx) => {
    await requireRoom(tx, place);
    const run = await tx
      .insertInto("task_runs")
      .values({
        id,
        ...place,
        service,
        release: number,
        command: mask(quoteCommand(command)),
        sealed: sealer.seal(JSON.stringify(command), id),
        status: "running",
        actor,
        deadline_ms: String(deadlineMs),
        begun_at: null,
        exit_code: null,
        problem: "null",
        ended_at: null,
        forgotten_at: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    const { command: shown } = run;
    await appendEvent(tx, frameOf(run), {
      kind: "run.started",
      data: { runId: id, service, release: number, command: shown },
    });
    return run;
  });
}

/** @throws NOT_FOUND */
export async function getTaskRun(db: Database, id: string): Promise<TaskRun> {
  const row = await db.selectFrom("task_runs").selectAll().where("id", "=", id).executeTakeFirst();
  if (row) return row;
  throw fail("NOT_FOUND", { message: `There is no run ${id}.`, hint: "`shipway runs` lists those of an app." });
}

/** Newest first. */
export async function listTaskRuns(
  db: Database,
  app: string,
  { environment, limit }: { environment?: string | undefined; limit: number },
): Promise<TaskRun[]> {
  let query = db.selectFrom("task_runs").selectAll().where("app", "=", app);
  if (environment !== undefined) query = query.where("environment", "=", environment);
  return query.orderBy("created_at", "desc").orderBy("id").limit(limit).execute();
}

/** Those that have not ended, for recovery. */
export async function openTaskRuns(db: Database): Promise<string[]> {
  const rows = await db.selectFrom("task_runs").select("id").where("ended_at", "is", null).execute();
  return rows.map(({ id }) => id);
}

/** Asks a run to end; one that has ended stays as it is. */
export async function cancelTaskRun(db: Database, id: string, actor: string): Promise<TaskRun> {
  return db.transaction().execute(async (tx) => {
    const asked = await tx
      .updateTable("task_runs")
      .set({ canceled_by: actor })
      .where("id", "=", id)
      .where("ended_at", "is", null)
      .where("canceled_by", "is", null)
      .returningAll()
      .executeTakeFirst();
    if (asked === undefined) return getTaskRun(tx, id);
    await appendEvent(
      tx,
      { ...frameOf(asked), actor },
      { kind: "run.cancelRequested", data: { runId: id, by: actor } },
    );
    return asked;
  });
}

/** Noted before the command starts: from here on it may have run. */
export async function markBegun(db: Database, id: string): Promise<void> {
  await db.updateTable("task_runs").set({ begun_at: new Date() }).where("id", "=", id).execute();
}

export type TaskRunResult = {
  status: Exclude<TaskRunStatus, "running">;
  exitCode: number | null;
  outOfMemory: boolean;
  problem: Problem | null;
};

/** Repeating it changes nothing. */
export async function endTaskRun(db: Database, id: string, result: TaskRunResult): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const ended = await tx
      .updateTable("task_runs")
      .set({
        status: result.status,
        exit_code: result.exitCode,
        out_of_memory: result.outOfMemory,
        problem: JSON.stringify(result.problem),
        ended_at: new Date(),
        sealed: null,
      })
      .where("id", "=", id)
      .where("ended_at", "is", null)
      .returningAll()
      .executeTakeFirst();
    if (ended === undefined) return;
    await appendEvent(tx, frameOf(ended), {
      kind: "run.ended",
      data: {
        runId: id,
        service: ended.service,
        release: ended.release,
        command: ended.command,
        status: result.status,
        durationMs: (ended.ended_at ?? new Date()).getTime() - ended.created_at.getTime(),
        outOfMemory: result.outOfMemory,
        ...(result.exitCode !== null && { exitCode: result.exitCode }),
        ...(result.problem && { problem: result.problem }),
      },
    });
  });
}

/** Ended runs of which the runtime still keeps something. */
export async function rememberedTaskRuns(db: Database): Promise<TaskRun[]> {
  return db
    .selectFrom("task_runs")
    .selectAll()
    .where("ended_at", "is not", null)
    .where("forgotten_at", "is", null)
    .execute();
}

export async function markForgotten(db: Database, id: string): Promise<void> {
  await db.updateTable("task_runs").set({ forgotten_at: new Date() }).where("id", "=", id).execute();
}

/** A run that goes on in a place, if there is one: what it needs must not be removed under it. */
export async function findTaskRunIn(db: Database, app: string, environment?: string): Promise<TaskRun | undefined> {
  let query = db.selectFrom("task_runs").selectAll().where("app", "=", app).where("ended_at", "is", null);
  if (environment !== undefined) query = query.where("environment", "=", environment);
  return query.limit(1).executeTakeFirst();
}

export const logOf = ({ id }: Pick<TaskRun, "id">): string => taskRunLogId(id);

const frameOf = ({ id, app, environment, actor }: TaskRun) => ({ app, environment, subject: `run:${id}`, actor });

/** Holds the environment's row, so that two requests do not take the same last place and none comes while it is removed. */
async function requireRoom(tx: Tx, { app, environment }: Place): Promise<void> {
  const { teardown } = await tx
    .selectFrom("environments")
    .select("teardown")
    .where("app", "=", app)
    .where("name", "=", environment)
    .forUpdate()
    .executeTakeFirstOrThrow();
  if (teardown !== null) {
    throw fail("ENVIRONMENT_BUSY", {
      message: `${environment} of ${app} is being stopped (${teardown}): no command is begun there.`,
      hint: `Start it again first: \`shipway env start ${environment} --app ${app}\`.`,
    });
  }
  const open = await tx
    .selectFrom("task_runs")
    .select(["id", "app", "environment"])
    .where("ended_at", "is", null)
    .orderBy("created_at")
    .execute();
  const here = open.filter((run) => run.app === app && run.environment === environment);
  const [oldest] = here;
  if (here.length >= RUNS_AT_ONCE.environment) {
    throw fail("RUN_LIMIT", {
      message: `${here.length} commands run in ${environment} of ${app} already; more at once are not taken.`,
      hint: `Wait for one to end, or stop one: \`shipway cancel ${oldest?.id}\` (\`shipway runs --app ${app}\` lists them).`,
    });
  }
  if (open.length < RUNS_AT_ONCE.all) return;
  throw fail("RUN_LIMIT", {
    message: `${open.length} commands run on this Shipway already; more at once are not taken.`,
    hint: "Wait for one to end. `shipway runs --app NAME` lists those of an app.",
  });
}

function nothingLive({ app, environment }: Place) {
  return fail("REQUEST_INVALID", {
    message: `Nothing is live in ${environment} of ${app}, so there is no image to run a command of.`,
    hint: `Deploy first, or name a release: \`--release rN\` (\`shipway releases --app ${app}\` lists them).`,
  });
}
