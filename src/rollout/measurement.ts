import type { ObservedService } from "./target.ts";

/** What the tasks of one service of a release used and answered over a stretch of time. null is "not known", which is not zero. */
export type Measurement = {
  /** When it begins, in ms since 1970, and how much time it covers. */
  at: number;
  spanMs: number;
  /** Of what its running tasks were given. */
  cpuPercent: number | null;
  memoryPercent: number | null;
  /** Of services that serve traffic: what the tasks answered, how much of it with 4xx and 5xx, and how long that took. */
  requests: number | null;
  answers4xx: number | null;
  answers5xx: number | null;
  meanMs: number | null;
  p50Ms: number | null;
  p95Ms: number | null;
};

export type MeasuredTask = { name: string; cpuPercent: number | null; memoryMiB: number | null };

/** One service of one release. */
export type MeasuredService = {
  release: number;
  service: string;
  traffic: ObservedService["traffic"];
  running: number;
  /** Tasks that pass their check; null where nobody checks them: a worker without one, a paused task. */
  healthy: number | null;
  /** Of now; null where nothing is known of the last minutes. */
  latest: Measurement | null;
  /** Oldest first, at most one for each `everyMs`; none for a time of which nothing is known. */
  points: Measurement[];
  /** Where the runtime knows them one by one. */
  tasks: MeasuredTask[];
  /** Requests since `sinceMs` that no task answered, so that the router did, with an error; null where the source cannot tell. */
  unanswered: number | null;
};

export type Measured = {
  /** Of each point. */
  everyMs: number;
  /** Of what was before, nothing is known. */
  sinceMs: number;
  services: MeasuredService[];
  /** What is to be known of the figures, in sentences. */
  notes: string[];
};

/** What all tasks of one service of a release did lately. */
export type ServiceUse = {
  app: string;
  environment: string;
  service: string;
  release: number;
  /** That run or stand by. */
  tasks: number;
  /** Kept busy by all of them; null: not known. */
  cores: number | null;
  memoryBytes: number;
  memoryLimitBytes: number;
  requestsPerSecond: number | null;
  errorsPerSecond: number | null;
};

const NOTHING = {
  cpuPercent: null,
  memoryPercent: null,
  requests: null,
  answers4xx: null,
  answers5xx: null,
  meanMs: null,
  p50Ms: null,
  p95Ms: null,
} satisfies Omit<Measurement, "at" | "spanMs">;

export const nothingMeasured = (at: number, spanMs: number): Measurement => ({ at, spanMs, ...NOTHING });

/** Several stretches as one: shares weigh by time, times of answers by their number; percentiles of percentiles there are none. Undefined for none. */
export function mergeMeasurements(parts: readonly Measurement[]): Measurement | undefined {
  const [first] = parts;
  if (first === undefined) return undefined;
  if (parts.length === 1) return first;
  const weighed = (value: (one: Measurement) => number | null, weight: (one: Measurement) => number) => {
    let [sum, weights] = [0, 0];
    for (const one of parts) {
      const known = value(one);
      if (known === null || weight(one) === 0) continue;
      sum += known * weight(one);
      weights += weight(one);
    }
    return weights === 0 ? null : sum / weights;
  };
  const bySpan = (value: (one: Measurement) => number | null) => weighed(value, ({ spanMs }) => spanMs);
  return {
    ...nothingMeasured(
      first.at,
      parts.reduce((all, one) => all + one.spanMs, 0),
    ),
    cpuPercent: bySpan(({ cpuPercent }) => cpuPercent),
    memoryPercent: bySpan(({ memoryPercent }) => memoryPercent),
    requests: sumOf(parts, "requests"),
    answers4xx: sumOf(parts, "answers4xx"),
    answers5xx: sumOf(parts, "answers5xx"),
    meanMs: weighed(
      ({ meanMs }) => meanMs,
      ({ requests }) => requests ?? 0,
    ),
  };
}

/** The sum of what is known; null when nothing is. */
export function sumOf(parts: readonly Measurement[], of: "requests" | "answers4xx" | "answers5xx"): number | null {
  const known = parts.map((one) => one[of]).filter((one) => one !== null);
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0);
}

/** Measurements of any length as points of `everyMs` each, on the clock. */
export function toPoints(parts: readonly Measurement[], everyMs: number): Measurement[] {
  const buckets = new Map<number, Measurement[]>();
  for (const part of parts) {
    const at = Math.floor(part.at / everyMs) * everyMs;
    buckets.set(at, [...(buckets.get(at) ?? []), part]);
  }
  return [...buckets]
    .sort(([a], [b]) => a - b)
    .flatMap(([at, some]) => {
      const merged = mergeMeasurements(some);
      return merged === undefined ? [] : [{ ...merged, at }];
    });
}
