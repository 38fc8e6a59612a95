import type { Metrics, ServiceMetrics } from "../http/metrics-schemas.ts";
import { formatDurationMs } from "../shared/duration.ts";
import { sparkline, spread } from "./sparkline.ts";
import { type Column, renderTable } from "./table.ts";

type Point = ServiceMetrics["points"][number];
type Shown = { width: number; from: Pick<Metrics, "since" | "at"> };

/** Wide enough to see a shape, narrow enough for a line of a terminal. */
const SPARKLINE = { least: 6, most: 20 };
const CHART = { least: 20, most: 60, label: 10, figures: 26 };

/** The table of an environment's services: what is now, beside it how it was. Where there is little room the share of 4xx is left out. */
export function metricsTable(metrics: Metrics, columns: number): string[] {
  const widest = (lines: string[]) => Math.max(...lines.map((line) => [...line].length));
  const all = (width: number) => columnsOf({ width, from: metrics });
  const fewer = (width: number) => all(width).filter(({ title }) => title !== "4XX");
  const chosen = widest(renderTable(metrics.services, all(SPARKLINE.least))) <= columns ? all : fewer;
  const spare = columns - widest(renderTable(metrics.services, chosen(SPARKLINE.least)));
  const width = Math.min(SPARKLINE.most, SPARKLINE.least + Math.max(0, Math.floor(spare / 2)));
  return renderTable(metrics.services, chosen(width));
}

function columnsOf(shown: Shown): Column<ServiceMetrics>[] {
  return [
    { title: "SERVICE", value: ({ service }) => service },
    { title: "RELEASE", value: releaseOf },
    { title: "TASKS", value: tasksOf },
    { title: "  CPU", value: ({ now, points }) => figureAndLine(percent(now?.cpuPercent), points, CPU, shown) },
    { title: "MEMORY", value: memoryOf, align: "right" },
    {
      title: "REQ/S",
      value: ({ servesTraffic, now, points }) =>
        servesTraffic ? figureAndLine(rate(now?.requestsPerSecond), points, REQUESTS, shown) : "",
    },
    { title: "4XX", value: (one) => shareOf(one, one.total.percent4xx), align: "right" },
    { title: "5XX", value: (one) => shareOf(one, one.total.percent5xx), align: "right" },
    { title: "P95", value: (one) => (one.servesTraffic ? latencyOf(one) : ""), align: "right" },
  ];
}

const figureAndLine = (figure: string, points: readonly Point[], measure: Measure, shown: Shown): string =>
  `${figure.padStart(5)} ${line(points, measure, shown)}`;

type Measure = { label: string; of(point: Point): number | null; top?: number };
const CPU: Measure = { label: "cpu", of: ({ cpuPercent }) => cpuPercent, top: 100 };
const MEMORY: Measure = { label: "memory", of: ({ memoryPercent }) => memoryPercent, top: 100 };
const REQUESTS: Measure = { label: "requests", of: ({ requestsPerSecond }) => requestsPerSecond };
const FAILED: Measure = { label: "5xx", of: ({ answers5xx }) => answers5xx };
const P95: Measure = { label: "p95", of: ({ p95Ms }) => p95Ms };
const MEAN: Measure = { label: "mean", of: ({ meanMs }) => meanMs };

function line(points: readonly Point[], { of, top }: Measure, { width, from }: Shown): string {
  const [fromMs, toMs] = [Date.parse(from.since), Date.parse(from.at)];
  const values = points.map((point) => ({ atMs: Date.parse(point.at), value: of(point) }));
  return sparkline(spread(values, { fromMs, toMs: Math.max(toMs, fromMs + 1), width }), top);
}

