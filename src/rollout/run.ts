import { assertNever } from "../shared/assert-never.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { VerifySpec } from "../spec/app-spec.ts";
import type { PhaseTime, RolloutEvent, RolloutOutcome } from "./outcome.ts";
import {
  type PhaseName,
  type PlanInput,
  planRetreat,
  planRollout,
  type RolloutPhase,
  type RolloutPlan,
  type RolloutStep,
} from "./plan.ts";
import { type Place, type Release, type ReleaseService, servesTraffic } from "./release.ts";
import { runCommand, type Unproved } from "./run-command.ts";
import type { ObservedService, RolloutTarget, RunnableRelease, TaskVariables } from "./target.ts";
import { newTeller, type Teller } from "./teller.ts";

export type RolloutInput = {
  place: Place;
  /** Unique per deployment: a command run of an earlier deployment of the same release is not taken for one of this. */
  deploymentId: string;
  kind: "deploy" | "rollback";
  release: Release;
  /** The release that serves now, with the variables to start its tasks with should they have to be restored. */
  previous?: RunnableRelease;
  verify: VerifySpec[];
  bakeMs: number;
};

export type RolloutDeps = {
  target: RolloutTarget;
  /** Variables of the new release by service, those of backing services included. */
  variables: Record<string, TaskVariables>;
  /** Runs `fn` unless a step of that name finished before, whose result is returned instead. Results are plain JSON. */
  durable: <T>(name: string, fn: () => Promise<T>) => Promise<T>;
  /** Told in order. What it throws is dropped: telling never stops a rollout. */
  onEvent: (event: RolloutEvent) => Promise<void> | void;
  log: (logName: string) => LogSink;
  /** Cancels: asked for between phases (`isCanceled`) and inside them (`signal`). After traffic moved it goes back. */
  signal?: AbortSignal;
  isCanceled?: () => Promise<boolean>;
  now: () => number;
};

type PhaseResult = { durationMs: number; endedAt: number } & (
  | { status: "ok"; notes: string[] }
  | ({ status: "failed" } & Unproved)
  | { status: "canceled" }
  | { status: "standby-lost" }
);
type StepResult = { status: "ok"; notes?: string[] } | ({ status: "failed" } & Unproved) | { status: "standby-lost" };

/** Everything the steps of one rollout share. */
type Rollout = { input: RolloutInput; deps: RolloutDeps; teller: Teller };

/**
 * Puts a release into service as `planRollout` decides, or leaves the environment as it was and says why.
 * Every phase is a durable step; calling it again with the same input after a crash goes on from the last finished one.
 * @throws what the target throws (Docker gone); until traffic moved, what was started is removed first where that is possible
 */
