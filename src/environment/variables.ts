import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";

/** Configuration of an environment that is no secret: every service there gets it. */
export type Variable = { name: string; value: string; version: number; updatedAt: Date };

/** Setting the value that is there already makes no new version. */
export async function setVariable(
  db: Database,
  place: Place,
  name: string,
  value: string,
  actor: string,
): Promise<Variable> {
  return db.transaction().execute(async (tx) => {
    // The lock makes version numbers gapless under concurrent writers.
    await tx.selectFrom("apps").select("name").where("name", "=", place.app).forUpdate().execute();
    const last = await rowsOf(tx, place)
      .where("name", "=", name)
      .orderBy("version", "desc")
      .limit(1)
      .executeTakeFirst();
    if (last && last.removed_at === null && last.value === value) return toVariable(last);
    const row = await tx
      .insertInto("variables")
      .values({
        app: place.app,
        environment: place.environment,
        name,
        version: (last?.version ?? 0) + 1,
        value,
        removed_at: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await appendEvent(tx, frameOf(place, name, actor), {
      kind: "variable.set",
      data: { name, version: row.version },
    });
    return toVariable(row);
  });
}

export async function listVariables(db: Database, place: Place): Promise<Variable[]> {
  const rows = await rowsOf(db, place)
    .distinctOn("name")
    .where("removed_at", "is", null)
    .orderBy("name")
    .orderBy("version", "desc")
    .execute();
  return rows.map(toVariable);
}

/** @throws NOT_FOUND */
export async function getVariable(db: Database, place: Place, name: string): Promise<Variable> {
  const found = (await listVariables(db, place)).find((one) => one.name === name);
  if (found) return found;
  throw notFound(place, name);
}

/** The next deployment has it no more; a rollback to a release that ran with it does. @throws NOT_FOUND */
export async function removeVariable(db: Database, place: Place, name: string, actor: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const removed = await tx
      .updateTable("variables")
      .set({ removed_at: new Date() })
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .where("name", "=", name)
      .where("removed_at", "is", null)
      .returning("version")
      .execute();
    if (removed.length === 0) throw notFound(place, name);
    const version = Math.max(...removed.map((row) => row.version));
    await appendEvent(tx, frameOf(place, name, actor), { kind: "variable.removed", data: { name, version } });
  });
}

/**
 * What tasks get: the newest values, or exactly the versions of an earlier deployment. Those removed since are among them: unlike a secret, nothing was
 * taken back, and the release ran with it.
 */
export async function resolveVariables(
  db: Database,
  place: Place,
  versions?: Record<string, number>,
): Promise<{ values: Record<string, string>; versions: Record<string, number> }> {
  const chosen =
    versions === undefined
      ? await listVariables(db, place)
      : (await rowsOf(db, place).execute()).filter((row) => versions[row.name] === row.version);
  return {
    values: Object.fromEntries(chosen.map(({ name, value }) => [name, value])),
    versions: Object.fromEntries(chosen.map(({ name, version }) => [name, version])),
  };
}

const rowsOf = (db: Database | Tx, place: Place) =>
  db.selectFrom("variables").selectAll().where("app", "=", place.app).where("environment", "=", place.environment);

const toVariable = (row: { name: string; value: string; version: number; created_at: Date }): Variable => ({
  name: row.name,
  value: row.value,
  version: row.version,
  updatedAt: row.created_at,
});

const frameOf = (place: Place, name: string, actor: string) => ({ ...place, subject: `variable:${name}`, actor });

function notFound(place: Place, name: string) {
  return fail("NOT_FOUND", {
    message: `${place.app} has no variable ${name} in ${place.environment}.`,
    hint: `List them with \`shipway var list --app ${place.app} --env ${place.environment}\`.`,
  });
}
