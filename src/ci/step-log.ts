import type { LogLine, LogSink } from "../shared/log-line.ts";
import type { StepOutcome, StepPlan, StepProgress } from "./executor.ts";
import { parseStepMarker, type StepMarker, splitOutput } from "./step-script.ts";

/** A line as a container wrote it, marker or not; `meta` is a remark of ours that came between its lines. */
export type ContainerLine = { stream: "out" | "err" | "meta"; at: number; text: string };

const KEPT_LINES = 20;

/** Lines and moments of a container's output, markers not counted as lines. `moments` undefined: those that belong to the lines. */
export type LogPlace = { lines: number; moments?: number };

/** What a step's container has said, as far as it has been read. */
export type StepLog = {
  take(lines: readonly ContainerLine[]): void;
  /** How far it has read; the same place in every reading of the same container. */
  place(): LogPlace;
  /** The script's own exit code, once it has ended. */
  scriptExit(): { exitCode: number; at: number } | undefined;
  /** True once nothing more can come. */
  isComplete(): boolean;
  /** `endedAt`, `exitCode`: for the last command, when the container ended without saying so. */
  commands(endedAt: number, exitCode: number): StepOutcome["commands"];
  lastLines(): string[];
};

/**
 * Sorts the container's output into lines for the user and markers, and times the commands by them. `from` is the place up to which the sink was
 * served before (by an earlier life of Shipway, or a stream that was cut): what is before it is read again, for the outcome, but not told again.
 */
export function newStepLog(
  step: Pick<StepPlan, "script">,
  nonce: string,
  from: LogPlace,
  log: LogSink,
  onProgress: (progress: StepProgress) => void = () => undefined,
): StepLog {
  const starts: { index: number; at: number }[] = [];
  const kept: string[] = [];
  let lines = 0;
  let moments = 0;
  let exit: { exitCode: number; at: number } | undefined;
  let outEnded = false;

  const commandAt = (index: number) => step.script[index] ?? "";
  const tell = (progress: StepProgress) => {
    const known = from.moments === undefined ? lines < from.lines : moments < from.moments;
    moments++;
    if (!known) onProgress(progress);
  };

  function endCommand(at: number, exitCode: number): void {
    const last = starts.at(-1);
    if (!last) return;
    const durationMs = Math.max(0, at - last.at);
    tell({ kind: "commandEnded", index: last.index, command: commandAt(last.index), at, durationMs, exitCode });
  }

  function takeMarker(marker: StepMarker, at: number): void {
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
        const output = line.stream === "out" ? splitOutput(line.text, nonce) : { lines: [line.text], ended: false };
        outEnded ||= output.ended;
        for (const text of output.lines) {
          if (line.stream !== "meta") kept.push(text);
          if (kept.length > KEPT_LINES) kept.shift();
          if (lines++ >= from.lines) fresh.push({ at: line.at, stream: line.stream, text });
        }
      }
      if (fresh.length > 0) log(fresh);
    },
    place: () => (lines < from.lines ? from : { lines, moments }),
    scriptExit: () => exit,
    isComplete: () => exit !== undefined && outEnded,
    commands: (endedAt, exitCode) =>
      starts.map(({ index, at }, position) => {
        const next = starts[position + 1];
        const end = next?.at ?? exit?.at ?? endedAt;
        return { command: commandAt(index), durationMs: Math.max(0, end - at), exitCode: next ? 0 : exitCode };
      }),
    lastLines: () => [...kept],
  };
}
