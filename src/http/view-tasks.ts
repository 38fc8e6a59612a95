import { findEnvironment } from "../environment/environments.ts";
import { listMended } from "../environment/task-drift.ts";
import type { Place } from "../rollout/release.ts";
import { type Problem, toProblem } from "../shared/errors.ts";
import { readDesiredState } from "../workflow/desired-state.ts";
import type { TasksView } from "./infra-schemas.ts";
import type { Platform } from "./platform.ts";

const SHOW_MENDED_MS = 86_400_000;

/**
 * How the tasks of an environment differ from what is declared, looked at now, and what was put right of late; null before the first deployment.
 * While the engine is away the rest of the answer is still worth having, so that is a problem in it.
 */
export async function viewTasks({ store, secrets, infra, target }: Platform, place: Place): Promise<TasksView | null> {
  const row = await findEnvironment(store.db, place);
  if (row === undefined) return null;
  const now = Date.now();
  const mended = await listMended(store.db, place, new Date(now - SHOW_MENDED_MS));
  const view = {
    checkedAt: new Date(now).toISOString(),
    deployment: row.running_deployment,
    mended: mended.map(({ at, text }) => ({ at: at.toISOString(), text })),
  };
  // While a deployment moves them, or they are being stopped, what runs is that one's business.
  if (row.running_deployment !== null || row.teardown !== null) return { ...view, drift: [], problem: null };
  try {
    const desired = await readDesiredState({ store, secrets, sealer: infra.sealer, target }, row);
    return { ...view, drift: await target.findDrift(place, desired), problem: null };
  } catch (error) {
    return { ...view, drift: [], problem: upstreamProblem(error) };
  }
}

/** @throws what is no problem of the engine or of the user */
function upstreamProblem(error: unknown): Problem {
  const problem = toProblem(error);
  if (problem.code === "BUG") throw error;
  return problem;
}
