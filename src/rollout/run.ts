import { assertNever } from "../shared/assert-never.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { errorCode, toProblem } from "../shared/errors.ts";
import type { PhaseTime, RolloutOutcome } from "./outcome.ts";
import {
  type PhaseName,
  type PlanInput,
  planRetreat,
  planRollout,
  planSettling,
  type RolloutPhase,
  type RolloutPlan,
} from "./plan.ts";
import type { Unproved } from "./run-command.ts";
import { type Rollout, type RolloutDeps, type RolloutInput, runStep, type StepResult } from "./run-step.ts";
import type { ObservedService, RolloutTarget } from "./target.ts";
import { newTeller } from "./teller.ts";

export type { RolloutDeps, RolloutInput };

type PhaseResult = { durationMs: number; endedAt: number } & (
  | { status: "ok"; notes: string[] }
  | ({ status: "failed" } & Unproved)
  | { status: "canceled" }
  | { status: "standby-lost" }
);
/**
 * Puts a release into service as `planRollout` decides, or leaves the environment as it was and says why.
 * Every phase is a durable step; calling it again with the same input after a crash goes on from the last finished one.
 * @throws what the target throws (Docker gone); until traffic moved, what was started is removed first where that is possible
 */
export async function rollOut(input: RolloutInput, deps: RolloutDeps): Promise<RolloutOutcome> {
  const calledAt = deps.now();
  const seen = await deps.durable(`rollout:r${input.release.number}:observe`, async () => ({
    calledAt,
    observed: await look(input, deps.target),
  }));
  const planInput = newPlanInput(input, seen.observed);
  const plan = planRollout(planInput);
  if (plan.status === "already-live") return alreadyLive(input.release.number);
  const rollout: Rollout = { input, deps, teller: newTeller(deps.onEvent) };
  return await walk(rollout, planInput, plan, seen.calledAt);
}

/** Who goes back waits for it: of a release that stands by nothing else is looked at until traffic moved. */
async function look(input: RolloutInput, target: RolloutTarget): Promise<ObservedService[]> {
  if (input.kind === "deploy") return await target.observe(input.place);
  const standby = await target.observe(input.place, input.release);
  const plan = planRollout(newPlanInput(input, standby));
  return plan.status === "planned" && plan.how === "start" ? await target.observe(input.place) : standby;
}

async function walk(
  rollout: Rollout,
  planInput: PlanInput,
  plan: RolloutPlan & { status: "planned" },
  calledAt: number,
): Promise<RolloutOutcome> {
  const times: PhaseTime[] = [];
  const notes: string[] = [...plan.notes];
  let liveAfterMs: number | undefined;
  for (const phase of plan.phases) {
    const trafficMoved = liveAfterMs !== undefined;
    let result: PhaseResult;
    try {
      result = await runPhase(rollout, phase, { plan, calledAt, trafficMoved, planInput });
    } catch (error) {
      if (!trafficMoved || errorCode(error) === undefined) throw error;
      // The release has proved itself; what is left to do is found and done by reconciliation.
      if (phase.name === "settle") break;
      return await goBackUnseen(rollout, error, { phase: phase.name, times, notes });
    }
    times.push({ name: phase.name, durationMs: result.durationMs });
    switch (result.status) {
      case "ok":
        notes.push(...result.notes);
        if (phase.name === "shift") liveAfterMs = result.endedAt - calledAt;
        break;
      case "standby-lost": {
        const again = { ...planInput, standbyLost: true };
        const anew = planRollout(again);
        if (anew.status === "already-live") throw new Error("a plan that waked cannot be live already");
        return await walk(rollout, again, anew, calledAt);
      }
      case "failed":
      case "canceled":
        return await retreat(rollout, planInput, { phase: phase.name, result, trafficMoved, times, notes });
      default:
        assertNever(result);
    }
  }
  const previous = rollout.input.previous?.release.number;
  return {
    status: "done",
    alreadyLive: false,
    liveAfterMs: liveAfterMs ?? 0,
    ...(previous === undefined ? {} : { previous, standby: previous }),
    notes,
    phases: times,
  };
}

