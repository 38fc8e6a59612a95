import { describe, expect, it } from "vitest";
import { latestOf, queriesOf, type Series, toMeasurements, windowOf } from "./metric-queries.ts";

const now = Date.parse("2026-11-26T12:34:56Z");
const minute = (text: string) => Date.parse(`2026-11-26T${text}:00Z`);
const listener =
  "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shipway-test/50dc6c495c0c9188/f2f7dc8efc522ab2";
const targetGroup = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/sw-abc-a/0123456789abcdef";

describe("what CloudWatch is asked", () => {
  it.each([
    ["an hour", 3_600_000, "11:34", "12:34", 60],
    ["a minute", 60_000, "12:33", "12:34", 60],
    ["no time", 0, "12:34", "12:35", 60],
    ["six hours", 6 * 3_600_000, "06:30", "12:30", 300],
  ])("of %s is whole minutes, or more where they are many", (_, spanMs, from, to, periodS) => {
    const window = windowOf(now - spanMs, now);
    expect(window).toEqual({ fromMs: minute(from), toMs: minute(to), periodMs: periodS * 1_000 });
  });

  it("of days is hours", () => {
    expect(windowOf(now - 3 * 86_400_000, now).periodMs).toBe(3_600_000);
  });

  it("names cluster and service, load balancer and target group as AWS's guides do", () => {
    const queries = queriesOf(
      "s0",
      { serviceName: "shipway-x_shop_production_web_a", targetGroup },
      {
        cluster: "arn:aws:ecs:eu-central-1:123456789012:cluster/main",
        listener,
        periodMs: 60_000,
      },
    );
    const ofService = [
      { Name: "ClusterName", Value: "main" },
      { Name: "ServiceName", Value: "shipway-x_shop_production_web_a" },
    ];
    const ofGroup = [
      { Name: "LoadBalancer", Value: "app/shipway-test/50dc6c495c0c9188" },
      { Name: "TargetGroup", Value: "targetgroup/sw-abc-a/0123456789abcdef" },
    ];
    expect(queries.map(({ MetricStat }) => [MetricStat?.Metric?.MetricName, MetricStat?.Stat])).toEqual([
      ["CPUUtilization", "Average"],
      ["MemoryUtilization", "Average"],
      ["RequestCount", "Sum"],
      ["HTTPCode_Target_4XX_Count", "Sum"],
      ["HTTPCode_Target_5XX_Count", "Sum"],
      ["TargetResponseTime", "Average"],
      ["TargetResponseTime", "p50"],
      ["TargetResponseTime", "p95"],
      ["HealthyHostCount", "Minimum"],
    ]);
    for (const { Id, MetricStat } of queries) {
      const isUse = MetricStat?.Metric?.Namespace === "AWS/ECS";
      expect(MetricStat?.Metric?.Dimensions).toEqual(isUse ? ofService : ofGroup);
      expect(MetricStat?.Period).toBe(60);
      // A lower-case letter, then letters, digits and underscores (Amazon CloudWatch API, MetricDataQuery, `Id`).
      expect(Id).toMatch(/^[a-z][A-Za-z0-9_]*$/);
    }
  });

  it("of a worker is what it uses alone", () => {
    const queries = queriesOf(
      "s1",
      { serviceName: "w", targetGroup: undefined },
      { cluster: "main", listener, periodMs: 60_000 },
    );
    expect(queries).toHaveLength(2);
  });
});

describe("what CloudWatch answers", () => {
  const window = windowOf(now - 3_600_000, now);
  const series: Series = {
    cpu: new Map([
      [minute("12:30"), 40],
      [minute("12:31"), 50],
    ]),
    memory: new Map([[minute("12:31"), 25]]),
    requests: new Map([
      [minute("12:30"), 600],
      [minute("12:32"), 0],
    ]),
    answers5xx: new Map([[minute("12:30"), 3]]),
    p95: new Map([[minute("12:30"), 0.125]]),
  };

  it("is a measurement for each minute of which anything is known, and what is not known is not zero", () => {
    const points = toMeasurements(series, window, 0);
    expect(points.map(({ at }) => at)).toEqual([minute("12:30"), minute("12:31"), minute("12:32")]);
    expect(points[0]).toMatchObject({
      cpuPercent: 40,
      memoryPercent: null,
      requests: 600,
      answers4xx: 0,
      answers5xx: 3,
    });
    expect(points[0]).toMatchObject({ p95Ms: 125, p50Ms: null, spanMs: 60_000 });
    expect(points[1]).toMatchObject({ cpuPercent: 50, requests: null, answers4xx: null, answers5xx: null });
    expect(points[2]).toMatchObject({ cpuPercent: null, requests: 0, answers5xx: 0, p95Ms: null });
  });

  it("of before the release had its slot is left out", () => {
    expect(toMeasurements(series, window, minute("12:31")).map(({ at }) => at)).toEqual([
      minute("12:31"),
      minute("12:32"),
    ]);
  });

  it("is as of now the newest of each kind, and nothing when that is too old", () => {
    const points = toMeasurements(series, window, 0);
    expect(latestOf(points, window)).toMatchObject({ cpuPercent: 50, memoryPercent: 25, requests: 0, p95Ms: null });
    expect(latestOf(points, windowOf(now - 3_600_000 + 600_000, now + 600_000))).toBeNull();
    expect(latestOf([], window)).toBeNull();
  });
});
