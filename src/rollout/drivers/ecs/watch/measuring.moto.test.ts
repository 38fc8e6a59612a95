import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../../../shared/errors.ts";
import { sumOf } from "../../../measurement.ts";
import type { Place, Release } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { newFaultProxy } from "../fault-testing.ts";
import { serviceName, targetGroupName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "../testing.ts";

const NOTHING = { env: {}, secrets: {} };
const MINUTE_MS = 60_000;

describe.skipIf(!hasMoto)("figures from CloudWatch", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let calls: string[] = [];
  const place: Place = { app: "shop", environment: "figures" };
  let now = Date.now();
  const release = (number: number): Release => ({
    app: place.app,
    number,
    services: [
      ecsService(place, "web", "web", { count: 2, memoryMiB: 1_024 }),
      ecsService(place, "api", "web"),
      ecsService(place, "worker", "worker"),
    ],
  });

  beforeAll(async () => {
    stage = await newAwsStage();
    const onCall = ({ service, command }: { service: string; command: string }) =>
      void calls.push(`${service}:${command}`);
    const aws = { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall };
    target = await openEcsTarget(targetOptions(stage, { aws, now: () => now }));
    for (const number of [1, 2]) {
      const one = release(number);
      await target.prepare(place, one);
      for (const service of one.services) await target.startService(place, one, service, NOTHING);
      await target.awaitHealthy(place, one, one.services, { deadlineMs: 20_000, onProgress: () => undefined });
      await target.shiftTraffic(place, one);
    }
  });
  afterAll(async () => stage?.cleanUp());

  type Datum = { metric: string; values: number[]; unit: "Percent" | "Count" | "Seconds" };
  /** Puts figures as ECS and the load balancer publish them. */
  const publish = async (slot: "a" | "b", service: string, minute: number, data: Datum[]) => {
    const cloudwatch = await stage.aws.cloudwatch();
    const name = targetGroupName("test", place, service, slot);
    const { TargetGroups } = await stage.aws.elb.describeTargetGroups({});
    const group = TargetGroups?.find((one) => one.TargetGroupName === name)?.TargetGroupArn ?? "";
    const balancer = stage.settings.listener.split(":listener/")[1] ?? "";
    for (const { metric, values, unit } of data) {
      const isUse = unit === "Percent";
      const Dimensions = isUse
        ? [
            { Name: "ClusterName", Value: stage.settings.cluster },
            { Name: "ServiceName", Value: serviceName("test", place, service, slot) },
          ]
        : // In the order in which they are asked for: to moto another one is another metric.
          [
            { Name: "LoadBalancer", Value: balancer.split("/").slice(0, 3).join("/") },
            { Name: "TargetGroup", Value: group.slice(group.indexOf("targetgroup/")) },
          ];
      await cloudwatch.putMetricData({
        Namespace: isUse ? "AWS/ECS" : "AWS/ApplicationELB",
        MetricData: [{ MetricName: metric, Dimensions, Timestamp: new Date(minute), Values: values, Unit: unit }],
      });
    }
  };
  /** The slot that a release of a service is in. */
  const slotOf = async (service: string, number: number): Promise<"a" | "b"> => {
    const services = (["a", "b"] as const).map((slot) => serviceName("test", place, service, slot));
    const found = await stage.aws.ecs.describeServices({ cluster: stage.settings.cluster, services });
    const own = found.services?.find(({ taskDefinition }) => taskDefinition?.includes(`_${service}_r${number}:`));
    return own?.serviceName?.endsWith("_b") ? "b" : "a";
  };
  const measure = (of = [release(2), release(1)]) => target.measure(place, of, { sinceMs: now - 10 * MINUTE_MS });

  it("are nothing before there are any, which is not zero", async () => {
    const { services, everyMs, notes } = await measure();
    expect(everyMs).toBe(MINUTE_MS);
    expect(notes.join()).toContain("minutes late");
    expect(
      services.map(({ service, release, running, traffic }) => `${service} r${release} ${running} ${traffic}`),
    ).toEqual([
      "web r2 2 serving",
      "api r2 1 serving",
      "worker r2 1 none",
      "web r1 2 draining",
      "api r1 1 draining",
      "worker r1 1 none",
    ]);
    for (const one of services)
      expect(one).toMatchObject({ latest: null, points: [], healthy: null, unanswered: null });
  });

  it("are those of each release's own slot, in one call for all services, and one for all who ask", async () => {
    // Services that were made in the minute before publish at the beginning of this one.
    const minute = Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS;
    const [live, before] = [await slotOf("web", 2), await slotOf("web", 1)];
    expect(live).not.toBe(before);
    await publish(live, "web", minute, [
      { metric: "CPUUtilization", values: [30, 50], unit: "Percent" },
      { metric: "MemoryUtilization", values: [25], unit: "Percent" },
      { metric: "RequestCount", values: [600], unit: "Count" },
      { metric: "HTTPCode_Target_4XX_Count", values: [12], unit: "Count" },
      { metric: "HTTPCode_Target_5XX_Count", values: [3], unit: "Count" },
      { metric: "TargetResponseTime", values: Array.from({ length: 20 }, (_, n) => (n + 1) / 100), unit: "Seconds" },
      { metric: "HealthyHostCount", values: [2, 1], unit: "Count" },
    ]);
    await publish(before, "web", minute, [
      { metric: "CPUUtilization", values: [1], unit: "Percent" },
      { metric: "RequestCount", values: [0], unit: "Count" },
    ]);
    await publish(await slotOf("worker", 2), "worker", minute, [
      { metric: "CPUUtilization", values: [97.5], unit: "Percent" },
    ]);
    now = minute + 2 * MINUTE_MS;
    calls = [];
    const [{ services }] = await Promise.all([measure(), measure(), measure()]);
    expect(calls.filter((call) => call.startsWith("cloudwatch:"))).toEqual(["cloudwatch:GetMetricData"]);
    const of = (service: string, number: number) =>
      services.find((one) => one.service === service && one.release === number);
    expect(of("web", 2)).toMatchObject({
      traffic: "serving",
      healthy: 1,
      latest: {
        at: minute,
        spanMs: MINUTE_MS,
        cpuPercent: 40,
        memoryPercent: 25,
        requests: 600,
        answers4xx: 12,
        answers5xx: 3,
        p50Ms: 100,
        p95Ms: 190,
      },
    });
    expect(of("web", 2)?.latest?.meanMs).toBeCloseTo(105);
    expect(of("web", 1)?.latest).toMatchObject({ cpuPercent: 1, requests: 0, answers5xx: 0, p95Ms: null });
    expect(of("api", 2)?.latest).toBeNull();
    expect(of("worker", 2)).toMatchObject({ healthy: null, latest: { cpuPercent: 97.5, requests: null } });
    expect(sumOf(of("web", 2)?.points ?? [], "requests")).toBe(600);
  });

  it("are refused with the statement that is missing", async () => {
    const proxy = await newFaultProxy(stage.endpoint, ({ name }) =>
      name.startsWith("monitoring:") ? "throttled" : "pass",
    );
    const aws = { endpoint: proxy.endpoint, attempts: 1, speed: 1_000 };
    const elsewhere = await openEcsTarget(targetOptions(stage, { aws }));
    const refused = await elsewhere
      .measure(place, [release(2)], { sinceMs: Date.now() - MINUTE_MS })
      .catch((error: unknown) => error);
    expect(String(refused)).toContain("cloudwatch:GetMetricData");
    expect(errorCode(refused)).toBe("AWS_THROTTLED");
    await proxy.close();
  });
});