/** Nothing can be asked of the engine, but the router still answers: traffic goes back to the tasks that are known to be good. */
async function goBackUnseen(
  { input, deps }: Rollout,
  error: unknown,
  reached: { phase: PhaseName; times: PhaseTime[]; notes: string[] },
): Promise<RolloutOutcome> {
  const { previous, place, release } = input;
  if (previous === undefined) throw error;
  try {
    await deps.durable(`rollout:r${release.number}:go-back`, async () => {
      await deps.target.shiftTraffic(place, previous.release);
      return true;
    });
  } catch {
    throw error;
  }
  const cause = toProblem(error);
  return {
    status: "failed",
    phase: reached.phase,
    reason: cause.message,
    cause,
    evidence: [],
    trafficMoved: true,
    rolledBack: true,
    notes: reached.notes,
    phases: reached.times,
  };
}

type Reached = {
  phase: PhaseName;
  result: PhaseResult & { status: "failed" | "canceled" };
  trafficMoved: boolean;
  times: PhaseTime[];
  notes: string[];
};

async function retreat(rollout: Rollout, planInput: PlanInput, reached: Reached): Promise<RolloutOutcome> {
  const { result, trafficMoved, phase } = reached;
  const steps = planRetreat(planInput, { trafficMoved, why: result.status });
  const undone = await runPhase(rollout, steps, { planInput });
  const phases = [...reached.times, { name: steps.name, durationMs: undone.durationMs }];
  const notes = [...reached.notes, ...(undone.status === "ok" ? undone.notes : [])];
  if (result.status === "canceled") return { status: "canceled", trafficMoved, notes, phases };
  return {
    status: "failed",
    phase,
    reason: result.reason,
    evidence: result.evidence,
    trafficMoved,
    rolledBack: planInput.previous !== undefined,
    notes,
    phases,
  };
}

type PhaseContext = {
  planInput: PlanInput;
  plan?: RolloutPlan & { status: "planned" };
  calledAt?: number;
  trafficMoved?: boolean;
};

/** One durable step: what is told and timed happens inside, so a replay neither tells nor times it again. */
function runPhase(rollout: Rollout, phase: RolloutPhase, context: PhaseContext): Promise<PhaseResult> {
  const { input, deps, teller } = rollout;
  const isAnew = context.planInput.standbyLost === true ? ":anew" : "";
  return deps.durable(`rollout:r${input.release.number}:${phase.name}${isAnew}`, async () => {
    const startedAt = deps.now();
    if (context.calledAt !== undefined && context.plan?.phases[0] === phase) {
      for (const text of context.plan.notes) teller.tell({ kind: "note", text });
    }
    teller.tell({ kind: "phase-started", phase: phase.name, detail: describePhase(phase, input) });
    const result = await walkSteps(rollout, await inFullView(rollout, phase, context.planInput), context);
    const endedAt = deps.now();
    if (phase.name === "shift" && result.status === "ok") {
      teller.tell({ kind: "live", release: input.release.number, afterMs: endedAt - (context.calledAt ?? startedAt) });
    }
    if (result.status === "ok") for (const text of result.notes) teller.tell({ kind: "note", text });
    const durationMs = endedAt - startedAt;
    const told = result.status === "standby-lost" ? "ok" : result.status;
    teller.tell({ kind: "phase-ended", phase: phase.name, result: told, durationMs });
    await teller.flush();
    return { ...result, durationMs, endedAt };
  });
}

/** What else is there is looked at only when it is to be put away. */
async function inFullView({ input, deps }: Rollout, phase: RolloutPhase, planInput: PlanInput): Promise<RolloutPhase> {
  if (phase.name !== "settle" || input.kind === "deploy") return phase;
  return planSettling({ ...planInput, observed: await deps.target.observe(input.place) });
}

type WalkResult = Exclude<StepResult, { status: "ok" }> | { status: "ok"; notes: string[] } | { status: "canceled" };

