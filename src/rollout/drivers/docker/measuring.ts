import { formatDurationMs } from "../../../shared/duration.ts";
import { type MeasuredService, type Measurement, mergeMeasurements, toPoints } from "../../measurement.ts";
import { type Place, type ReleaseService, servesTraffic } from "../../release.ts";
import type { ObservedService, RolloutTarget } from "../../target.ts";
import { backendName } from "./names.ts";
import type { Router, ServerStatus } from "./router.ts";
import type { UseSample, UseSamples } from "./use-samples.ts";

/** What is shown as now: long enough that a second without requests is none. */
const NOW_MS = 30_000;
/** As many points as a line of a terminal can show, and no shorter than the samples they are made of. */
const POINTS = 60;
const SHORTEST_POINT_MS = 15_000;

const CORE = 1_024;
const MIB = 1024 ** 2;

/** Answers from what was sampled: the engine knows only what is used now, and the router only what it ever answered. */
export function newMeasuring(
  observe: (place: Place) => Promise<ObservedService[]>,
  { samples, router }: { samples: UseSamples; router: Pick<Router, "status"> },
): Pick<RolloutTarget, "measure"> {
  return {
    async measure(place, releases, { sinceMs }) {
      await samples.refresh();
      const observed = await observe(place);
      const backends = observed.map(({ service }) => backendName(place, service));
      // Figures are worth having while the router is away.
      const statuses = backends.length === 0 ? [] : await router.status(backends).catch(() => undefined);
      const from = Math.max(sinceMs, samples.since());
      const everyMs = everyMsOf(Date.now() - sinceMs);
      const services = releases.flatMap(({ number, services: own }) =>
        own.map((service) => {
          const seen = observed.find((one) => one.release === number && one.service === service.name);
          const kept = samples.of(place, number, service.name).filter((one) => one.at >= from);
          return measuredService({ number, service, seen, kept, statuses, everyMs });
        }),
      );
      return { everyMs, sinceMs: from, services, notes: notesOf(from, sinceMs) };
    },
  };
}

function everyMsOf(spanMs: number): number {
  const fitting = Math.ceil(spanMs / POINTS / SHORTEST_POINT_MS) * SHORTEST_POINT_MS;
  return Math.max(SHORTEST_POINT_MS, fitting);
}

type Facts = {
  number: number;
  service: ReleaseService;
  seen: ObservedService | undefined;
  kept: UseSample[];
  /** Undefined while the router does not answer. */
  statuses: ServerStatus[] | undefined;
  everyMs: number;
};

function measuredService({ number, service, seen, kept, statuses, everyMs }: Facts): MeasuredService {
  const tasks = seen?.tasks ?? [];
  const running = tasks.filter(({ state }) => state === "running");
  const given = service.cpu / CORE;
  const measured = kept.map((sample) => toMeasurement(sample, given));
  const newest = kept.at(-1);
  const nowMs = newest === undefined ? 0 : newest.at + newest.spanMs;
  const isUp = ({ name }: { name: string }) =>
    statuses?.some((one) => one.name === name && one.operational === "up") ?? false;
  const isChecked = servesTraffic(service) && running.length > 0 && statuses !== undefined;
  return {
    release: number,
    service: service.name,
    traffic: seen?.traffic ?? "none",
    running: running.length,
    healthy: isChecked ? running.filter(isUp).length : null,
    latest: tasks.length === 0 ? null : latestOf(measured, nowMs),
    points: toPoints(measured, everyMs),
    tasks: tasks.map(({ name }) => {
      const use = newest?.tasks.find((one) => one.name === name);
      const cores = use?.cores ?? null;
      return {
        name,
        cpuPercent: cores === null ? null : (100 * cores) / given,
        memoryMiB: use === undefined ? null : use.memoryBytes / MIB,
      };
    }),
    unanswered: seen?.traffic === "serving" ? sumOfUnanswered(kept) : null,
  };
}

/** Memory is what it is now; the rest is of a while. */
function latestOf(measured: Measurement[], nowMs: number): Measurement | null {
  const merged = mergeMeasurements(measured.filter((one) => one.at + one.spanMs > nowMs - NOW_MS));
  return merged === undefined ? null : { ...merged, memoryPercent: measured.at(-1)?.memoryPercent ?? null };
}

function toMeasurement({ cores, tasks: _, unanswered: __, ...rest }: UseSample, given: number): Measurement {
  return { ...rest, cpuPercent: cores === null ? null : (100 * cores) / given };
}

function sumOfUnanswered(kept: UseSample[]): number | null {
  const known = kept.flatMap(({ unanswered }) => unanswered ?? []);
  return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0);
}

function notesOf(from: number, askedMs: number): string[] {
  const keptMs = Date.now() - from;
  return [
    ...(from > askedMs
      ? [
          `On Docker Shipway keeps figures of the last hour in memory, since it was started: here of ${formatDurationMs(keptMs)}.`,
        ]
      : []),
    "HAProxy knows the mean time of answers and no percentiles.",
  ];
}
