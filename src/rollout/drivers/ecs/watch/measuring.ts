import type { MetricDataQuery } from "@aws-sdk/client-cloudwatch";
import type { Measured, MeasuredService } from "../../../measurement.ts";
import { type ReleaseService, servesTraffic } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { releaseIn, type ServiceView, type Slot, trafficOf } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { SLOTS } from "../names.ts";
import {
  figureOf,
  latestOf,
  type MetricWindow,
  QUERIES_A_CALL,
  queriesOf,
  type Series,
  toMeasurements,
  windowOf,
} from "./metric-queries.ts";

/** CloudWatch has something new once a minute, and every metric that is asked for costs. */
const SHARED_MS = 20_000;
/** An answer that never ends is none. */
const MOST_PAGES = 50;

const NOTES = ["CloudWatch has whole minutes, and has them one to three minutes late."];

/** Reads CloudWatch: what ECS and the load balancer publish by themselves, of every service in one call. */
export function newMeasuring(ground: Ground): Pick<RolloutTarget, "measure"> {
  const { reader, now } = ground;
  /** The last answer to each question: many who watch the same environment ask once. */
  const shared = new Map<string, { at: number; series: Promise<Map<string, Series>> }>();

  function seriesOf(slots: Slot[], window: MetricWindow): Promise<Map<string, Series>> {
    const key = JSON.stringify([slots.map(({ serviceName, primary }) => [serviceName, primary?.release]), window]);
    for (const [other, { at }] of shared) if (now() - at > SHARED_MS) shared.delete(other);
    const known = shared.get(key);
    if (known !== undefined) return known.series;
    const series = readSeries(ground, slots, window);
    shared.set(key, { at: now(), series });
    series.catch(() => shared.delete(key));
    return series;
  }

  return {
    async measure(place, releases, { sinceMs }): Promise<Measured> {
      const views = await reader.views(place);
      const window = windowOf(sinceMs, now());
      const wanted = releases.flatMap(({ number, services }) =>
        services.map((service) => ({ number, service, ...slotHolding(views, service, number) })),
      );
      const series = await seriesOf(
        wanted.flatMap(({ slot }) => slot ?? []),
        window,
      );
      const services = wanted.map(({ number, service, view, slot }): MeasuredService => {
        if (view === undefined || slot === undefined) return nothingThere(service, number);
        return measuredService(service, number, view, slot, series.get(slot.serviceName) ?? {}, window);
      });
      return { everyMs: window.periodMs, sinceMs: window.fromMs, services, notes: NOTES };
    },
  };
}

function slotHolding(views: ServiceView[], service: ReleaseService, release: number) {
  const view = views.find((one) => one.service === service.name);
  const slot = view && SLOTS.map((name) => view.slots[name]).find((one) => releaseIn(one) === release);
  return { view, slot };
}

function nothingThere(service: ReleaseService, release: number): MeasuredService {
  return {
    release,
    service: service.name,
    traffic: "none",
    running: 0,
    healthy: null,
    latest: null,
    points: [],
    tasks: [],
    unanswered: null,
  };
}

function measuredService(
  service: ReleaseService,
  release: number,
  view: ServiceView,
  slot: Slot,
  series: Series,
  window: MetricWindow,
): MeasuredService {
  // What was before is of the release that had the slot then.
  const begunAt = Math.floor((slot.primary?.createdAt ?? 0) / window.periodMs) * window.periodMs;
  const points = toMeasurements(series, window, begunAt);
  const healthy = [...(series.healthy ?? [])].filter(([at]) => at >= begunAt).at(-1)?.[1];
  const running = Math.min(slot.primary?.running ?? 0, slot.desired);
  return {
    ...nothingThere(service, release),
    traffic: trafficOf(view, slot),
    running,
    healthy: servesTraffic(service) && healthy !== undefined ? Math.min(running, Math.round(healthy)) : null,
    latest: latestOf(points, window),
    points,
  };
}

/** By name of the ECS service. */
async function readSeries(ground: Ground, slots: Slot[], window: MetricWindow): Promise<Map<string, Series>> {
  const { cluster, listener } = ground.settings;
  const at = { cluster, listener, periodMs: window.periodMs };
  const queries = slots.flatMap((slot, index) => queriesOf(`s${index}`, slot, at));
  const found = new Map<string, Series>();
  for (let from = 0; from < queries.length; from += QUERIES_A_CALL) {
    const values = await readMetrics(ground, queries.slice(from, from + QUERIES_A_CALL), window);
    for (const [id, series] of values) {
      const name = slots[Number(/^s(\d+)_/.exec(id)?.[1])]?.serviceName;
      if (name !== undefined) found.set(name, { ...found.get(name), [figureOf(id)]: series });
    }
  }
  return found;
}

async function readMetrics(
  { aws }: Ground,
  queries: MetricDataQuery[],
  { fromMs, toMs }: MetricWindow,
): Promise<Map<string, Map<number, number>>> {
  const cloudwatch = await aws.cloudwatch();
  const found = new Map<string, Map<number, number>>();
  let nextToken: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await cloudwatch.getMetricData({
      MetricDataQueries: queries,
      StartTime: new Date(fromMs),
      EndTime: new Date(toMs),
      ScanBy: "TimestampAscending",
      ...(nextToken && { NextToken: nextToken }),
    });
    for (const { Id = "", Timestamps = [], Values = [] } of answer.MetricDataResults ?? []) {
      const values = found.get(Id) ?? new Map<number, number>();
      for (const [index, time] of Timestamps.entries()) {
        const value = Values[index];
        if (value !== undefined) values.set(time.getTime(), value);
      }
      found.set(Id, values);
    }
    nextToken = answer.NextToken;
    if (nextToken === undefined) break;
  }
  return found;
}
