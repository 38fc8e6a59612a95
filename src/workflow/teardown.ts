import { listDeclaredBacking } from "../environment/declared-backing.ts";
import { getEnvironment } from "../environment/environments.ts";
import { planDestroy, requireNothingRuns } from "../infra/ask-destroy.ts";
import { type AskDeps, problemOf } from "../infra/ask-run.ts";
import { maskErrors } from "../infra/mask-errors.ts";
import { getRun, type InfraRun, type StartedRun } from "../infra/runs.ts";
import { removeInitialised } from "../infra/workspace.ts";
import { removeEnvironment } from "../release/remove-environment.ts";
import {
  endTeardown,
  getTeardown,
  recordStopped,
  type Teardown,
  type TeardownResult,
  waitForDestroy,
} from "../release/teardowns.ts";
import type { RolloutTarget } from "../rollout/target.ts";
import { errorCode, type Problem, toProblem } from "../shared/errors.ts";
import { isOutage } from "../store/outage.ts";
import type { DurableStep, Logger } from "./durable.ts";

export type TeardownDeps = AskDeps & {
  target: Pick<RolloutTarget, "halt" | "destroy">;
  /** Everything of infra on disk. */
  infraDir: string;
  startInfra(run: StartedRun): Promise<void>;
  startDeployment(id: string): Promise<void>;
  log: Logger;
};

/** Stops what runs, then asks for what is to be destroyed under it and leaves: nobody's process waits for an approval. */
export async function runTeardown(deps: TeardownDeps, id: string, step: DurableStep): Promise<void> {
  const stopped = await step("teardown-stop", () => caught(deps, id, (teardown) => stop(deps, teardown)));
  if (!stopped.ok) return end(deps, id, step, failed(stopped.problem));
  if (stopped.value.next !== null) await deps.startDeployment(stopped.value.next);
  const asked = await step("teardown-destroy", () => caught(deps, id, (teardown) => askToDestroy(deps, teardown)));
  if (!asked.ok) return end(deps, id, step, failed(asked.problem));
  if (asked.value.start !== null) await deps.startInfra(asked.value.start);
  if (!asked.value.waits) return finishTeardown(deps, id, step);
}

/** The second half: also where a teardown goes on once its infra run has ended. */
export async function finishTeardown(deps: TeardownDeps, id: string, step: DurableStep): Promise<void> {
  const finished = await step("teardown-finish", () => caught(deps, id, (teardown) => finish(deps, teardown)));
  return end(deps, id, step, finished.ok ? finished.value : failed(finished.problem));
}

async function end(deps: TeardownDeps, id: string, step: DurableStep, result: TeardownResult): Promise<void> {
  const next = await step("teardown-end", () => endTeardown(deps.db, id, result).then((one) => one ?? null));
  if (next !== null) await deps.startDeployment(next);
}

const failed = (problem: Problem): TeardownResult => ({ status: "failed", problem, remarks: [] });

async function stop({ db, target }: TeardownDeps, teardown: Teardown): Promise<{ next: string | null }> {
  // Repeated after a crash: it was stopped, and what has begun since is none of its business.
  if ((await getEnvironment(db, teardown)).teardown !== teardown.id) return { next: null };
  // Declared through the API they are somebody's own, as a database of the cloud is: they go when they are removed.
  const spared = await listDeclaredBacking(db, teardown);
  await target.halt(
    teardown,
    spared.map(({ name }) => name),
  );
  return { next: (await recordStopped(db, teardown)) ?? null };
}

type Asked = { waits: boolean; start: StartedRun | null };

async function askToDestroy(deps: TeardownDeps, teardown: Teardown): Promise<Asked> {
  if (teardown.infra === "keep") return { waits: false, start: null };
  // Repeated after a crash: its run was recorded, and is started as all recorded runs are. It may have ended by now, and the other half be at work.
  if (teardown.infra_run !== null) return { waits: true, start: null };
  const { app, environment, actor, overrule } = teardown;
  const place = { app, environment };
  const request = await planDestroy(deps, place, { actor, overrule: overrule ?? undefined });
  if (request === undefined) return { waits: false, start: null };
  const start = await waitForDestroy(deps.db, teardown, request, (tx) => requireNothingRuns(tx, place));
  return { waits: true, start: start ?? null };
}

async function finish(deps: TeardownDeps, teardown: Teardown): Promise<TeardownResult> {
  const { app, environment, data, actor, infra_run: runId } = teardown;
  if (teardown.ended_at !== null) {
    // Repeated after a crash: it was ended together with the environment.
    if (teardown.until === "removed") await removeInitialised(deps.infraDir, { app, environment });
    return { status: "succeeded", remarks: teardown.remarks };
  }
  const run = runId === null ? undefined : await getRun(deps.db, runId);
  if (run !== undefined && run.status !== "succeeded") return notDestroyed(teardown, run);
  if (teardown.until === "stopped") return { status: "succeeded", remarks: [] };
  const remarks = await removeEnvironment(deps, teardown, data, actor, teardown);
  await removeInitialised(deps.infraDir, { app, environment });
  return { status: "succeeded", remarks };
}

/** The run has said why, and what to do about it, at its own end. */
function notDestroyed({ app, environment, until }: Teardown, run: InfraRun): TeardownResult {
  const isCanceled = run.status === "canceled" || run.status === "superseded";
  const problem = {
    code: isCanceled ? "INFRA_CANCELED" : problemOf(run).code,
    message: `${environment} of ${app} is stopped, and its infrastructure stays: run ${run.id} ${ENDED[run.status] ?? `is ${run.status}`}.`,
    hint: `See why with \`shipway infra runs ${run.id}\`, then go on from there: \`shipway env ${until === "removed" ? "remove" : "stop"} ${environment} --app ${app} --infra destroy\`.`,
  };
  return { status: isCanceled ? "canceled" : "failed", problem, remarks: [] };
}

const ENDED: Partial<Record<InfraRun["status"], string>> = {
  canceled: "was turned down or stopped",
  superseded: "was overtaken",
  failed: "failed",
  unknown: "was cut off",
};

type Step<T> = { ok: true; value: T } | { ok: false; problem: Problem };

async function caught<T>(deps: TeardownDeps, id: string, work: (teardown: Teardown) => Promise<T>): Promise<Step<T>> {
  try {
    const teardown = await getTeardown(deps.db, id);
    return { ok: true, value: await maskErrors(deps.secrets, teardown.app, () => work(teardown)) };
  } catch (error) {
    // The step begins again: each looks first what is there.
    if (isOutage(error)) throw error;
    if (errorCode(error) === undefined) deps.log.error({ err: error, teardown: id }, "a teardown broke");
    return { ok: false, problem: toProblem(error) };
  }
}
