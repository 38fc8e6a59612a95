import { formatDurationMs } from "../shared/duration.ts";
import type { StepOutcome, StepPlan } from "./executor.ts";
import type { StepLog } from "./step-log.ts";

/** What the engine says of an ended container. `scriptEnded`: it is known otherwise than by the output that the script came to its end. */
export type EndState = { exitCode: number; outOfMemory: boolean; endedAt: number; scriptEnded?: boolean };

/** A step and why it was stopped, if it was. */
export type EndedStep = { step: StepPlan; startedAt: number; now: () => number; canceled: boolean; timedOut: boolean };

export function outcomeOf(
  { step, startedAt, now }: Pick<EndedStep, "step" | "startedAt" | "now">,
  rest: Partial<StepOutcome> & Pick<StepOutcome, "status">,
): StepOutcome {
  return { id: step.id, name: step.name, startedAt, endedAt: now(), commands: [], lastLines: [], ...rest };
}

/** The outcome of a step whose script was started; `state` is undefined when its container was removed. */
export function conclude(run: EndedStep, log: StepLog, state: EndState | undefined): StepOutcome {
  const { step, canceled, timedOut } = run;
  // The container's own exit code is the script's, and unlike a marker it cannot be written by the script.
  const exitCode = state?.exitCode ?? 137;
  const endedAt = state && Number.isFinite(state.endedAt) ? state.endedAt : run.now();
  const commands = log.commands(endedAt, exitCode);
  const common = { endedAt, commands, lastLines: log.lastLines() };
  if (canceled) return outcomeOf(run, { ...common, status: "canceled", reason: "canceled" });
  if (timedOut) return outcomeOf(run, { ...common, status: "failed", exitCode, reason: tooLong(step) });
  if (!state) {
    const reason = "the step's container was removed while it ran: start the pipeline again";
    return outcomeOf(run, { ...common, status: "failed", reason });
  }
  if (hasEnded(log, state) && exitCode === 0) return outcomeOf(run, { ...common, status: "passed", exitCode });
  const failedCommand = commands.at(-1)?.command;
  return outcomeOf(run, {
    ...common,
    status: "failed",
    exitCode,
    ...(failedCommand === undefined ? {} : { failedCommand }),
    reason: whyFailed(step, log, exitCode, state, failedCommand),
  });
}

function whyFailed(
  step: StepPlan,
  log: StepLog,
  exitCode: number,
  state: EndState,
  failedCommand: string | undefined,
): string {
  const what = failedCommand === undefined ? "the script" : `\`${firstLine(failedCommand)}\``;
  if (state.outOfMemory) {
    return `${what} ran out of memory (the step has ${step.memoryMiB} MB): give the step a larger \`size\` in its definition`;
  }
  return hasEnded(log, state)
    ? `${what} exited with ${exitCode}`
    : `the step's container was stopped during ${what} (exit code ${exitCode})`;
}

const hasEnded = (log: StepLog, state: EndState): boolean =>
  log.scriptExit() !== undefined || state.scriptEnded === true;

function firstLine(command: string): string {
  const [first = "", ...rest] = command.trim().split("\n");
  return rest.length > 0 ? `${first} …` : first;
}

export function tooLong(step: StepPlan): string {
  return `ran longer than ${formatDurationMs(step.maxTimeMs)} (max-time)`;
}
