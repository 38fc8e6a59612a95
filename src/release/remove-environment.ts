import { getEnvironment } from "../environment/environments.ts";
import { appendEvent } from "../events/event-stream.ts";
import { findLeftElsewhere } from "../infra/ask-destroy.ts";
import { leaveEnvironment, requireNothingApplied } from "../infra/leave-environment.ts";
import type { Place } from "../rollout/release.ts";
import type { KeptData, RolloutTarget } from "../rollout/target.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { endWaitingIn } from "./approval.ts";
import { busy, requireIdle, requireNoBacking } from "./require-idle.ts";
import { close, type Teardown } from "./teardowns.ts";

/**
 * Stops and removes all that runs in an environment and forgets its variables, secrets and rules. Its deployments and events stay on the record. It may be
 * repeated after a crash; what it had removed by then is gone already. As the last step of a teardown it removes only what was not started again meanwhile,
 * and ends that in the same transaction.
 * @returns what is still there and is not ours to remove, in sentences
 * @throws ENVIRONMENT_NOT_FOUND, ENVIRONMENT_BUSY
 */
export async function removeEnvironment(
  { db, target }: { db: Database; target: Pick<RolloutTarget, "destroy"> },
  { app, environment }: Place,
  data: KeptData,
  actor: string,
  teardown?: Teardown,
): Promise<string[]> {
  const place = { app, environment };
  const { stopped_release: stopped } = await getEnvironment(db, place);
  await db.transaction().execute(async (tx) => {
    await requireRemovable(tx, place, teardown?.id);
    // Nothing is desired there from here on, or the reconcile loop would start again what is being removed.
    await (teardown ? hold(tx, teardown) : stopDesiring(tx, place));
  });
  const remarks = [...(await target.destroy(place, data)), ...(await stateElsewhere(db, place))];
  await db.transaction().execute(async (tx) => {
    await requireRemovable(tx, place, teardown?.id);
    await tx.deleteFrom("environments").where("app", "=", app).where("name", "=", environment).execute();
    await tx.deleteFrom("runtimes").where("app", "=", app).where("environment", "=", environment).execute();
    await forgetValues(tx, place, data);
    await leaveEnvironment(tx, place, actor);
    await endWaitingIn(tx, place, {
      code: "CANCELED",
      message: `${environment} of ${app} was removed by ${actor} before this began.`,
      hint: `Deploy again if it is to be there: \`shipway deploy --app ${app} --env ${environment}${stopped === null ? "" : ` --release r${stopped}`}\`.`,
    });
    await appendEvent(
      tx,
      { ...place, subject: `environment:${environment}`, actor, ...(teardown && { deliveryId: teardown.id }) },
      { kind: "environment.removed", data: { dataKept: data === "keep", ...(remarks.length > 0 && { remarks }) } },
    );
    if (teardown) await close(tx, teardown, { status: "succeeded", remarks });
  });
  return remarks;
}

/** @throws ENVIRONMENT_BUSY */
async function requireRemovable(tx: Tx, place: Place, own: string | undefined): Promise<void> {
  await requireIdle(tx, place, own);
  await requireNoBacking(tx, place);
  await requireNothingApplied(tx, place);
}

const stopDesiring = (tx: Tx, { app, environment }: Place) =>
  tx
    .updateTable("environments")
    .set({ live_release: null, standby_release: null, standby_until: null })
    .where("app", "=", app)
    .where("name", "=", environment)
    .execute();

/** @throws ENVIRONMENT_BUSY when something was started since it was stopped: that was wanted later */
async function hold(tx: Tx, { id, app, environment }: Teardown): Promise<void> {
  const row = await tx
    .updateTable("environments")
    .set({ teardown: id })
    .where("app", "=", app)
    .where("name", "=", environment)
    .returning("live_release")
    .executeTakeFirstOrThrow();
  if (row.live_release === null) return;
  throw busy(
    { app, environment },
    `r${row.live_release} was started there since it was stopped`,
    `If it is to go all the same: \`shipway env remove ${environment} --app ${app}\`.`,
  );
}

/** Only what Shipway keeps itself can be known to list nothing. */
async function stateElsewhere(db: Database, place: Place): Promise<string[]> {
  const at = await findLeftElsewhere(db, place);
  return at === undefined
    ? []
    : [`Its Terraform state stays in ${at}, with whatever it lists: \`--infra destroy\` would have destroyed that.`];
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