async function walkSteps(rollout: Rollout, phase: RolloutPhase, context: PhaseContext): Promise<WalkResult> {
  const { deps } = rollout;
  // What settles or undoes a rollout is not interrupted: half of it would be worse than either end.
  const canCancel = phase.name !== "settle" && phase.name !== "retreat";
  const notes: string[] = [];
  try {
    for (const step of phase.steps) {
      if (canCancel && (await isCanceled(deps))) return { status: "canceled" };
      const result = await runStep(rollout, phase.name, step, canCancel ? deps.signal : undefined);
      if (result.status !== "ok") return result;
      notes.push(...(result.notes ?? []));
    }
    if (phase.name === "retreat") notes.push(...(await differences(rollout, context.planInput)));
    return { status: "ok", notes };
  } catch (error) {
    if (canCancel && deps.signal?.aborted === true) return { status: "canceled" };
    if (isBeforeShift(phase.name)) await cleanUpQuietly(rollout, context.planInput);
    throw error;
  }
}

/** From the shift on new tasks may have traffic, and removing them would cut it. */
function isBeforeShift(phase: PhaseName): boolean {
  return phase === "release-commands" || phase === "prove";
}

async function isCanceled(deps: RolloutDeps): Promise<boolean> {
  return deps.signal?.aborted === true || (await deps.isCanceled?.()) === true;
}

/** What of the previous release is not as it was before the rollout; empty when it has not noticed. */
async function differences({ input, deps }: Rollout, { observed }: PlanInput): Promise<string[]> {
  const number = input.previous?.release.number;
  if (number === undefined) return [];
  const after = await deps.target.observe(input.place);
  const stateOf = (all: ObservedService[]) =>
    new Map(all.filter((one) => one.release === number).flatMap((one) => one.tasks.map((t) => [t.name, t.state])));
  const now = stateOf(after);
  return [...stateOf(observed)]
    .filter(([name, state]) => state === "running" && now.get(name) !== "running")
    .map(([name]) => `${name} of the previous release is ${now.get(name) ?? "gone"}; it was running before.`);
}

/** The error that is on its way matters more than one of the clean-up, which reconciliation repeats later. */
async function cleanUpQuietly({ input, deps }: Rollout, planInput: PlanInput): Promise<void> {
  const isUntouched = planInput.observed.every((one) => one.release !== input.release.number);
  if (!isUntouched) return;
  await deps.target.stop(input.place, input.release.number).catch(() => undefined);
}

function newPlanInput(input: RolloutInput, observed: ObservedService[]): PlanInput {
  return {
    place: input.place,
    observed,
    release: input.release,
    ...(input.previous ? { previous: input.previous.release } : {}),
    kind: input.kind,
    bakeMs: input.bakeMs,
  };
}

function alreadyLive(release: number): RolloutOutcome {
  const notes = [`r${release} is live already; nothing was changed.`];
  return { status: "done", alreadyLive: true, liveAfterMs: 0, notes, phases: [] };
}

function describePhase(phase: RolloutPhase, input: RolloutInput): string {
  const release = `r${input.release.number}`;
  const counts = input.release.services.map((service) => `${service.name} ${service.count}`).join(", ");
  switch (phase.name) {
    case "release-commands":
      return `running the release commands of ${release}`;
    case "prove":
      return `starting ${release} (${counts}) and waiting until it is healthy`;
    case "shift":
      return phase.steps.some((step) => step.do === "wake")
        ? `waking ${release} and moving traffic to it`
        : `moving traffic to ${release}`;
    case "workers":
      return `starting the workers of ${release}`;
    case "bake":
      return `watching ${release} for ${formatDurationMs(input.bakeMs)}`;
    case "settle":
      return input.previous === undefined
        ? "removing what is no longer needed"
        : `draining r${input.previous.release.number} and keeping it as standby`;
    case "retreat":
      return input.previous === undefined
        ? `removing ${release}`
        : `keeping r${input.previous.release.number} and removing ${release}`;
    default:
      return assertNever(phase.name);
  }
}
