import type { Selectable } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database } from "../store/open-store.ts";
import type { ExecSessionsTable } from "../store/schema.ts";

/** A command inside a running task, on the record as long as it has a connection. */
export type ExecRecord = Selectable<ExecSessionsTable>;
export type ExecEnd = { status: "exited"; exitCode: number } | { status: "cut-off" | "failed" };

/** Each holds a connection, and a process in a task that serves others. */
const AT_ONCE = 10;

/** Before it begins, so that nothing is done that is not on the record. `command` is as it may be shown. @throws RUN_LIMIT */
export async function openExecSession(
  db: Database,
  wanted: Place & { service: string; task: string; command: string; terminal: boolean; actor: string },
): Promise<ExecRecord> {
  const { terminal, app, environment, service, task, command, actor } = wanted;
  return db.transaction().execute(async (tx) => {
    await tx
      .selectFrom("environments")
      .select("name")
      .where("app", "=", app)
      .where("name", "=", environment)
      .forUpdate()
      .execute();
    const open = await tx
      .selectFrom("exec_sessions")
      .select("id")
      .where("app", "=", app)
      .where("environment", "=", environment)
      .where("ended_at", "is", null)
      .execute();
    if (open.length >= AT_ONCE) {
      throw fail("RUN_LIMIT", {
        message: `${open.length} commands run inside tasks of ${environment} already; more at once are not taken.`,
        hint: `Wait for one to end. \`shipway events --app ${app}\` shows whose they are.`,
      });
    }
    const row = await tx
      .insertInto("exec_sessions")
      .values({ id: newId("x"), app, environment, service, task, command, actor })
      .returningAll()
      .executeTakeFirstOrThrow();
    await appendEvent(tx, frameOf(row), {
      kind: "exec.started",
      data: { execId: row.id, service, task, command, terminal },
    });
    return row;
  });
}

/** Repeating it changes nothing. */
export async function endExecSession(db: Database, id: string, end: ExecEnd): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const row = await tx
      .updateTable("exec_sessions")
      .set({ ended_at: new Date() })
      .where("id", "=", id)
      .where("ended_at", "is", null)
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) return;
    const { service, task, command, started_at } = row;
    const durationMs = (row.ended_at ?? new Date()).getTime() - started_at.getTime();
    await appendEvent(tx, frameOf(row), {
      kind: "exec.ended",
      data: { execId: id, service, task, command, ...end, durationMs },
    });
  });
}

export async function openExecSessions(db: Database): Promise<ExecRecord[]> {
  return db.selectFrom("exec_sessions").selectAll().where("ended_at", "is", null).execute();
}

const frameOf = ({ id, app, environment, actor }: ExecRecord) => ({ app, environment, subject: `exec:${id}`, actor });