/** One service of one release, measure by measure over the whole time, then its tasks. */
export function serviceCharts(one: ServiceMetrics, metrics: Metrics, columns: number): string[] {
  const width = Math.min(CHART.most, Math.max(CHART.least, columns - CHART.label - CHART.figures));
  const shown: Shown = { width, from: metrics };
  const chart = (measure: Measure, figures: string) =>
    `  ${measure.label.padEnd(CHART.label - 2)}${line(one.points, measure, shown).padEnd(width)}  ${figures}`.trimEnd();
  const most = (measure: Measure, form: (value: number | null) => string) => {
    const known = one.points.flatMap((point) => measure.of(point) ?? []);
    return known.length === 0 ? "" : `, most ${form(Math.max(...known))}`;
  };
  const latency = one.points.some(({ p95Ms }) => p95Ms !== null) ? P95 : MEAN;
  return [
    `${one.service}, ${releaseOf(one)}: ${tasksOf(one)} tasks of ${one.given.cpuUnits / 1_024} vCPU and ${one.given.memoryMiB} MiB`,
    chart(CPU, `${percent(one.now?.cpuPercent)}${most(CPU, percent)}`),
    chart(MEMORY, `${memoryOf(one)}${most(MEMORY, percent)}`),
    ...(one.servesTraffic
      ? [
          chart(REQUESTS, `${rate(one.now?.requestsPerSecond)} a second${most(REQUESTS, rate)}`),
          chart(FAILED, `${count(one.total.answers5xx)} of ${count(one.total.requests)}`),
          chart(
            latency,
            `${milliseconds(one.now && latency === P95 ? one.now.p95Ms : one.now?.meanMs)}${most(latency, milliseconds)}`,
          ),
        ]
      : []),
    ...one.eachTask.map(
      ({ task, cpuPercent, memoryMiB }) => `  ${task}  cpu ${percent(cpuPercent)}, memory ${mebibytes(memoryMiB)} MiB`,
    ),
  ];
}

/** Whether a mean is shown where there is no percentile. */
export const hasMeans = ({ services }: Metrics): boolean =>
  services.some(({ now }) => now !== null && now.p95Ms === null && now.meanMs !== null);

/** What stands out, in sentences. */
export function metricsRemarks({ services, since, at }: Metrics): string[] {
  const spanMs = Date.parse(at) - Date.parse(since);
  return services.flatMap(({ service, release, role, total, tasks, now }) => [
    ...((total.unanswered ?? 0) > 0
      ? [
          `${total.unanswered} requests to ${service} found no task that could answer in the last ${formatDurationMs(spanMs)}.`,
        ]
      : []),
    ...(role === "live" && tasks.running < tasks.wanted
      ? [
          `${service} of r${release} has ${tasks.running} of ${tasks.wanted} tasks: \`shipway logs --service ${service}\` shows what they said.`,
        ]
      : []),
    ...(now?.memoryPercent !== null && now?.memoryPercent !== undefined && now.memoryPercent >= NEARLY_FULL
      ? [`${service} of r${release} uses ${percent(now.memoryPercent)} of its memory: a task that needs more is ended.`]
      : []),
  ]);
}

const NEARLY_FULL = 90;

const releaseOf = ({ release, role }: ServiceMetrics): string =>
  role === "live" ? `r${release}` : `r${release} ${role}`;

function tasksOf({ tasks: { wanted, running, healthy } }: ServiceMetrics): string {
  return healthy !== null && healthy < running ? `${running}/${wanted}, ${healthy} ok` : `${running}/${wanted}`;
}

function memoryOf({ now }: ServiceMetrics): string {
  return now === null ? "-" : `${mebibytes(now.memoryUsedMiB)}/${now.memoryGivenMiB} MiB`;
}

function latencyOf({ now }: ServiceMetrics): string {
  if (now === null || now.p95Ms !== null) return milliseconds(now?.p95Ms);
  return now.meanMs === null ? "-" : `~${milliseconds(now.meanMs)}`;
}

const shareOf = ({ servesTraffic }: ServiceMetrics, share: number | null): string =>
  servesTraffic ? percent(share) : "";

type Known = number | null | undefined;
const isKnown = (value: Known): value is number => value !== null && value !== undefined;

/** What is not nothing is not shown as 0 %. */
function percent(value: Known): string {
  if (!isKnown(value)) return "-";
  if (value > 0 && value < 0.1) return "<0.1 %";
  return value > 0 && value < 10 ? `${value.toFixed(1)} %` : `${Math.round(value)} %`;
}

function rate(value: Known): string {
  if (!isKnown(value)) return "-";
  return value >= 100 || value === 0 ? String(Math.round(value)) : value.toFixed(value < 1 ? 2 : 1);
}

function milliseconds(value: Known): string {
  if (!isKnown(value)) return "-";
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

const mebibytes = (value: Known): string => (isKnown(value) ? String(Math.round(value)) : "-");
const count = (value: Known): string => (isKnown(value) ? String(value) : "-");
