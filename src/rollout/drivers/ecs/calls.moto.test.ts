import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../../shared/errors.ts";
import { Secret } from "../../../shared/secret.ts";
import type { Place, Release } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { type EcsTargetOptions, openEcsTarget } from "./ecs-target.ts";
import { serviceName, targetGroupName } from "./names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "./testing.ts";

const NOTHING = { env: {}, secrets: {} };

describe.skipIf(!hasMoto)("calls to AWS", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let aws: EcsTargetOptions["aws"] & object;
  let calls: string[] = [];
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    const onCall = ({ service, command }: { service: string; command: string }) =>
      void calls.push(`${service}:${command}`);
    aws = { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall };
    target = await openEcsTarget(targetOptions(stage, { aws }));
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `n${++places}` });
  const release = (place: Place, number: number): Release => ({
    app: place.app,
    number,
    services: [ecsService(place, "web", "web")],
  });
  const serve = async (place: Place, number: number) => {
    const one = release(place, number);
    await target.prepare(place, one);
    for (const service of one.services) await target.startService(place, one, service, NOTHING);
    await target.awaitHealthy(place, one, one.services, { deadlineMs: 10_000, onProgress: () => undefined });
    await target.shiftTraffic(place, one);
  };
  /** As another process that keeps what it read for so long. */
  const watching = (steadyMs: number) =>
    openEcsTarget(targetOptions(stage, { aws, times: { ...targetOptions(stage).times, steadyMs } }));
  const writes = () => calls.filter((call) => !/:(Describe|List|Get)/.test(call));

  it("of rounds in which nothing differs are one walk through the cluster, for all of its environments, and then none", async () => {
    const [place, other] = [newPlace(), newPlace()];
    await serve(place, 1);
    await serve(other, 1);
    const watcher = await watching(60_000);
    const round = async () => {
      for (const one of [place, other]) {
        const desired = { live: { release: release(one, 1), variables: {} }, inProgress: [] };
        expect(await watcher.reconcile(one, desired)).toEqual([]);
      }
    };
    calls = [];
    await round();
    const { serviceArns } = await stage.aws.ecs.listServices({ cluster: stage.settings.cluster, maxResults: 100 });
    const tens = Math.ceil((serviceArns ?? []).length / 10);
    expect([...calls].sort()).toEqual([
      ...Array.from({ length: tens }, () => "ecs:DescribeServices"),
      "ecs:ListServices",
      "elasticloadbalancing:DescribeRules",
    ]);
    calls = [];
    await round();
    expect(calls).toEqual([]);
    await Promise.all([target.destroy(place, "remove"), target.destroy(other, "remove")]);
  });

  it("of a round are made again before anything is mended, since what is known may be out of date", async () => {
    const place = newPlace();
    await serve(place, 1);
    const watcher = await watching(60_000);
    const desired = { live: { release: release(place, 1), variables: {} }, inProgress: [] };
    expect(await watcher.reconcile(place, desired)).toEqual([]);
    // Another control plane deploys r2; this one still knows the place as it was.
    await serve(place, 2);
    calls = [];
    const now = { live: { release: release(place, 2), variables: {} }, standby: release(place, 1), inProgress: [] };
    expect(await watcher.reconcile(place, now)).toEqual([]);
    expect(calls).toContain("ecs:DescribeServices");
    expect(writes()).toEqual([]);
  });

  it("never take over what somebody else made under our names", async () => {
    const place = newPlace();
    const Name = targetGroupName("test", place, "web", "a");
    const { elb } = stage.aws;
    const VpcId = (await elb.describeLoadBalancers({})).LoadBalancers?.[0]?.VpcId;
    const { TargetGroups } = await elb.createTargetGroup({
      Name,
      Protocol: "HTTP",
      Port: 1,
      VpcId,
      TargetType: "ip",
    });
    const refused = await target.prepare(place, release(place, 1)).catch((error: unknown) => error);
    expect(errorCode(refused)).toBe("AWS_NAME_TAKEN");
    expect((await elb.describeTargetGroups({ Names: [Name] })).TargetGroups?.[0]?.Port).toBe(1);
    await elb.deleteTargetGroup({ TargetGroupArn: TargetGroups?.[0]?.TargetGroupArn });

    await serve(place, 1);
    const cluster = stage.settings.cluster;
    const service = serviceName("test", place, "web", "b");
    const { services } = await stage.aws.ecs.describeServices({ cluster, services: [service] });
    const resourceArn = services?.[0]?.serviceArn;
    await stage.aws.ecs.tagResource({ resourceArn, tags: [{ key: "shipway:install", value: "other" }] });
    const seen = await target.observe(place).catch((error: unknown) => error);
    expect(errorCode(seen)).toBe("AWS_NAME_TAKEN");
    expect(String(seen)).toContain("belongs to the Shipway installation other");
  });

  it("of a removal find what a preparation left that was cut off, and leave other places alone", async () => {
    const [place, other] = [newPlace(), newPlace()];
    await target.prepare(other, release(other, 1));
    await target.prepare(place, release(place, 1));
    await target.destroy(place, "remove");
    const { elb } = stage.aws;
    const { TargetGroups } = await elb.describeTargetGroups({});
    const names = (TargetGroups ?? []).map((one) => one.TargetGroupName);
    expect(names).not.toContain(targetGroupName("test", place, "web", "a"));
    expect(names).toContain(targetGroupName("test", other, "web", "a"));
    await target.destroy(other, "remove");
  });

  it("bring back the secret of an environment that was removed and is made again", async () => {
    const place = newPlace();
    const one = release(place, 1);
    const secret = { env: {}, secrets: { KEY: new Secret("KEY", "swordfish") } };
    const run = { service: "web", command: ["sh", "-c", "echo $KEY"], variables: secret, deadlineMs: 10_000 };
    for (const key of ["made", "made again"]) {
      const lines: string[] = [];
      await target.runOnce(place, one, { ...run, key }, (some) => void lines.push(...some.map((line) => line.text)));
      expect(lines).toEqual(["swordfish"]);
      await target.destroy(place, "keep");
    }
  });

  it("say which setting is wrong when a cluster is not there", async () => {
    const settings = { ...stage.settings, cluster: "no-such-cluster" };
    const elsewhere = await openEcsTarget(targetOptions(stage, { settings }));
    const place = newPlace();
    await elsewhere.prepare(place, release(place, 1));
    const refused = await elsewhere.observe(place).catch((error: unknown) => error);
    expect(errorCode(refused)).toBe("AWS_NOT_FOUND");
  });
});
