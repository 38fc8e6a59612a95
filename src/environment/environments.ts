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

export async function findEnvironment(db: Database, place: Place): Promise<EnvironmentRow | undefined> {
  return (await listEnvironments(db, place.app)).find(({ name }) => name === place.environment);
}

/** @throws ENVIRONMENT_NOT_FOUND naming those there are */
export async function getEnvironment(db: Database, place: Place): Promise<EnvironmentRow> {
  const rows = await listEnvironments(db, place.app);
  const row = rows.find(({ name }) => name === place.environment);
  if (row) return row;
  const known = rows.map(({ name }) => name).join(", ");
  throw fail("ENVIRONMENT_NOT_FOUND", {
    message: `App ${place.app} has no environment ${place.environment} yet${known === "" ? ": nothing was deployed so far" : `; it has ${known}`}.`,
    hint: `An environment appears with its first deployment: push to the branch that shipway.yml names for it. Or make one: \`shipway env create ${place.environment} --app ${place.app}\`.`,
  });
}

export type DeclaredEnvironment = { name: string; branch: string | null; tag: string | null };

/** What was declared through the API, beside what shipway.yml declares. */
export async function declaredEnvironments(db: Database, app: string): Promise<DeclaredEnvironment[]> {
  return (await listEnvironments(db, app)).flatMap((row) => declarationOf(row) ?? []);
}

/** Undefined for an environment that only shipway.yml declares. */
export function declarationOf(row: EnvironmentRow): DeclaredEnvironment | undefined {
  return row.declared ? { name: row.name, branch: row.declared_branch, tag: row.declared_tag } : undefined;
}

/** From now on releases can be deployed there, and those of matching refs are; with neither branch nor tag only by hand. */
export async function declareEnvironment(
  db: Database,
  { app, environment }: Place,
  { branch, tag }: Omit<DeclaredEnvironment, "name">,
  actor: string,
): Promise<EnvironmentRow> {
  return db.transaction().execute(async (tx) => {
    const before = (await listEnvironments(tx, app)).find(({ name }) => name === environment);
    if (before?.declared && before.declared_branch === branch && before.declared_tag === tag) return before;
    const rules = { declared: true, declared_branch: branch, declared_tag: tag };
    const row = await tx
      .insertInto("environments")
      .values({ ...newEnvironment({ app, environment }), ...rules })
      .onConflict((conflict) => conflict.columns(["app", "name"]).doUpdateSet(rules))
      .returningAll()
      .executeTakeFirstOrThrow();
    await appendEvent(
      tx,
      { app, environment, subject: `environment:${environment}`, actor },
      { kind: "environment.declared", data: { branch, tag } },
    );
    return row;
  });
}

/** The row of an environment in which nothing has happened yet. */
export const newEnvironment = ({ app, environment }: Place) => ({
  app,
  name: environment,
  live_release: null,
  standby_release: null,
  standby_until: null,
  frozen_reason: null,
  frozen_at: null,
  running_deployment: null,
});

/** Wherever something of the app may lie, kept data of environments that were removed included. */
export async function everyPlace(db: Database, app: string): Promise<Place[]> {
  const rows = await Promise.all([
    db.selectFrom("environments").select("name as environment").where("app", "=", app).execute(),
    db.selectFrom("declared_backing").select("environment").where("app", "=", app).execute(),
    // Each backing service has a password of its own, which outlives it as its data do.
    db.selectFrom("secrets").select("environment").where("app", "=", app).where("internal", "=", true).execute(),
  ]);
  const names = new Set(rows.flat().map(({ environment }) => environment));
  return [...names].sort().map((environment) => ({ app, environment }));
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
