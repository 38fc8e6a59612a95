import { type MeasuredService, type Measurement, sumOf } from "../rollout/measurement.ts";
import { type ReleaseService, servesTraffic } from "../rollout/release.ts";
import type { ServiceMetrics } from "./metrics-schemas.ts";

/** A measured service as the API shows it: rates and shares, in numbers that are not rounded. Pure. */
export function viewServiceMetrics(
  role: ServiceMetrics["role"],
  service: ReleaseService,
  measured: MeasuredService,
): ServiceMetrics {
  const { latest, points, tasks, running, healthy, traffic, release } = measured;
  // Parked tasks do not run and still have their memory.
  const memoryGivenMiB = Math.max(tasks.length, running) * service.memoryMiB;
  return {
    service: service.name,
    release,
    role,
    traffic,
    servesTraffic: servesTraffic(service),
    tasks: { wanted: service.count, running, healthy },
    given: { cpuUnits: service.cpu, memoryMiB: service.memoryMiB },
    now: latest && {
      cpuPercent: latest.cpuPercent,
      memoryPercent: latest.memoryPercent,
      memoryUsedMiB: latest.memoryPercent === null ? null : (latest.memoryPercent / 100) * memoryGivenMiB,
      memoryGivenMiB,
      requestsPerSecond: perSecond(latest),
      percent4xx: share(latest.answers4xx, latest.requests),
      percent5xx: share(latest.answers5xx, latest.requests),
      meanMs: latest.meanMs,
      p50Ms: latest.p50Ms,
      p95Ms: latest.p95Ms,
    },
    total: viewTotal(measured),
    points: points.map((point) => ({
      ...point,
      at: new Date(point.at).toISOString(),
      requestsPerSecond: perSecond(point),
    })),
    eachTask: tasks.map(({ name, cpuPercent, memoryMiB }) => ({ task: name, cpuPercent, memoryMiB })),
  };
}

function viewTotal({ points, unanswered }: MeasuredService): ServiceMetrics["total"] {
  const requests = sumOf(points, "requests");
  const answers4xx = sumOf(points, "answers4xx");
  const answers5xx = sumOf(points, "answers5xx");
  return {
    requests,
    answers4xx,
    answers5xx,
    percent4xx: share(answers4xx, requests),
    percent5xx: share(answers5xx, requests),
    unanswered,
  };
}

const perSecond = ({ requests, spanMs }: Measurement): number | null =>
  requests === null ? null : requests / (spanMs / 1_000);

const share = (part: number | null, whole: number | null): number | null =>
  part === null || whole === null || whole === 0 ? null : (100 * part) / whole;
