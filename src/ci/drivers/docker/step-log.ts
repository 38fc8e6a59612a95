import type { LogLine, LogSink } from "../../../shared/log-line.ts";
import type { StepOutcome, StepPlan, StepProgress } from "../../executor.ts";
import { parseStepMarker, type StepMarker } from "../../step-script.ts";
import type { ContainerLine } from "./follow-logs.ts";

const KEPT_LINES = 20;

/** What a step's container has said, as far as it has been read. */
export type StepLog = {
  take(lines: readonly ContainerLine[]): void;
  /** Lines read, markers not counted; the same for every reading of the same container. */
  lines(): number;
  /** The script's own exit code, once it has ended. */
  scriptExit(): { exitCode: number; at: number } | undefined;
  /** True once nothing more can come. */
  isComplete(): boolean;
  /** `endedAt`, `exitCode`: for the last command, when the container ended without saying so. */
  commands(endedAt: number, exitCode: number): StepOutcome["commands"];
  lastLines(): string[];
};

/**
 * Sorts the container's output into lines for the user and markers, and times the commands by them. `skip` is how many lines the sink took before a
 * crash: they and what belongs to them are read again, for the outcome, but not told again.
 */
export function newStepLog(
  step: Pick<StepPlan, "script" | "afterScript">,
  nonce: string,
  skip: number,
  log: LogSink,
  onProgress: (progress: StepProgress) => void = () => undefined,
): StepLog {
  const starts: { index: number; at: number }[] = [];
  const kept: string[] = [];
  let lines = 0;
  let exit: { exitCode: number; at: number } | undefined;
  let afterEnded = false;

  const commandAt = (index: number) => step.script[index] ?? "";
  const tell = (progress: StepProgress) => {
    if (lines >= skip) onProgress(progress);
  };

  function endCommand(at: number, exitCode: number): void {
    const last = starts.at(-1);
    if (!last) return;
    const durationMs = Math.max(0, at - last.at);
    tell({ kind: "commandEnded", index: last.index, command: commandAt(last.index), at, durationMs, exitCode });
  }

  function takeMarker(marker: StepMarker, at: number): void {
    if (marker.kind === "afterEnd") afterEnded = true;
    if (marker.kind === "command") {
      endCommand(at, 0);
      starts.push({ index: marker.index, at });
      tell({ kind: "commandStarted", index: marker.index, command: commandAt(marker.index), at });
    }
    if (marker.kind === "scriptEnd") {
      endCommand(at, marker.exitCode);
      exit = { exitCode: marker.exitCode, at };
    }
  }

  return {
    take(batch) {
      const fresh: LogLine[] = [];
      for (const line of batch) {
        const marker = line.stream === "err" ? parseStepMarker(line.text, nonce) : undefined;
        if (marker) {
          takeMarker(marker, line.at);
          continue;
        }
        kept.push(line.text);
        if (kept.length > KEPT_LINES) kept.shift();
        if (lines++ >= skip) fresh.push({ at: line.at, stream: line.stream, text: line.text });
      }
      if (fresh.length > 0) log(fresh);
    },
    lines: () => lines,
    scriptExit: () => exit,
    isComplete: () => exit !== undefined && (afterEnded || step.afterScript.length === 0),
    commands: (endedAt, exitCode) =>
      starts.map(({ index, at }, position) => {
        const next = starts[position + 1];
        const end = next?.at ?? exit?.at ?? endedAt;
        return { command: commandAt(index), durationMs: Math.max(0, end - at), exitCode: next ? 0 : exitCode };
      }),
    lastLines: () => [...kept],
  };
}
