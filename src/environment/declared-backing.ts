import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { BackingSpec } from "../spec/app-spec.ts";
import type { Database } from "../store/open-store.ts";

/** A backing service declared through the API, for every service of its environment. */
export type DeclaredBacking = Place & {
  name: string;
  spec: BackingSpec;
  /** How its container was last found to differ, and told; undefined while it is as declared. */
  drift: string | undefined;
  /** The infra run that declared it last; of this environment or of another one of the app. */
  runId: string | undefined;
};

/** Who declares: a person, or an infra run. */
export type Declarer = { actor: string; runId?: string };

export async function listDeclaredBacking(db: Database, place?: Place): Promise<DeclaredBacking[]> {
  let query = db.selectFrom("declared_backing").selectAll().orderBy("app").orderBy("environment").orderBy("name");
  if (place !== undefined) query = query.where("app", "=", place.app).where("environment", "=", place.environment);
  return (await query.execute()).map((row) => ({
    app: row.app,
    environment: row.environment,
    name: row.name,
    spec: { engine: row.engine, ...(row.version !== null && { version: row.version }) },
    drift: row.drift ?? undefined,
    runId: row.run_id ?? undefined,
  }));
}

/** @throws NOT_FOUND when it is not declared */
export async function getDeclaredBacking(db: Database, place: Place, name: string): Promise<DeclaredBacking> {
  const found = (await listDeclaredBacking(db, place)).find((one) => one.name === name);
  if (found) return found;
  throw noBacking(place, name);
}

/**
 * Declares it, or changes its version. True when it was not declared before.
 * @throws BACKING_REFUSED when it is declared with another engine: its data could not be read by this one
 */
export async function declareBacking(
  db: Database,
  place: Place,
  name: string,
  spec: BackingSpec,
  { actor, runId }: Declarer,
): Promise<boolean> {
  return db.transaction().execute(async (tx) => {
    await tx.selectFrom("apps").select("name").where("name", "=", place.app).forUpdate().execute();
    const before = await tx
      .selectFrom("declared_backing")
      .select(["engine", "version", "run_id"])
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .where("name", "=", name)
      .executeTakeFirst();
    if (before && before.engine !== spec.engine) throw otherEngine(place, name, before.engine, spec.engine);
    const set = { version: spec.version ?? null, run_id: runId ?? null };
    if (before?.version === set.version && before.run_id === set.run_id) return false;
    await tx
      .insertInto("declared_backing")
      .values({
        app: place.app,
        environment: place.environment,
        name,
        engine: spec.engine,
        drift: null,
        ...set,
      })
      .onConflict((conflict) => conflict.columns(["app", "environment", "name"]).doUpdateSet(set))
      .execute();
    if (before?.version === set.version) return false;
    await appendEvent(tx, frameOf(place, name, actor), {
      kind: "backing.declared",
      data: { name, engine: spec.engine, ...(spec.version !== undefined && { version: spec.version }) },
    });
    return before === undefined;
  });
}

/** True when it was declared. */
export async function forgetBacking(db: Database, place: Place, name: string, actor: string): Promise<boolean> {
  return db.transaction().execute(async (tx) => {
    const removed = await tx
      .deleteFrom("declared_backing")
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .where("name", "=", name)
      .executeTakeFirst();
    if (removed.numDeletedRows === 0n) return false;
    await appendEvent(tx, frameOf(place, name, actor), { kind: "backing.removed", data: { name } });
    return true;
  });
}

export const frameOf = (place: Place, name: string, actor: string) => ({
  app: place.app,
  environment: place.environment,
  subject: `backing:${name}`,
  actor,
});

export function noBacking(place: Place, name: string) {
  return fail("NOT_FOUND", {
    message: `No backing service ${name} is declared for ${place.app} ${place.environment} through the API.`,
    hint: `See what is: \`shipway backing list --app ${place.app} --env ${place.environment}\`. Those of shipway.yml are declared there.`,
  });
}

function otherEngine({ app, environment }: Place, name: string, before: string, wanted: string) {
  return fail("BACKING_REFUSED", {
    message: `${name} of ${app} ${environment} is a ${before}; ${wanted} could not read its data.`,
    hint: `Declare the ${wanted} under another name, or remove this one with its data first: \`shipway backing remove ${name} --data remove --app ${app} --env ${environment}\`.`,
  });
}
