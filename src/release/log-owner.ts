import type { Database } from "../store/open-store.ts";

/** Whose log it is, and whether that has ended: nothing is written to its logs any more then. */
export type LogOwner = { app: string; ended: boolean };

/** The owner's id is what stands before the first dot (`log-ids.ts`). Undefined when nothing of that id exists. */
export async function findLogOwner(db: Database, logId: string): Promise<LogOwner | undefined> {
  const id = logId.split(".")[0] ?? "";
  for (const table of ["pipelines", "deployments", "changes", "infra_runs", "task_runs"] as const) {
    const row = await db.selectFrom(table).select(["app", "ended_at"]).where("id", "=", id).executeTakeFirst();
    if (row) return { app: row.app, ended: row.ended_at !== null };
  }
  return undefined;
}
