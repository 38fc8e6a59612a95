import pLimit, { type LimitFunction } from "p-limit";
import { sleep } from "../shared/until.ts";

export type Visit = {
  /** Whom it is to: one visit at a time. */
  key: string;
  /** Visits of one lane share what may be slow, so they wait for each other and for no other lane. */
  lane: string;
  /** Resolves to how soon it should be made again at the earliest. */
  make(): Promise<{ againMs: number }>;
};

export type Visits = {
  /** Begins the visits that are due and not under way still. Resolves when those have ended, were skipped or are late; never rejects. */
  begin(visits: Visit[]): Promise<void>;
  /** Begins no other, and waits for those under way, none longer than its deadline. */
  stop(): Promise<void>;
};

/**
 * Makes visits, `atOnce` in each lane. One that takes longer than `deadlineMs` is told as late and goes on by itself: it makes room for the others, and is
 * not made a second time beside itself. What it throws is told.
 */
export function newVisits(options: {
  atOnce: number;
  deadlineMs: number;
  onError(key: string, error: unknown): void;
  onLate(key: string): void;
  now?: () => number;
}): Visits {
  const { atOnce, deadlineMs, onError, onLate, now = Date.now } = options;
  const lanes = new Map<string, LimitFunction>();
  const underWay = new Map<string, Promise<void>>();
  const dueAt = new Map<string, number>();
  let isStopped = false;

  const laneOf = (name: string): LimitFunction => {
    const known = lanes.get(name) ?? pLimit(atOnce);
    lanes.set(name, known);
    return known;
  };
  const make = async ({ key, make }: Visit): Promise<void> => {
    if (isStopped) return;
    const done = make().then(
      ({ againMs }) => void dueAt.set(key, now() + againMs),
      (error: unknown) => onError(key, error),
    );
    // Whatever becomes of the room it had in its lane, it is under way until it has ended.
    const whole = done.finally(() => underWay.delete(key));
    underWay.set(key, whole);
    await within(deadlineMs, whole, () => onLate(key));
  };
  return {
    async begin(visits) {
      const due = visits.filter(({ key }) => !underWay.has(key) && (dueAt.get(key) ?? 0) <= now());
      const begun = due.map((visit) => {
        const queued = laneOf(visit.lane)(() => make(visit));
        underWay.set(visit.key, queued);
        return queued;
      });
      const listed = new Set(visits.map(({ key }) => key));
      for (const key of dueAt.keys()) if (!listed.has(key)) dueAt.delete(key);
      await Promise.all(begun);
    },
    async stop() {
      isStopped = true;
      await within(deadlineMs, Promise.all([...underWay.values()]), () => undefined);
    },
  };
}

/** Waits for `work`, which does not reject, and no longer than that. */
async function within(deadlineMs: number, work: Promise<unknown>, onLate: () => void): Promise<void> {
  const inTime = new AbortController();
  const late = sleep(deadlineMs, inTime.signal).then(onLate, () => undefined);
  await Promise.race([work, late]);
  inTime.abort();
}
