import type { Problem } from "../shared/errors.ts";
import type { PhaseName } from "./plan.ts";
import type { Evidence } from "./target.ts";

/** What is told while a rollout runs, for people who watch. */
export type RolloutEvent =
  | { kind: "phase-started"; phase: PhaseName; detail: string }
  | { kind: "phase-ended"; phase: PhaseName; result: "ok" | "failed" | "canceled"; durationMs: number }
  | { kind: "health"; service: string; healthy: number; wanted: number; detail: string }
  /** Nothing changed for a while, and the phase has not failed yet. */
  | { kind: "waiting"; phase: PhaseName; forMs: number; detail: string }
  | { kind: "note"; text: string }
  /** New requests are answered by `release`; `afterMs` since the rollout was called. */
  | { kind: "live"; release: number; afterMs: number };

export type PhaseTime = { name: PhaseName; durationMs: number };

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
