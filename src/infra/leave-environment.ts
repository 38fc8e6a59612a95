import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Tx } from "../store/open-store.ts";

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
  const state = await tx
    .selectFrom("infra_states")
    .select("resources")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .orderBy("version", "desc")
    .limit(1)
    .executeTakeFirst();
  if (!state || state.resources === 0) return;
  throw fail("ENVIRONMENT_BUSY", {
    message: `${environment} of ${app} cannot be removed now: its Terraform state still lists ${state.resources} resources.`,
    hint: `Take them out of its Terraform code and apply that: \`shipway infra apply --app ${app} --env ${environment}\`.`,
  });
}

/** Nothing is applied, checked for drift or approved there any more; runs and versions of the state stay on the record. */
export async function leaveEnvironment(tx: Tx, { app, environment }: Place): Promise<void> {
  await tx
    .updateTable("infra_environments")
    .set({
      applied_run: null,
      applied_commit: null,
      applied_inputs: null,
      applied_spec: "null",
      outputs: null,
      lock: "null",
      drift: "null",
      drift_at: null,
      drift_due: false,
    })
    .where("app", "=", app)
    .where("environment", "=", environment)
    .execute();
  await tx
    .updateTable("infra_runs")
    .set({ status: "superseded", ended_at: new Date(), plan_file: null, credential: null })
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "in", ["waiting", "queued"])
    .execute();
}
