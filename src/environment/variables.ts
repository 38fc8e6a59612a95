import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { columnsOf, flagsOf, forWhom, frameOf, refuseOurs, type ValueScope, whereOf } from "./value-scope.ts";

/** Configuration that is no secret: every service of the environment gets it, or pipeline steps. */
export type Variable = { name: string; value: string; version: number; updatedAt: Date };

/** Setting the value that is there already makes no new version. */
export async function setVariable(
  db: Database,
  scope: ValueScope,
  name: string,
  value: string,
  actor: string,
): Promise<Variable> {
  refuseOurs(scope, name);
  return db.transaction().execute(async (tx) => {
    // The lock makes version numbers gapless under concurrent writers.
    await tx.selectFrom("apps").select("name").where("name", "=", scope.app).forUpdate().execute();
    const last = await rowsOf(tx, scope)
      .where("name", "=", name)
      .orderBy("version", "desc")
      .limit(1)
      .executeTakeFirst();
    if (last && last.removed_at === null && last.value === value) return toVariable(last);
    const row = await tx
      .insertInto("variables")
      .values({
        ...columnsOf(scope),
        name,
        version: (last?.version ?? 0) + 1,
        value,
        removed_at: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await appendEvent(tx, eventFrame(scope, name, actor), {
      kind: "variable.set",
      data: { name, version: row.version, ...forWhom(scope) },
    });
    return toVariable(row);
  });
}

export async function listVariables(db: Database, scope: ValueScope): Promise<Variable[]> {
  const rows = await rowsOf(db, scope)
    .distinctOn("name")
    .where("removed_at", "is", null)
    .orderBy("name")
    .orderBy("version", "desc")
    .execute();
  return rows.map(toVariable);
}

/** @throws NOT_FOUND */
export async function getVariable(db: Database, scope: ValueScope, name: string): Promise<Variable> {
  const found = (await listVariables(db, scope)).find((one) => one.name === name);
  if (found) return found;
  throw notFound(scope, name);
}

/** The next deployment has it no more; a rollback to a release that ran with it does. @throws NOT_FOUND */
export async function removeVariable(db: Database, scope: ValueScope, name: string, actor: string): Promise<void> {
  const { app, environment, pipelines } = columnsOf(scope);
  await db.transaction().execute(async (tx) => {
    const removed = await tx
      .updateTable("variables")
      .set({ removed_at: new Date() })
      .where("app", "=", app)
      .where("environment", "=", environment)
      .where("pipelines", "=", pipelines)
      .where("name", "=", name)
      .where("removed_at", "is", null)
      .returning("version")
      .execute();
    if (removed.length === 0) throw notFound(scope, name);
    const version = Math.max(...removed.map((row) => row.version));
    await appendEvent(tx, eventFrame(scope, name, actor), {
      kind: "variable.removed",
      data: { name, version, ...forWhom(scope) },
    });
  });
}

/**
 * What tasks get: the newest values, or exactly the versions of an earlier deployment. Those removed since are among them: unlike a secret, nothing was
 * taken back, and the release ran with it.
 */
export async function resolveVariables(
  db: Database,
  scope: ValueScope,
  versions?: Record<string, number>,
): Promise<{ values: Record<string, string>; versions: Record<string, number> }> {
  const chosen =
    versions === undefined
      ? await listVariables(db, scope)
      : (await rowsOf(db, scope).execute()).filter((row) => versions[row.name] === row.version);
  return {
    values: Object.fromEntries(chosen.map(({ name, value }) => [name, value])),
    versions: Object.fromEntries(chosen.map(({ name, version }) => [name, version])),
  };
}

const rowsOf = (db: Database | Tx, scope: ValueScope) => {
  const { app, environment, pipelines } = columnsOf(scope);
  return db
    .selectFrom("variables")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("pipelines", "=", pipelines);
};

const toVariable = (row: { name: string; value: string; version: number; created_at: Date }): Variable => ({
  name: row.name,
  value: row.value,
  version: row.version,
  updatedAt: row.created_at,
});

const eventFrame = (scope: ValueScope, name: string, actor: string) => ({
  ...frameOf(scope),
  subject: `variable:${name}`,
  actor,
});

function notFound(scope: ValueScope, name: string) {
  return fail("NOT_FOUND", {
    message: `${scope.app} has no variable ${name} ${whereOf(scope)}.`,
    hint: `List them with \`shipway var list ${flagsOf(scope)}\`.`,
  });
}
