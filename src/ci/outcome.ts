import type { Gate, StepOutcome } from "./executor.ts";

/** How a pipeline run ended. `none`: the file has nothing for this ref, or CI was skipped on request. */
export type CiOutcome =
  | { status: "passed"; steps: StepOutcome[]; durationMs: number }
  | { status: "failed"; steps: StepOutcome[]; durationMs: number; reason: string }
  | { status: "canceled"; steps: StepOutcome[]; durationMs: number }
  /** All that starts by itself has passed, and the rest waits for somebody. */
  | { status: "paused"; steps: StepOutcome[]; durationMs: number; gates: Gate[] }
  | { status: "none"; reason: string };
