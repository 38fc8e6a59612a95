import { z } from "zod";

const Figure = z.number().nullable();
const Percent = Figure.describe("Of what its running tasks were given; null: not known, which is not zero");
const Share = Figure.describe("Of its requests; null without requests");
const Milliseconds = Figure.describe("Until an answer began, in ms; null where the source cannot tell");

const NowBody = z.object({
  cpuPercent: Percent,
  memoryPercent: Percent,
  memoryUsedMiB: Figure.describe("Of all its tasks together"),
  memoryGivenMiB: z.number(),
  requestsPerSecond: Figure,
  percent4xx: Share,
  percent5xx: Share,
  meanMs: Milliseconds,
  p50Ms: Milliseconds,
  p95Ms: Milliseconds,
});

const PointBody = z.object({
  at: z.iso.datetime().describe("When it begins"),
  spanMs: z.number().describe("How much time it covers"),
  cpuPercent: Figure,
  memoryPercent: Figure,
  requestsPerSecond: Figure,
  requests: Figure,
  answers4xx: Figure,
  answers5xx: Figure,
  meanMs: Figure,
  p50Ms: Figure,
  p95Ms: Figure,
});

const ServiceMetricsBody = z
  .object({
    service: z.string(),
    release: z.int(),
    role: z.enum(["live", "standby", "deploying"]),
    traffic: z.enum(["serving", "draining", "standby", "none"]),
    servesTraffic: z.boolean().describe("Whether it has a port, and so answers requests"),
    tasks: z.object({
      wanted: z.int(),
      running: z.int(),
      healthy: z.int().nullable().describe("null where nobody checks them"),
    }),
    given: z.object({ cpuUnits: z.int(), memoryMiB: z.int() }).describe("Each task; 1024 units are one processor"),
    now: NowBody.nullable().describe("null where nothing is known of the last minutes"),
    total: z.object({
      requests: Figure,
      answers4xx: Figure,
      answers5xx: Figure,
      percent4xx: Share,
      percent5xx: Share,
      unanswered: Figure.describe("Requests that the router answered itself, with an error, since no task did"),
    }),
    points: z.array(PointBody).describe("Oldest first; none for a time of which nothing is known"),
    eachTask: z
      .array(z.object({ task: z.string(), cpuPercent: Figure, memoryMiB: Figure }))
      .describe("Where the runtime knows them one by one"),
  })
  .meta({ title: "ServiceMetrics" });

export const MetricsBody = z
  .object({
    app: z.string(),
    environment: z.string(),
    runtime: z.enum(["docker", "ecs"]),
    at: z.iso.datetime(),
    since: z.iso.datetime().describe("Of what was before, nothing is known or was asked for"),
    everyMs: z.number().describe("How much time each point covers at most"),
    freshEveryMs: z.number().describe("How soon there is something new"),
    services: z.array(ServiceMetricsBody),
    notes: z.array(z.string()).describe("What is to be known of the figures"),
  })
  .meta({ title: "Metrics" });

export const MetricsQuery = z.object({
  service: z.string().optional().describe("Only this one"),
  since: z.iso.datetime().optional().describe("Default: an hour ago. At most 30 days; on Docker an hour is kept"),
});

export type Metrics = z.infer<typeof MetricsBody>;
export type ServiceMetrics = z.infer<typeof ServiceMetricsBody>;
