import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Tx } from "../store/open-store.ts";
import { countResources } from "./ask-destroy.ts";
import { closeRun, NOTHING_APPLIED } from "./runs.ts";

/**
 * Whether an environment may go without leaving behind what only its Terraform knows.
 * @throws ENVIRONMENT_BUSY
 */
export async function requireNothingApplied(tx: Tx, { app, environment }: Place): Promise<void> {
  const row = await tx
    .selectFrom("infra_environments")
    .select(["running_run", "blocked_by"])
    .where("app", "=", app)
    .where("environment", "=", environment)
    .forUpdate()
    .executeTakeFirst();
  const run = row?.running_run ?? row?.blocked_by;
  if (run) {
    throw fail("ENVIRONMENT_BUSY", {
      message: `${environment} of ${app} cannot be removed now: infra run ${run} ${row?.running_run ? "is at work there" : "was cut off there, and its outcome is unknown"}.`,
      hint: row?.running_run
        ? `Wait for its end: \`shipway infra runs ${run}\`.`
        : `Recover it first: \`shipway infra recover --app ${app} --env ${environment}\`.`,
    });
  }
  const resources = await countResources(tx, { app, environment });
  if (resources === 0) return;
  throw fail("ENVIRONMENT_BUSY", {
    message: `${environment} of ${app} cannot be removed now: its Terraform state still lists ${resources} resources.`,
    hint: `Destroy them with it: \`shipway env remove ${environment} --app ${app} --infra destroy\`.`,
  });
}

/**
 * Nothing is applied, checked for drift or approved there any more, and an environment that gets the name anew keeps quiet about nothing; runs and versions of
 * the state stay on the record. The caller has looked by `requireNothingApplied` in the same transaction.
 */
export async function leaveEnvironment(tx: Tx, { app, environment }: Place, actor: string): Promise<void> {
  await tx
    .updateTable("infra_environments")
    .set({ ...NOTHING_APPLIED, lock: "null" })
    .where("app", "=", app)
    .where("environment", "=", environment)
    .execute();
  for (const table of ["infra_ignored", "rollout_writes"] as const)
    await tx.deleteFrom(table).where("app", "=", app).where("environment", "=", environment).execute();
  const left = await tx
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "in", ["waiting", "queued"])
    .execute();
  for (const run of left) await closeRun(tx, { ...run, actor }, "superseded", undefined);
}
