import type { MetricDataQuery } from "@aws-sdk/client-cloudwatch";
import { type Measurement, nothingMeasured } from "../../../measurement.ts";
import type { Slot } from "../account/slots.ts";

/** One call asks for at most 500 metrics (Amazon CloudWatch API, GetMetricData). */
export const QUERIES_A_CALL = 500;

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** What of a slot is asked for, each by its namespace, metric and statistic. */
const USE = {
  cpu: ["AWS/ECS", "CPUUtilization", "Average"],
  memory: ["AWS/ECS", "MemoryUtilization", "Average"],
} as const;
const ANSWERS = {
  requests: ["AWS/ApplicationELB", "RequestCount", "Sum"],
  answers4xx: ["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count", "Sum"],
  answers5xx: ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum"],
  mean: ["AWS/ApplicationELB", "TargetResponseTime", "Average"],
  p50: ["AWS/ApplicationELB", "TargetResponseTime", "p50"],
  p95: ["AWS/ApplicationELB", "TargetResponseTime", "p95"],
  // Each node of the load balancer has its own opinion: the worst one counts.
  healthy: ["AWS/ApplicationELB", "HealthyHostCount", "Minimum"],
} as const;

type Figure = keyof typeof USE | keyof typeof ANSWERS;
/** Values by their time, in ms since 1970. */
export type Series = Partial<Record<Figure, Map<number, number>>>;

export type MetricWindow = { fromMs: number; toMs: number; periodMs: number };

/**
 * Minutes for some hours, more for longer: CloudWatch keeps minutes for 15 days and 5 minutes for 63. The minute that is under way is left out, since it
 * would look like a drop.
 */
export function windowOf(sinceMs: number, nowMs: number): MetricWindow {
  const spanMs = nowMs - sinceMs;
  const periodMs = spanMs <= 4 * HOUR_MS ? MINUTE_MS : spanMs <= 24 * HOUR_MS ? 5 * MINUTE_MS : HOUR_MS;
  const down = (ms: number) => Math.floor(ms / periodMs) * periodMs;
  const toMs = Math.max(down(nowMs), down(sinceMs) + periodMs);
  return { fromMs: Math.min(down(sinceMs), toMs - periodMs), toMs, periodMs };
}

/** The queries of one slot; `id` begins their ids. Names of dimensions as in the Amazon ECS and Elastic Load Balancing guides. */
export function queriesOf(
  id: string,
  slot: Pick<Slot, "serviceName" | "targetGroup">,
  at: { cluster: string; listener: string; periodMs: number },
): MetricDataQuery[] {
  const ofService = [
    { Name: "ClusterName", Value: at.cluster.split("/").at(-1) },
    { Name: "ServiceName", Value: slot.serviceName },
  ];
  const ofGroup = slot.targetGroup && [
    { Name: "LoadBalancer", Value: loadBalancerOf(at.listener) },
    { Name: "TargetGroup", Value: slot.targetGroup.split(":").at(-1) },
  ];
  const query = (figure: string, [Namespace, MetricName, Stat]: readonly string[], Dimensions: typeof ofService) => ({
    Id: `${id}_${figure}`,
    MetricStat: { Metric: { Namespace, MetricName, Dimensions }, Period: at.periodMs / 1_000, Stat },
  });
  return [
    ...Object.entries(USE).map(([figure, metric]) => query(figure, metric, ofService)),
    ...(ofGroup ? Object.entries(ANSWERS).map(([figure, metric]) => query(figure, metric, ofGroup)) : []),
  ];
}

/** `app/NAME/ID` of `arn:…:listener/app/NAME/ID/ID`. */
const loadBalancerOf = (listener: string): string =>
  listener.split(":listener/").at(-1)?.split("/").slice(0, 3).join("/") ?? "";

export const figureOf = (queryId: string): Figure => queryId.slice(queryId.indexOf("_") + 1) as Figure;

/** A measurement for each time of which anything is known, oldest first; nothing of before `sinceMs`, which may be another release's. */
export function toMeasurements(series: Series, { periodMs }: MetricWindow, sinceMs: number): Measurement[] {
  const times = new Set(Object.values(series).flatMap((values) => [...values.keys()]));
  const at = (figure: Figure, time: number) => series[figure]?.get(time) ?? null;
  const ms = (figure: Figure, time: number) => {
    const seconds = at(figure, time);
    return seconds === null ? null : seconds * 1_000;
  };
  return [...times]
    .filter((time) => time >= sinceMs)
    .sort((a, b) => a - b)
    .map((time) => {
      const requests = at("requests", time);
      // Where requests are counted, an answer class without a count had none.
      const none = requests === null ? null : 0;
      return {
        ...nothingMeasured(time, periodMs),
        cpuPercent: at("cpu", time),
        memoryPercent: at("memory", time),
        requests,
        answers4xx: at("answers4xx", time) ?? none,
        answers5xx: at("answers5xx", time) ?? none,
        meanMs: ms("mean", time),
        p50Ms: ms("p50", time),
        p95Ms: ms("p95", time),
      };
    });
}

/** Figures arrive minutes late, and each at its own time. What is older than this is not now. */
const LATELY_MS = 5 * MINUTE_MS;

/** The newest that is known: of use and of answers each by itself; null when nothing is, of late. */
export function latestOf(points: readonly Measurement[], { toMs, periodMs }: MetricWindow): Measurement | null {
  const lately = points.filter((one) => one.at >= toMs - Math.max(LATELY_MS, periodMs));
  const use = lately.findLast((one) => one.cpuPercent !== null || one.memoryPercent !== null);
  const answers = lately.findLast((one) => one.requests !== null);
  const newest = use ?? answers;
  if (newest === undefined) return null;
  const { at, spanMs } = answers ?? newest;
  return {
    ...(answers ?? nothingMeasured(at, spanMs)),
    cpuPercent: use?.cpuPercent ?? null,
    memoryPercent: use?.memoryPercent ?? null,
  };
}
