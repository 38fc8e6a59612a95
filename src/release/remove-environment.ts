import { listDeclaredBacking } from "../environment/declared-backing.ts";
import { getEnvironment } from "../environment/environments.ts";
import { appendEvent } from "../events/event-stream.ts";
import { leaveEnvironment, requireNothingApplied } from "../infra/leave-environment.ts";
import type { Place } from "../rollout/release.ts";
import type { KeptData, RolloutTarget } from "../rollout/target.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { endWaitingIn } from "./approval.ts";
import { findTaskRunIn } from "./task-runs.ts";

/**
 * Stops and removes all that runs in an environment and forgets its variables, secrets and rules. Its deployments and events stay on the record. It may be
 * repeated after a crash; what it had removed by then is gone already.
 * @returns what is still there and is not ours to remove, in sentences
 * @throws ENVIRONMENT_NOT_FOUND, ENVIRONMENT_BUSY
 */
export async function removeEnvironment(
  { db, target }: { db: Database; target: Pick<RolloutTarget, "destroy"> },
  { app, environment }: Place,
  data: KeptData,
  actor: string,
): Promise<string[]> {
  const place = { app, environment };
  await getEnvironment(db, place);
  // Nothing is desired there from here on, or the reconcile loop would start again what is being removed.
  await db.transaction().execute(async (tx) => {
    await requireIdle(tx, place);
    await tx
      .updateTable("environments")
      .set({ live_release: null, standby_release: null, standby_until: null })
      .where("app", "=", app)
      .where("name", "=", environment)
      .execute();
  });
  const remarks = await target.destroy(place, data);
  await db.transaction().execute(async (tx) => {
    await requireIdle(tx, place);
    await endWaitingIn(tx, place);
    await tx.deleteFrom("environments").where("app", "=", app).where("name", "=", environment).execute();
    await tx.deleteFrom("runtimes").where("app", "=", app).where("environment", "=", environment).execute();
    await forgetValues(tx, place, data);
    await leaveEnvironment(tx, place, actor);
    await appendEvent(
      tx,
      { ...place, subject: `environment:${environment}`, actor },
      { kind: "environment.removed", data: { dataKept: data === "keep", ...(remarks.length > 0 && { remarks }) } },
    );
  });
  return remarks;
}

/** Holds the environment's row, so that no deployment begins meanwhile. @throws ENVIRONMENT_BUSY */
async function requireIdle(tx: Tx, place: Place): Promise<void> {
  const { app, environment } = place;
  const row = await tx
    .selectFrom("environments")
    .select("running_deployment")
    .where("app", "=", app)
    .where("name", "=", environment)
    .forUpdate()
    .executeTakeFirst();
  if (row?.running_deployment) {
    throw busy(
      place,
      `deployment ${row.running_deployment} is under way`,
      `Wait for its end, or \`shipway cancel ${row.running_deployment}\`.`,
    );
  }
  const run = await findTaskRunIn(tx, app, environment);
  if (run) {
    throw busy(
      place,
      `${run.actor}'s command ${run.id} runs there`,
      `Wait for its end, or \`shipway cancel ${run.id}\`.`,
    );
  }
  const backing = (await listDeclaredBacking(tx, place)).map(({ name }) => name);
  if (backing.length > 0) {
    throw busy(
      place,
      `${backing.join(", ")} ${backing.length === 1 ? "is" : "are"} declared for it`,
      `Remove ${backing.length === 1 ? "it" : "them"} first: ${backing.map((name) => `\`shipway backing remove ${name} --app ${app} --env ${environment}\``).join(", ")}.`,
    );
  }
  await requireNothingApplied(tx, place);
}

async function forgetValues(tx: Tx, { app, environment }: Place, data: KeptData): Promise<void> {
  const removed = { removed_at: new Date() };
  await tx
    .updateTable("variables")
    .set(removed)
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("removed_at", "is", null)
    .execute();
  let secrets = tx
    .updateTable("secrets")
    .set(removed)
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("removed_at", "is", null);
  // Kept data open with the password they were made with.
  if (data === "keep") secrets = secrets.where("internal", "=", false);
  await secrets.execute();
}

function busy({ app, environment }: Place, why: string, hint: string) {
  return fail("ENVIRONMENT_BUSY", {
    message: `${environment} of ${app} cannot be removed now: ${why}.`,
    hint,
  });
}