export async function rollOut(input: RolloutInput, deps: RolloutDeps): Promise<RolloutOutcome> {
  const calledAt = deps.now();
  const seen = await deps.durable(`rollout:r${input.release.number}:observe`, async () => ({
    calledAt,
    observed: await deps.target.observe(input.place),
  }));
  const planInput = newPlanInput(input, seen.observed);
  const plan = planRollout(planInput);
  if (plan.status === "already-live") return alreadyLive(input.release.number);
  const rollout: Rollout = { input, deps, teller: newTeller(deps.onEvent) };
  return await walk(rollout, planInput, plan, seen.calledAt);
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
    const result = await runPhase(rollout, phase, { plan, calledAt, trafficMoved, planInput });
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
    const result = await walkSteps(rollout, phase, context);
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

async function runStep(
  rollout: Rollout,
  phase: PhaseName,
  step: RolloutStep,
  signal: AbortSignal | undefined,
): Promise<StepResult> {
  const { input, deps } = rollout;
  const { target } = deps;
  const { place, release } = input;
  switch (step.do) {
    case "prepare":
      await withDeadline("Preparing the network and the router", target.prepare(place, release));
      return { status: "ok" };
    case "run-release-command":
      return await runReleaseCommand(rollout, step, signal);
    case "make-way":
      await withDeadline("Stopping tasks", target.stop(place, step.release, step.services), stopDeadlineMs(input));
      return { status: "ok" };
    case "start":
      await startServices(rollout, { release, variables: deps.variables }, step.services);
      return { status: "ok" };
    case "await-healthy":
      return await awaitHealthy(rollout, phase, release, step, signal);
    case "wake": {
      const { missing } = await withDeadline("Waking the standby", target.wake(place, release));
      return missing.length > 0 ? { status: "standby-lost" } : { status: "ok" };
    }
    case "shift":
      await withDeadline("Moving traffic", target.shiftTraffic(place, release));
      return { status: "ok" };
    case "bake":
      return await bake(rollout, step, signal);
    case "drain":
      return await drain(rollout, step.deadlineMs);
    case "park":
      await withDeadline("Parking", target.park(place, releaseOf(input, step.release)), stopDeadlineMs(input));
      return { status: "ok" };
    case "stop":
      await withDeadline("Stopping tasks", target.stop(place, step.release), stopDeadlineMs(input));
      return { status: "ok" };
    case "restore":
      return await restore(rollout, phase, step);
    case "shift-back":
      if (input.previous) await withDeadline("Moving traffic back", target.shiftTraffic(place, input.previous.release));
      return { status: "ok" };
    default:
      return assertNever(step);
  }
}

async function runReleaseCommand(
  rollout: Rollout,
  step: RolloutStep & { do: "run-release-command" },
  signal: AbortSignal | undefined,
): Promise<StepResult> {
  const { input, deps } = rollout;
  const command = serviceOf(input.release, step.service).releaseCommand ?? [];
  const failure = await runCommand(
    {
      target: deps.target,
      place: input.place,
      release: input.release,
      log: deps.log(`release-command:${step.service}`),
      ...(signal ? { signal } : {}),
    },
    {
      key: `${input.deploymentId}:release-command:${step.service}`,
      title: "release command",
      service: step.service,
      command,
      variables: variablesOf(deps.variables, step.service),
      deadlineMs: step.deadlineMs,
    },
  );
  return failure === undefined ? { status: "ok" } : { status: "failed", ...failure };
}

async function startServices(rollout: Rollout, runnable: RunnableRelease, names: string[]): Promise<void> {
  const { target } = rollout.deps;
  const { place } = rollout.input;
  await withDeadline(
    "Starting tasks",
    Promise.all(
      names.map((name) => {
        const service = serviceOf(runnable.release, name);
        return target.startService(place, runnable.release, service, variablesOf(runnable.variables, name));
      }),
    ),
    START_DEADLINE_MS,
  );
}

async function awaitHealthy(
  rollout: Rollout,
  phase: PhaseName,
  release: Release,
  step: { services: string[]; deadlineMs: number },
  signal: AbortSignal | undefined,
): Promise<StepResult> {
  const { target } = rollout.deps;
  const progress = rollout.teller.progress(phase);
  try {
    const report = await target.awaitHealthy(
      rollout.input.place,
      release,
      step.services.map((name) => serviceOf(release, name)),
      { deadlineMs: step.deadlineMs, onProgress: progress.report, ...(signal ? { signal } : {}) },
    );
    if (report.status === "healthy") return { status: "ok", notes: report.notes };
    return { status: "failed", reason: report.reason, evidence: report.evidence };
  } finally {
    progress.end();
  }
}

/** Verify commands run while the new tasks are watched; whichever fails first ends the other. */
async function bake(
  rollout: Rollout,
  step: RolloutStep & { do: "bake" },
  signal: AbortSignal | undefined,
): Promise<StepResult> {
  const failedOnce = new AbortController();
  const both = signal ? AbortSignal.any([signal, failedOnce.signal]) : failedOnce.signal;
  const services = step.services.map((name) => serviceOf(rollout.input.release, name));
  const endBoth = async (work: Promise<StepResult>): Promise<StepResult> => {
    const result = await work;
    if (result.status !== "ok") failedOnce.abort(new Error("the other half of the bake failed"));
    return result;
  };
  const halves = await Promise.allSettled([
    endBoth(watch(rollout, services, step.forMs, both)),
    endBoth(verifyAll(rollout, both)),
  ]);
  const failed = halves.find((half) => half.status === "fulfilled" && half.value.status !== "ok");
  if (failed?.status === "fulfilled") return failed.value;
  for (const half of halves) if (half.status === "rejected") throw half.reason;
  // Verify commands may have taken longer than the bake time: one more look.
  return rollout.input.verify.length > 0 ? await watch(rollout, services, 0, signal) : { status: "ok" };
}

async function watch(
  { input, deps }: Rollout,
  services: ReleaseService[],
  forMs: number,
  signal: AbortSignal | undefined,
): Promise<StepResult> {
  const report = await deps.target.watchHealth(input.place, input.release, services, {
    forMs,
    ...(signal ? { signal } : {}),
  });
  if (report.status === "healthy") return { status: "ok" };
  return { status: "failed", reason: report.reason, evidence: report.evidence };
}

/** Only deploys are verified: a release that is returned to passed when it was deployed, and people wait for it. */
async function verifyAll({ input, deps }: Rollout, signal: AbortSignal): Promise<StepResult> {
  const commands = input.kind === "deploy" ? input.verify : [];
  for (const [index, verify] of commands.entries()) {
    const failure = await runCommand(
      {
        target: deps.target,
        place: input.place,
        release: input.release,
        log: deps.log(`verify:${index + 1}`),
        signal,
      },
      {
        key: `${input.deploymentId}:verify:${index + 1}`,
        title: "verify command",
        service: verify.service,
        command: verify.command,
        variables: withUrl(variablesOf(deps.variables, verify.service), verifyUrl(input.release, verify.service)),
        deadlineMs: verify.timeout,
      },
    );
    if (failure !== undefined) return { status: "failed", ...failure };
  }
  return { status: "ok" };
}

async function drain({ input, deps }: Rollout, deadlineMs: number): Promise<StepResult> {
  const { cut } = await withDeadline(
    "Draining",
    deps.target.awaitDrained(input.place, input.release.number, deadlineMs),
    deadlineMs + CALL_DEADLINE_MS,
  );
  if (cut === 0) return { status: "ok" };
  return {
    status: "ok",
    notes: [`${cut} requests to the previous release were still open after ${formatDurationMs(deadlineMs)}.`],
  };
}

async function restore(rollout: Rollout, phase: PhaseName, step: RolloutStep & { do: "restore" }): Promise<StepResult> {
  const { previous } = rollout.input;
  if (previous === undefined) return { status: "ok" };
  await startServices(rollout, previous, step.services);
  const result = await awaitHealthy(rollout, phase, previous.release, step, undefined);
  if (result.status !== "failed") return result;
  return { status: "ok", notes: [`The previous release did not come back in full: ${result.reason}`] };
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

/** One call to the target that only asks the engine or the router. Both answer within a second; this is for one that hangs. */
const CALL_DEADLINE_MS = 60_000;
/** Fifty tasks of 0.3 s each on a loaded machine, with room for a slow disk. */
const START_DEADLINE_MS = 180_000;

function stopDeadlineMs(input: RolloutInput): number {
  const releases = [input.release, ...(input.previous ? [input.previous.release] : [])];
  const timeouts = releases.flatMap((release) => release.services.map((service) => service.stopTimeoutMs));
  return CALL_DEADLINE_MS + Math.max(0, ...timeouts);
}

/** @throws ROLLOUT_STALLED when `work` takes longer; the work itself cannot be taken back, so the same call must be repeatable */
async function withDeadline<T>(what: string, work: Promise<T>, deadlineMs: number = CALL_DEADLINE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        fail("ROLLOUT_STALLED", {
          message: `${what} did not end within ${formatDurationMs(deadlineMs)}: the engine accepted the request and never answered.`,
          hint: "Look at `docker ps` and the engine's log, then run `shipway doctor`.",
        }),
      );
    }, deadlineMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
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

function releaseOf(input: RolloutInput, number: number): Release {
  if (input.release.number === number) return input.release;
  if (input.previous?.release.number === number) return input.previous.release;
  throw new Error(`the plan names r${number}, which is neither the new nor the previous release`);
}

function serviceOf(release: Release, name: string): ReleaseService {
  const service = release.services.find((one) => one.name === name);
  if (service === undefined) throw new Error(`r${release.number} has no service ${name}`);
  return service;
}

function variablesOf(variables: Record<string, TaskVariables>, service: string): TaskVariables {
  return variables[service] ?? { env: {}, secrets: {} };
}

/** A verify command finds the service it belongs to, or else the first that has a port, through the router. */
function verifyUrl(release: Release, service: string): string | undefined {
  const own = release.services.find((one) => one.name === service && servesTraffic(one));
  const target = own ?? release.services.find(servesTraffic);
  return target === undefined ? undefined : `http://${target.name}`;
}

function withUrl(variables: TaskVariables, url: string | undefined): TaskVariables {
  return url === undefined ? variables : { ...variables, env: { ...variables.env, SHIPWAY_URL: url } };
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
