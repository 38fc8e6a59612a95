import { applyRun, readOutputs } from "../infra/apply-run.ts";
import { waitForApproval } from "../infra/approve-run.ts";
import type { PlanSummary } from "../infra/infra-run.ts";
import { maskErrors } from "../infra/mask-errors.ts";
import { checkDrift, planRun } from "../infra/plan-run.ts";
import { type InfraDeps, removePlanFiles, removeRunDir } from "../infra/run-terraform.ts";
import {
  endRun,
  findLookAfter,
  getRun,
  type InfraRun,
  type RunResult,
  recoveredRuns,
  type StartedRun,
} from "../infra/runs.ts";
import { type StartedTeardown, wakeTeardowns } from "../release/teardowns.ts";
import { errorCode, type Problem, toProblem } from "../shared/errors.ts";
import { isOutage } from "../store/outage.ts";
import type { DurableStep, Logger } from "./durable.ts";

export type InfraStageDeps = InfraDeps & {
  startInfra(run: StartedRun): Promise<void>;
  startTeardown(teardown: StartedTeardown): Promise<void>;
  log: Logger;
};

type Step<T> = { ok: true; value: T } | { ok: false; problem: Problem };

/** One Terraform run: checkout, init, plan; then it ends, waits at its gate, or applies. */
export async function runInfra(deps: InfraStageDeps, id: string, step: DurableStep): Promise<void> {
  const run = await step("infra-open", () => getRun(deps.db, id).then(({ kind }) => ({ kind })));
  if (run.kind === "drift") {
    const checked = await step("infra-drift", () =>
      staged(deps, id, (one) => deps.lookSlots(one, () => checkDrift(deps, one))),
    );
    if (checked.ok) return end(deps, id, step, { status: "succeeded" });
    // An apply that came in between is no failure that anybody has to see to.
    const isOvertaken = checked.problem.code === "INFRA_PLAN_STALE";
    return end(
      deps,
      id,
      step,
      isOvertaken ? { status: "superseded", problem: checked.problem } : stopped(checked.problem),
    );
  }
  const planned = await step("infra-plan", () =>
    staged(deps, id, (one) => deps.lookSlots(one, () => planRun(deps, one))),
  );
  if (!planned.ok) return end(deps, id, step, stopped(planned.problem));
  if (run.kind === "plan") return end(deps, id, step, { status: "succeeded" });
  const { approval } = planned.value;
  if (approval.length === 0) return applyInfra(deps, id, step, changesNothing(planned.value));
  const next = await step("infra-wait", async () => {
    const seen = await getRun(deps.db, id);
    // The plan is kept sealed; what lies on disk is a copy in clear, and nobody may ever come for it. Repeated after a crash, somebody may have: an apply
    // that was approved by then is at work there.
    if (seen.status === "running" && seen.approved_by === null) await removeRunDir(deps, id);
    return (await waitForApproval(deps.db, seen, approval)) ?? null;
  });
  if (next !== null) await deps.startInfra(next);
}

const stopped = (problem: Problem) => ({
  status: problem.code === "INFRA_CANCELED" ? ("canceled" as const) : ("failed" as const),
  problem,
});

const changesNothing = ({ changes, outputs }: PlanSummary) => changes.length === 0 && outputs.length === 0;

/** The second half: also where an approved run goes on. */
export async function applyInfra(
  deps: InfraStageDeps,
  id: string,
  step: DurableStep,
  nothingToDo = false,
): Promise<void> {
  const applied = await step("infra-apply", () =>
    nothingToDo ? ended(deps, id, readOutputs) : ended(deps, id, applyRun),
  );
  await end(deps, id, step, reviveOutputs(applied));
}

/** Step results are plain JSON: sealed outputs travel as text. */
type PlainResult = { status: "succeeded"; outputs?: string } | Exclude<RunResult, { status: "succeeded" }>;

async function ended(
  deps: InfraStageDeps,
  id: string,
  work: (deps: InfraDeps, run: InfraRun) => Promise<RunResult>,
): Promise<PlainResult> {
  const done = await staged(deps, id, (run) => work(deps, run));
  if (done.ok) {
    if (done.value.status !== "succeeded") return done.value;
    const { outputs } = done.value;
    return { status: "succeeded", ...(outputs && { outputs: outputs.toString("base64") }) };
  }
  // A bug while Terraform was at work: what it did is not known to us.
  const { apply_started_at: begun } = await getRun(deps.db, id);
  return begun !== null && done.problem.code === "BUG"
    ? { status: "unknown", problem: done.problem }
    : stopped(done.problem);
}

function reviveOutputs(result: PlainResult): RunResult {
  if (result.status !== "succeeded") return result;
  return {
    status: "succeeded",
    ...(result.outputs !== undefined && { outputs: Buffer.from(result.outputs, "base64") }),
  };
}

async function end(deps: InfraStageDeps, id: string, step: DurableStep, result: RunResult): Promise<void> {
  const next = await step("infra-end", async () => {
    const found = await endRun(deps.db, id, result);
    // What is needed to recover stays.
    await (result.status === "unknown" ? removePlanFiles : removeRunDir)(deps, id);
    if (result.status === "succeeded")
      for (const recovered of await recoveredRuns(deps.db, await getRun(deps.db, id)))
        await removeRunDir(deps, recovered);
    const after = await findLookAfter(deps.db, id);
    return after === undefined ? (found ?? null) : [after, ...(found ? [found] : [])];
  });
  // One, none, or (since takeovers) several: what is stored of a run that goes on after an upgrade may be either.
  for (const one of [next ?? []].flat()) await deps.startInfra(one);
  const woken = await step("teardowns-wake", () => wakeTeardowns(deps.db));
  for (const one of woken) await deps.startTeardown(one);
}

async function staged<T>(deps: InfraStageDeps, id: string, work: (run: InfraRun) => Promise<T>): Promise<Step<T>> {
  try {
    const run = await getRun(deps.db, id);
    return { ok: true, value: await maskErrors(deps.secrets, run.app, () => work(run)) };
  } catch (error) {
    // Nothing is known of Terraform by that: the step begins again, and finds it where it is.
    if (isOutage(error)) throw error;
    if (errorCode(error) === undefined) deps.log.error({ err: error, run: id }, "an infra run broke");
    return { ok: false, problem: toProblem(error) };
  }
}
