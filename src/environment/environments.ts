import type { Selectable } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Database } from "../store/open-store.ts";
import type { EnvironmentsTable } from "../store/schema.ts";

export type EnvironmentRow = Selectable<EnvironmentsTable>;

export async function listEnvironments(db: Database, app?: string): Promise<EnvironmentRow[]> {
  let query = db.selectFrom("environments").selectAll().orderBy("app").orderBy("name");
  if (app !== undefined) query = query.where("app", "=", app);
  return query.execute();
}

/** @throws ENVIRONMENT_NOT_FOUND naming those there are */
export async function getEnvironment(db: Database, place: Place): Promise<EnvironmentRow> {
  const rows = await listEnvironments(db, place.app);
  const row = rows.find(({ name }) => name === place.environment);
  if (row) return row;
  const known = rows.map(({ name }) => name).join(", ");
  throw fail("ENVIRONMENT_NOT_FOUND", {
    message: `App ${place.app} has no environment ${place.environment} yet${known === "" ? ": nothing was deployed so far" : `; it has ${known}`}.`,
    hint: "An environment appears with its first deployment: push to the branch that shipway.yml names for it.",
  });
}

/** Pushes deploy again. Resuming what is not frozen is a no-op. */
export async function resumeEnvironment(db: Database, place: Place, actor: string): Promise<void> {
  const row = await getEnvironment(db, place);
  if (row.frozen_reason === null) return;
  await db.transaction().execute(async (tx) => {
    await tx
      .updateTable("environments")
      .set({ frozen_reason: null, frozen_at: null })
      .where("app", "=", place.app)
      .where("name", "=", place.environment)
      .execute();
    await appendEvent(
      tx,
      { ...place, subject: `environment:${place.environment}`, actor },
      { kind: "environment.resumed", data: {} },
    );
  });
}
