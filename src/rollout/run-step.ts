import { assertNever } from "../shared/assert-never.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import type { LogSink } from "../shared/log-line.ts";
import type { VerifySpec } from "../spec/app-spec.ts";
import type { RolloutEvent } from "./outcome.ts";
import type { PhaseName, RolloutStep } from "./plan.ts";
import { type Place, type Release, type ReleaseService, requireService, servesTraffic } from "./release.ts";
import { runCommand, type Unproved } from "./run-command.ts";
import type { RolloutTarget, RunnableRelease, TaskVariables } from "./target.ts";
import type { Teller } from "./teller.ts";

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
  /** Backing services run and answer. Called before tasks are started, not before a standby is woken. */
  ensureBacking?: (signal: AbortSignal | undefined) => Promise<void>;
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

export type StepResult =
  | { status: "ok"; notes?: string[] }
  | ({ status: "failed" } & Unproved)
  | { status: "standby-lost" };

/** Everything the steps of one rollout share. */
export type Rollout = { input: RolloutInput; deps: RolloutDeps; teller: Teller };

/** Does one step of the plan. What the release does wrong is a result; aborting `signal` rejects. */
export async function runStep(
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
      await deps.ensureBacking?.(signal);
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
  const command = requireService(input.release, step.service).releaseCommand ?? [];
  const on = {
    target: deps.target,
    place: input.place,
    release: input.release,
    log: deps.log(`release-command:${step.service}`),
    ...(signal ? { signal } : {}),
  };
  const run = {
    key: `${input.deploymentId}:release-command:${step.service}`,
    title: "release command",
    service: step.service,
    command,
    variables: variablesOf(deps.variables, step.service),
    deadlineMs: step.deadlineMs,
  };
  const doing = `the release command of ${step.service} runs`;
  const failure = await rollout.teller.whileDoing("release-commands", doing, () => runCommand(on, run));
  return failure === undefined ? { status: "ok" } : { status: "failed", ...failure };
}

async function startServices(rollout: Rollout, runnable: RunnableRelease, names: string[]): Promise<void> {
  const { target } = rollout.deps;
  const { place } = rollout.input;
  await withDeadline(
    "Starting tasks",
    Promise.all(
      names.map((name) => {
        const service = requireService(runnable.release, name);
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
      step.services.map((name) => requireService(release, name)),
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
  const services = step.services.map((name) => requireService(rollout.input.release, name));
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
        variables: withUrl(variablesOf(deps.variables, verify.service), verifyUrl(deps.target, input, verify.service)),
        deadlineMs: verify.timeout,
      },
    );
    if (failure !== undefined) return { status: "failed", ...failure };
  }
  return { status: "ok" };
}

async function drain({ input, deps }: Rollout, deadlineMs: number): Promise<StepResult> {
  const { stillOpen } = await withDeadline(
    "Draining",
    deps.target.awaitDrained(input.place, input.release.number, deadlineMs),
    deadlineMs + CALL_DEADLINE_MS,
  );
  if (stillOpen === 0) return { status: "ok" };
  return {
    status: "ok",
    notes: [
      `${stillOpen} requests to the previous release were still open after ${formatDurationMs(deadlineMs)}; their tasks are parked when they have ended.`,
    ],
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

function releaseOf(input: RolloutInput, number: number): Release {
  if (input.release.number === number) return input.release;
  if (input.previous?.release.number === number) return input.previous.release;
  throw new Error(`the plan names r${number}, which is neither the new nor the previous release`);
}

function variablesOf(variables: Record<string, TaskVariables>, service: string): TaskVariables {
  return variables[service] ?? { env: {}, secrets: {} };
}

/** A verify command finds the service it belongs to, or else the first that has a port, through the router. */
function verifyUrl(target: RolloutTarget, { place, release }: RolloutInput, service: string): string | undefined {
  const own = release.services.find((one) => one.name === service && servesTraffic(one));
  const asked = own ?? release.services.find(servesTraffic);
  return asked === undefined ? undefined : target.addressOf(place, asked);
}

function withUrl(variables: TaskVariables, url: string | undefined): TaskVariables {
  return url === undefined ? variables : { ...variables, env: { ...variables.env, SHIPWAY_URL: url } };
}
