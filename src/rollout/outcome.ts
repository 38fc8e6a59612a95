import type { Problem } from "../shared/errors.ts";
import type { PhaseName } from "./plan.ts";
import type { Evidence, HealthProgress } from "./target.ts";

/** Beside those of the plan: before it begins, images are brought to where tasks fetch them. */
export type ToldPhase = PhaseName | "images";

/** What is told while a rollout runs, for people who watch. */
export type RolloutEvent =
  | { kind: "phase-started"; phase: ToldPhase; detail: string }
  | { kind: "phase-ended"; phase: ToldPhase; result: "ok" | "failed" | "canceled"; durationMs: number }
  | ({ kind: "health" } & Parameters<HealthProgress>[0])
  /** Nothing changed for a while, and the phase has not failed yet. */
  | { kind: "waiting"; phase: ToldPhase; forMs: number; detail: string }
  | { kind: "note"; text: string }
  /** New requests are answered by `release`; `afterMs` since the rollout was called. */
  | { kind: "live"; release: number; afterMs: number };

export type PhaseTime = { name: ToldPhase; durationMs: number };

/** How a rollout ended. A release that fails is a result; what kept us from finding out is thrown. Plain JSON. */
export type RolloutOutcome =
  | {
      status: "done";
      /** Nothing was done: the release served already. */
      alreadyLive: boolean;
      liveAfterMs: number;
      previous?: number;
      standby?: number;
      notes: string[];
      phases: PhaseTime[];
    }
  | {
      status: "failed";
      phase: PhaseName;
      reason: string;
      /** Set where the release is not to blame: what kept us from watching it to the end. */
      cause?: Problem;
      evidence: Evidence[];
      /** Traffic had moved to the new release before it failed. */
      trafficMoved: boolean;
      /** The previous release serves, as before. False when there was none. */
      rolledBack: boolean;
      notes: string[];
      phases: PhaseTime[];
    }
  | { status: "canceled"; trafficMoved: boolean; notes: string[]; phases: PhaseTime[] };
