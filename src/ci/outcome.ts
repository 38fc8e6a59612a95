import type { StepOutcome } from "./executor.ts";

/** How a pipeline run ended. `none`: the file has nothing for this ref, or CI was skipped on request. */
export type CiOutcome =
  | { status: "passed"; steps: StepOutcome[]; durationMs: number }
  | { status: "failed"; steps: StepOutcome[]; durationMs: number; reason: string }
  | { status: "canceled"; steps: StepOutcome[]; durationMs: number }
  | { status: "none"; reason: string };
