import { sql } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { Name } from "./name.ts";
import type { Repositories } from "./repositories.ts";

/** A hosted repository with infrastructure code. It belongs to one app: who may read or push to that may do so here. */
export type InfraRepository = { name: string; app: string; createdAt: Date };

/**
 * Creates a hosted infra repository of an app.
 * @throws REQUEST_INVALID, INFRA_REPOSITORY_EXISTS
 */
export async function createInfraRepository(
  db: Database,
  repositories: Repositories,
  { name, app }: { name: string; app: string },
  actor: string,
): Promise<InfraRepository> {
  const parsed = Name.safeParse(name);
  if (!parsed.success) {
    throw fail("REQUEST_INVALID", {
      message: `"${name}" cannot name a repository: ${parsed.error.issues[0]?.message ?? "it is not valid"}.`,
      hint: `Choose another name, such as \`shipway infra repository create ${app}-infra\`.`,
    });
  }
  return db.transaction().execute(async (tx) => {
    await lockRepositoryNames(tx);
    const owner = await ownerOf(tx, name);
    if (owner !== undefined) {
      throw fail("INFRA_REPOSITORY_EXISTS", {
        message: `The name ${name} is taken: ${owner.kind === "app" ? "an app has it, and with it its repository" : `it is an infra repository of ${owner.app}`}.`,
        hint: `Choose another name, such as \`shipway infra repository create ${app}-infra\`.`,
      });
    }
    // What lies there under a name that nobody has was left by a removal that was cut off.
    await repositories.remove(name);
    await repositories.create(name);
    const { created_at: createdAt } = await tx
      .insertInto("infra_repositories")
      .values({ name, app })
      .returning("created_at")
      .executeTakeFirstOrThrow();
    await appendEvent(
      tx,
      { app, subject: `app:${app}`, actor },
      { kind: "infra.repositoryCreated", data: { repository: name } },
    );
    return { name, app, createdAt };
  });
}

/** Apps and infra repositories share their names: held until the transaction ends, so that two of them never get the same. */
export async function lockRepositoryNames(tx: Tx): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('shipway-repository-names'))`.execute(tx);
}

async function ownerOf(tx: Tx, name: string): Promise<{ kind: "app" | "infra"; app: string } | undefined> {
  const infra = await findInfraRepository(tx, name);
  if (infra) return { kind: "infra", app: infra.app };
  const app = await tx.selectFrom("apps").select("name").where("name", "=", name).executeTakeFirst();
  return app && { kind: "app", app: app.name };
}

export async function findInfraRepository(db: Database | Tx, name: string): Promise<InfraRepository | undefined> {
  const row = await db.selectFrom("infra_repositories").selectAll().where("name", "=", name).executeTakeFirst();
  return row && { name: row.name, app: row.app, createdAt: row.created_at };
}

/** Of one app, or of all. */
export async function listInfraRepositories(db: Database | Tx, app?: string): Promise<InfraRepository[]> {
  let query = db.selectFrom("infra_repositories").selectAll().orderBy("name");
  if (app !== undefined) query = query.where("app", "=", app);
  return (await query.execute()).map((row) => ({ name: row.name, app: row.app, createdAt: row.created_at }));
}

/** One of this app. @throws INFRA_REPOSITORY_NOT_FOUND also for that of another app: nobody is told what others have */
export async function getInfraRepository(db: Database | Tx, app: string, name: string): Promise<InfraRepository> {
  const found = await findInfraRepository(db, name);
  if (found?.app === app) return found;
  throw fail("INFRA_REPOSITORY_NOT_FOUND", {
    message: `App ${app} has no infra repository ${name}.`,
    hint: `Make it with \`shipway infra repository create ${name} --app ${app}\`, or see \`shipway infra repository list\`.`,
  });
}

/** The app whose roles open a hosted git repository: an infra repository's owner, else the app of that name. */
export async function appOfRepository(db: Database, name: string): Promise<string> {
  return (await findInfraRepository(db, name))?.app ?? name;
}

/**
 * Removes a repository with its history, once nothing is applied from it any more.
 * @throws INFRA_REPOSITORY_NOT_FOUND, INFRA_REPOSITORY_IN_USE
 */
export async function removeInfraRepository(
  db: Database,
  repositories: Repositories,
  { name, app }: { name: string; app: string },
  actor: string,
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await lockRepositoryNames(tx);
    await getInfraRepository(tx, app, name);
    const users = await usersOf(tx, app, name);
    if (users.length > 0) {
      throw fail("INFRA_REPOSITORY_IN_USE", {
        message: `${name} cannot be removed: ${users.join(", ")} ${users.length === 1 ? "is" : "are"} applied from it, and its code is what drift is measured by.`,
        hint: "Name another repository in `infra` of the environment, apply that, then remove this one.",
      });
    }
    await tx.deleteFrom("infra_repositories").where("name", "=", name).execute();
    await appendEvent(
      tx,
      { app, subject: `app:${app}`, actor },
      { kind: "infra.repositoryRemoved", data: { repository: name } },
    );
  });
  await repositories.remove(name);
}

/** Environments that were applied from it, or have a run of it that has not ended. */
export async function usersOf(db: Database | Tx, app: string, name: string): Promise<string[]> {
  const applied = await db
    .selectFrom("infra_environments")
    .select("environment")
    .where("app", "=", app)
    .where(sql<string>`applied_spec->>'repository'`, "=", name)
    .execute();
  const open = await db
    .selectFrom("infra_runs")
    .select("environment")
    .where("app", "=", app)
    .where("ended_at", "is", null)
    .where(sql<string>`spec->>'repository'`, "=", name)
    .execute();
  return [...new Set([...applied, ...open].map(({ environment }) => environment))].sort();
}
