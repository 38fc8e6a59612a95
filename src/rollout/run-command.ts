import { formatDurationMs } from "../shared/duration.ts";
import type { LogLine, LogSink } from "../shared/log-line.ts";
import type { Place, Release } from "./release.ts";
import type { Evidence, RolloutTarget, TaskVariables } from "./target.ts";

/** Why a release did not prove itself. */
export type Unproved = { reason: string; evidence: Evidence[] };

/** As many lines as fit one screen below the sentence that explains them. */
const LAST_LINES = 20;

/** Runs a release or verify command in a task of its own; undefined when it succeeded, else what went wrong with its last lines. */
export async function runCommand(
  on: { target: RolloutTarget; place: Place; release: Release; log: LogSink; signal?: AbortSignal },
  run: {
    key: string;
    title: string;
    service: string;
    command: string[];
    variables: TaskVariables;
    deadlineMs: number;
  },
): Promise<Unproved | undefined> {
  const lastLines: string[] = [];
  const log = (lines: LogLine[]) => {
    on.log(lines);
    lastLines.push(...lines.filter((line) => line.stream !== "meta").map((line) => line.text));
    lastLines.splice(0, lastLines.length - LAST_LINES);
  };
  const { title, ...once } = run;
  const ended = await on.target.runOnce(on.place, on.release, once, log, on.signal);
  if (ended.exitCode === 0 && !ended.timedOut) return undefined;
  const reason = `The ${title} \`${displayCommand(run.command)}\` of ${run.service} ${howItEnded(ended, run.deadlineMs)}.`;
  return {
    reason,
    evidence: [
      {
        task: run.key,
        service: run.service,
        summary: reason,
        state: "exited",
        exitCode: ended.exitCode,
        outOfMemory: ended.outOfMemory,
        probes: [],
        listening: [],
        lastLines,
      },
    ],
  };
}

function howItEnded(ended: { exitCode: number; outOfMemory: boolean; timedOut: boolean }, deadlineMs: number): string {
  if (ended.timedOut) return `did not end within ${formatDurationMs(deadlineMs)}`;
  if (ended.outOfMemory) return "was ended because it needed more memory than the service declares";
  return `exited with ${ended.exitCode}`;
}

/** As the user wrote it: a string was wrapped in `sh -c`. */
function displayCommand(command: string[]): string {
  const [shell, flag, line] = command;
  return command.length === 3 && shell === "sh" && flag === "-c" && line !== undefined ? line : command.join(" ");
}
