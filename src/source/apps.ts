import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { findInfraRepository, listInfraRepositories, lockRepositoryNames } from "./infra-repositories.ts";
import { Name } from "./name.ts";
import type { Repositories } from "./repositories.ts";

export type AppRecord = { name: string; createdAt: Date; environments: string[] };

/**
 * Creates an app and its hosted repository.
 * @throws REQUEST_INVALID for a name that cannot be part of a host name, APP_EXISTS
 */
export async function createApp(
  db: Database,
  repositories: Repositories,
  name: string,
  actor: string,
): Promise<AppRecord> {
  const parsed = Name.safeParse(name);
  if (!parsed.success) {
    throw fail("REQUEST_INVALID", {
      message: `"${name}" cannot name an app: ${parsed.error.issues[0]?.message ?? "it is not valid"}.`,
      hint: "Choose another name, such as `shipway app create shop`.",
    });
  }
  // The repository comes first: an app whose repository is missing would refuse its first push.
  const stored = await findApp(db, name);
  if (!stored && !(await repositories.exists(name))) await repositories.create(name);
  const created = await db.transaction().execute(async (tx) => {
    await lockRepositoryNames(tx);
    await refuseInfraName(tx, name);
    const row = await tx
      .insertInto("apps")
      .values({ name })
      .onConflict((conflict) => conflict.doNothing())
      .returning("created_at")
      .executeTakeFirst();
    if (row)
      await appendEvent(tx, { app: name, subject: `app:${name}`, actor }, { kind: "app.created", data: { app: name } });
    return row;
  });
  if (created) return { name, createdAt: created.created_at, environments: [] };
  throw fail("APP_EXISTS", {
    message: `There is an app ${name} already.`,
    hint: `Push to it, or choose another name. \`shipway app list\` shows all.`,
  });
}

async function refuseInfraName(tx: Tx, name: string): Promise<void> {
  const infra = await findInfraRepository(tx, name);
  if (infra === undefined) return;
  throw fail("APP_EXISTS", {
    message: `The name ${name} is taken: it is an infra repository of ${infra.app}.`,
    hint: "Choose another name: apps and infra repositories share one set of git addresses.",
  });
}

/** @throws APP_NOT_FOUND */
export async function getApp(db: Database, name: string): Promise<AppRecord> {
  const app = await findApp(db, name);
  if (app) return app;
  throw fail("APP_NOT_FOUND", {
    message: `There is no app ${name} here.`,
    hint: `Create it with \`shipway app create ${name}\`, or see \`shipway app list\`.`,
  });
}

export async function listApps(db: Database): Promise<AppRecord[]> {
  const apps = await db.selectFrom("apps").selectAll().orderBy("name").execute();
  const environments = await db.selectFrom("environments").select(["app", "name"]).orderBy("name").execute();
  return apps.map((row) => ({
    name: row.name,
    createdAt: row.created_at,
    environments: environments.filter(({ app }) => app === row.name).map(({ name }) => name),
  }));
}

async function findApp(db: Database, name: string): Promise<AppRecord | undefined> {
  return (await listApps(db)).find((app) => app.name === name);
}

/**
 * Whether nothing is being deployed or applied: a deployment that goes on while its app is removed would leave tasks that nobody knows, an apply that goes on,
 * or was cut off, infrastructure.
 * @throws APP_BUSY
 */
export async function requireIdle(db: Database, name: string): Promise<void> {
  const running = await db
    .selectFrom("environments")
    .select(["name", "running_deployment as deployment", "teardown"])
    .where("app", "=", name)
    .forUpdate()
    .execute();
  const run = await db
    .selectFrom("task_runs")
    .select(["id", "environment", "actor"])
    .where("app", "=", name)
    .where("ended_at", "is", null)
    .executeTakeFirst();
  if (run) {
    throw fail("APP_BUSY", {
      message: `${name} cannot be removed now: ${run.actor}'s command ${run.id} runs in ${run.environment}.`,
      hint: `Stop it with \`shipway cancel ${run.id}\`, or wait for its end; then remove ${name} again.`,
    });
  }
  await requireNothingApplying(db, name);
  const ending = running.find(({ teardown }) => teardown !== null);
  if (ending) {
    throw fail("APP_BUSY", {
      message: `${name} cannot be removed now: ${ending.name} is being stopped.`,
      hint: `Wait for its end; then remove ${name} again.`,
    });
  }
  const busy = running.find(({ deployment }) => deployment !== null);
  if (!busy) return;
  throw fail("APP_BUSY", {
    message: `${name} cannot be removed now: a deployment runs in ${busy.name}.`,
    hint: `Cancel it with \`shipway cancel ${busy.deployment}\`, or wait for its end; then remove ${name} again.`,
  });
}

/** Its first apply has no state yet, and is not seen by what looks there. @throws APP_BUSY */
async function requireNothingApplying(db: Database, name: string): Promise<void> {
  const rows = await db
    .selectFrom("infra_environments")
    .select(["environment", "running_run", "blocked_by"])
    .where("app", "=", name)
    .forUpdate()
    .execute();
  const open = rows.find(({ running_run: running, blocked_by: blocked }) => running !== null || blocked !== null);
  if (!open) return;
  const { environment, running_run: running, blocked_by: blocked } = open;
  throw fail("APP_BUSY", {
    message: `${name} cannot be removed now: infra run ${running ?? blocked} ${running === null ? "was cut off" : "is at work"} in ${environment}.`,
    hint:
      running === null
        ? `Recover it first: \`shipway infra recover --app ${name} --env ${environment}\`.`
        : `Wait for its end, or stop it: \`shipway infra cancel ${running}\`; then remove ${name} again.`,
  });
}

/**
 * Forgets an app, its repositories and the tokens that were good for it alone. Its tasks must have been removed before.
 * @throws APP_BUSY
 */
export async function removeApp(db: Database, repositories: Repositories, name: string, actor: string): Promise<void> {
  const infra = await db.transaction().execute(async (tx) => {
    await lockRepositoryNames(tx);
    await requireIdle(tx, name);
    const owned = await listInfraRepositories(tx, name);
    await tx.deleteFrom("apps").where("name", "=", name).execute();
    // Otherwise they would open whatever gets this name next.
    await tx
      .updateTable("tokens")
      .set({ revoked_at: new Date() })
      .where("app", "=", name)
      .where("revoked_at", "is", null)
      .execute();
    await appendEvent(tx, { app: name, subject: `app:${name}`, actor }, { kind: "app.removed", data: { app: name } });
    return owned;
  });
  for (const repository of [...infra.map((one) => one.name), name]) await repositories.remove(repository);
}
