import { listDeclaredBacking } from "../environment/declared-backing.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Tx } from "../store/open-store.ts";
import { findTaskRunIn } from "./task-runs.ts";

/**
 * Holds the environment's row, so that no deployment begins meanwhile. `own` is the teardown that asks, if one does.
 * @throws ENVIRONMENT_BUSY
 */
export async function requireIdle(tx: Tx, place: Place, own?: string): Promise<void> {
  const { app, environment } = place;
  const row = await tx
    .selectFrom("environments")
    .select(["running_deployment", "teardown"])
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
  if (row?.teardown && row.teardown !== own)
    throw busy(place, `it is being stopped (${row.teardown})`, "Wait for its end.");
  const run = await findTaskRunIn(tx, app, environment);
  if (run)
    throw busy(
      place,
      `${run.actor}'s command ${run.id} runs there`,
      `Wait for its end, or \`shipway cancel ${run.id}\`.`,
    );
}

/**
 * Backing services that somebody declared by hand go first; with `byTerraform` those that an infra run declared do not count, since Terraform destroys them.
 * @throws ENVIRONMENT_BUSY
 */
export async function requireNoBacking(tx: Tx, place: Place, byTerraform = false): Promise<void> {
  const { app, environment } = place;
  const declared = (await listDeclaredBacking(tx, place)).filter(({ runId }) => !byTerraform || runId === undefined);
  if (declared.length === 0) return;
  const [it, is] = declared.length === 1 ? ["it", "is"] : ["them", "are"];
  const commands = declared.map(({ name }) => `\`shipway backing remove ${name} --app ${app} --env ${environment}\``);
  throw busy(
    place,
    `${declared.map(({ name }) => name).join(", ")} ${is} declared for it`,
    `Remove ${it} first: ${commands.join(", ")}.`,
  );
}

export function busy({ app, environment }: Place, why: string, hint: string) {
  return fail("ENVIRONMENT_BUSY", {
    message: `${environment} of ${app} cannot be stopped or removed now: ${why}.`,
    hint,
  });
}
