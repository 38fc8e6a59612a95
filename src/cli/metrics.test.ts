import { afterEach, describe, expect, it } from "vitest";
import type { Metrics, ServiceMetrics } from "../http/metrics-schemas.ts";
import { errorBody, newTestCli, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const at = "2026-11-23T12:00:00.000Z";
const minute = (n: number) => new Date(Date.parse(at) - n * 60_000).toISOString();

const point = (minutesAgo: number, changes: Partial<ServiceMetrics["points"][number]> = {}) => ({
  at: minute(minutesAgo),
  spanMs: 60_000,
  cpuPercent: 10,
  memoryPercent: 40,
  requestsPerSecond: 10,
  requests: 600,
  answers4xx: 6,
  answers5xx: 0,
  meanMs: 12,
  p50Ms: 10,
  p95Ms: 48,
  ...changes,
});

const web: ServiceMetrics = {
  service: "web",
  release: 7,
  role: "live",
  traffic: "serving",
  servesTraffic: true,
  tasks: { wanted: 2, running: 2, healthy: 2 },
  given: { cpuUnits: 512, memoryMiB: 1_024 },
  now: {
    cpuPercent: 34.2,
    memoryPercent: 41.4,
    memoryUsedMiB: 848.2,
    memoryGivenMiB: 2_048,
    requestsPerSecond: 12.4,
    percent4xx: 1,
    percent5xx: 0,
    meanMs: 12,
    p50Ms: 10,
    p95Ms: 48.3,
  },
  total: { requests: 1_800, answers4xx: 18, answers5xx: 1, percent4xx: 1, percent5xx: 0.0555, unanswered: 0 },
  points: [point(50), point(20, { cpuPercent: 100, requestsPerSecond: 40 }), point(2, { cpuPercent: 34.2 })],
  eachTask: [],
};
const standby: ServiceMetrics = {
  ...web,
  release: 6,
  role: "standby",
  traffic: "standby",
  tasks: { wanted: 2, running: 1, healthy: null },
  now: null,
  total: { requests: null, answers4xx: null, answers5xx: null, percent4xx: null, percent5xx: null, unanswered: null },
  points: [],
};
const worker: ServiceMetrics = {
  ...web,
  service: "worker",
  servesTraffic: false,
  traffic: "none",
  tasks: { wanted: 1, running: 0, healthy: null },
  now: {
    cpuPercent: 97,
    memoryPercent: 95.5,
    memoryUsedMiB: 489,
    memoryGivenMiB: 512,
    requestsPerSecond: null,
    percent4xx: null,
    percent5xx: null,
    meanMs: null,
    p50Ms: null,
    p95Ms: null,
  },
  total: standby.total,
  eachTask: [{ task: "shop.production.worker.r7-1", cpuPercent: 97, memoryMiB: 489 }],
};
const metrics = (changes: Partial<Metrics> = {}): Metrics => ({
  app: "shop",
  environment: "production",
  runtime: "ecs",
  at,
  since: minute(60),
  everyMs: 60_000,
  freshEveryMs: 5,
  services: [web, worker, standby],
  notes: ["CloudWatch has whole minutes."],
  ...changes,
});

let server: TestServer | undefined;
let cli: TestCli;
afterEach(() => Promise.all([server?.close(), cli?.close()]));
async function start(answer: () => unknown): Promise<void> {
  server = await startTestServer((app) => {
    app.get("/api/apps/shop/environments/production/metrics", async (_request, reply) => {
      const given = answer();
      if (given !== undefined) return given;
      return reply.status(502).send(errorBody("AWS_UNREACHABLE", "AWS did not answer."));
    });
  });
  cli = await newTestCli(server.url);
}
const ARGV = ["metrics", "--app", "shop", "--env", "production"];

describe("shipway metrics", () => {
  it("shows what is now and how it was, by service and release, as wide as the terminal", async () => {
    await start(metrics);
    const { code, out, err } = await cli.run(ARGV, {
      isTTY: { in: false, out: true, err: false },
      columns: 84,
      environment: { NO_COLOR: "1" },
    });
    expect(code).toBe(0);
    expect(out).toBe(
      [
        "shop production on ECS, the last 1 h",
        "",
        "SERVICE  RELEASE     TASKS    CPU               MEMORY  REQ/S            5XX    P95",
        "web      r7          2/2     34 %  ▂  █▃  848/2048 MiB   12.4  ▃  █▃  <0.1 %  48 ms",
        "worker   r7          0/1     97 %  ▂  █▃   489/512 MiB",
        "web      r6 standby  1/2        -                    -      -              -      -",
        "",
      ].join("\n"),
    );
    expect(err).toContain("worker of r7 has 0 of 1 tasks");
    expect(err).toContain("worker of r7 uses 96 % of its memory");
    expect(err).toContain("CloudWatch has whole minutes.");
  });

  it("shows a service measure by measure, with each task where they are known", async () => {
    await start(() => metrics({ runtime: "docker", services: [worker] }));
    const { out } = await cli.run(["metrics", "worker", ...ARGV.slice(1)]);
    expect(server?.requests.at(-1)?.url).toContain("service=worker");
    expect(out).toBe(
      [
        "shop production on Docker, the last 1 h",
        "",
        "worker, r7: 0/1 tasks of 0.5 vCPU and 1024 MiB",
        "  cpu               ▂                             █                 ▃   97 %, most 100 %",
        "  memory            ▄                             ▄                 ▄   489/512 MiB, most 40 %",
        "  shop.production.worker.r7-1  cpu 97 %, memory 489 MiB",
        "",
      ].join("\n"),
    );
  });

  it("hands on how far back, and gives the data as they are with --json", async () => {
    await start(metrics);
    const { out } = await cli.run([...ARGV, "--since", "10m", "--json"]);
    expect(JSON.parse(out)).toEqual(metrics());
    expect(server?.requests.at(-1)?.url).toBe(
      "/api/apps/shop/environments/production/metrics?since=2026-11-23T11%3A50%3A00.000Z",
    );
  });

  it("says what there is to do where nothing is live", async () => {
    await start(() => metrics({ services: [] }));
    expect((await cli.run(ARGV)).out).toContain("Nothing is live there yet.");
  });

  it("goes on until Ctrl-C, in the same place, and over an upstream that is away", async () => {
    const ctrlC = new AbortController();
    let asked = 0;
    await start(() => {
      asked++;
      if (asked === 4) ctrlC.abort();
      return asked === 2 ? undefined : metrics({ services: [web] });
    });
    const { code, out } = await cli.run([...ARGV, "-f"], {
      isTTY: { in: true, out: true, err: true },
      interrupted: ctrlC.signal,
      environment: { NO_COLOR: "1" },
    });
    expect(code).toBe(0);
    expect(asked).toBe(4);
    expect(out).toContain("! AWS did not answer.");
    expect(out.match(/\u001b\[\d+A\u001b\[J/g)).toHaveLength(2);
  });

  it("gives an object a line when it is followed as JSON", async () => {
    const ctrlC = new AbortController();
    let asked = 0;
    await start(() => {
      if (++asked === 3) ctrlC.abort();
      return metrics();
    });
    const { out } = await cli.run([...ARGV, "-f", "--json"], { interrupted: ctrlC.signal });
    const lines = out.trim().split("\n");
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(lines.map((line) => JSON.parse(line).app)).toEqual(lines.map(() => "shop"));
  });
});
