import { formatDurationMs } from "../shared/duration.ts";
import type { RolloutEvent } from "./outcome.ts";
import type { PhaseName } from "./plan.ts";
import type { HealthProgress } from "./target.ts";

/** Tells events in order without making the rollout wait: on the way to a rollback every millisecond counts. */
export type Teller = {
  tell(event: RolloutEvent): void;
  /** Resolves when everything told so far has arrived. */
  flush(): Promise<void>;
  /** Turns health progress into events, each state once, and says so when nothing changes for a while. Call `end`. */
  progress(phase: PhaseName): { report: HealthProgress; end(): void };
  /** Does what may take minutes without a word, and says now and then that it is still at it. */
  whileDoing<T>(phase: PhaseName, doing: string, work: () => Promise<T>): Promise<T>;
};

/** Long enough that a normal start never triggers it, short enough that nobody wonders whether it hangs. */
const QUIET_MS = 10_000;

export function newTeller(onEvent: (event: RolloutEvent) => Promise<void> | void): Teller {
  let last: Promise<void> = Promise.resolve();
  const tell = (event: RolloutEvent) => {
    last = last.then(() => onEvent(event)).catch(() => undefined);
  };
  return {
    tell,
    flush: () => last,
    progress: (phase) => newProgress(phase, tell),
    async whileDoing(phase, doing, work) {
      let forMs = 0;
      const timer = setInterval(() => {
        forMs += QUIET_MS;
        tell({ kind: "waiting", phase, forMs, detail: `${doing}: ${formatDurationMs(forMs)} so far` });
      }, QUIET_MS);
      return await work().finally(() => clearInterval(timer));
    },
  };
}

function newProgress(phase: PhaseName, tell: (event: RolloutEvent) => void): { report: HealthProgress; end(): void } {
  const states = new Map<string, string>();
  let quietForMs = 0;
  const timer = setInterval(() => {
    quietForMs += QUIET_MS;
    const waiting = `no change for ${formatDurationMs(quietForMs)}: ${[...states.values()].join(", ")}`;
    tell({ kind: "waiting", phase, forMs: quietForMs, detail: waiting });
  }, QUIET_MS);
  return {
    report(progress) {
      const { service, healthy, wanted, detail, waitsFor } = progress;
      const why = healthy >= wanted ? waitsFor : detail;
      const state = `${service} ${healthy}/${wanted} healthy${why === undefined ? "" : ` (${why})`}`;
      if (states.get(service) === state) return;
      states.set(service, state);
      quietForMs = 0;
      timer.refresh();
      tell({ kind: "health", ...progress });
    },
    end: () => clearInterval(timer),
  };
}
