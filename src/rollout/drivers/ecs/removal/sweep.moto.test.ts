import { EC2 } from "@aws-sdk/client-ec2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../../../shared/errors.ts";
import { Secret } from "../../../../shared/secret.ts";
import type { Place, Release } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { type Fate, newFaultProxy } from "../fault-testing.ts";
import { familyName, servicePrefix, targetGroupName } from "../names.ts";
import { networkOf } from "../rollout/ensure.ts";
import { lowerTags, tagsFor, upperTags } from "../tags.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "../testing.ts";
import { findLeft } from "./sweep.ts";

const VARIABLES = { env: {}, secrets: { KEY: new Secret("KEY", "swordfish") } };

describe.skipIf(!hasMoto)("what a removal looks for behind itself", { timeout: 90_000 }, () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let vpcId: string | undefined;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await openEcsTarget(targetOptions(stage));
    vpcId = (await stage.aws.elb.describeLoadBalancers({})).LoadBalancers?.[0]?.VpcId;
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `s${++places}` });
  const deploy = async (on: RolloutTarget, place: Place) => {
    const services = [ecsService(place, "web", "web"), ecsService(place, "worker", "worker")];
    const release: Release = { app: place.app, number: 1, services };
    await on.prepare(place, release);
    for (const service of services) await on.startService(place, release, service, VARIABLES);
    await on.awaitHealthy(place, release, services, { deadlineMs: 10_000, onProgress: () => undefined });
    await on.shiftTraffic(place, release);
  };
  const newTargetGroup = async (place: Place, Name: string) => {
    const Tags = upperTags(tagsFor("test", place));
    const made = await stage.aws.elb.createTargetGroup({ Name, Protocol: "HTTP", Port: 80, VpcId: vpcId, Tags });
    return made.TargetGroups?.[0]?.TargetGroupArn ?? "";
  };
  const groupNames = async () =>
    ((await stage.aws.elb.describeTargetGroups({})).TargetGroups ?? []).map((one) => one.TargetGroupName);

  it("waits until the last task is gone, and then finds nothing that carries its tags", async () => {
    const [place, other] = [newPlace(), newPlace()];
    await deploy(target, place);
    await deploy(target, other);
    expect(await target.destroy(place, "remove")).toEqual([]);
    const left = await findLeft(stage.aws, { "shipway:install": "test" });
    expect(left.length).toBeGreaterThan(5);
    const prefix = servicePrefix("test", other);
    expect(left.filter((arn) => /:(service|task-definition)\//.test(arn) && !arn.includes(prefix))).toEqual([]);
    expect(await target.destroy(other, "remove")).toEqual([]);
    expect(await findLeft(stage.aws, { "shipway:install": "test" })).toEqual([]);
  });

  it("removes what carries its tags and nobody remembers", async () => {
    const place = newPlace();
    await deploy(target, place);
    await newTargetGroup(place, "made-by-hand");
    const family = familyName("test", place, "gone", 1);
    const { taskDefinition } = await stage.aws.ecs.registerTaskDefinition({
      family,
      containerDefinitions: [{ name: "gone", image: "shop:1", memory: 128 }],
      tags: lowerTags(tagsFor("test", place)),
    });
    // As a removal leaves it that is killed between its last two steps.
    await stage.aws.ecs.deregisterTaskDefinition({ taskDefinition: taskDefinition?.taskDefinitionArn });
    expect(await target.destroy(place, "remove")).toEqual([]);
    expect(await groupNames()).not.toContain("made-by-hand");
    const { taskDefinitionArns } = await stage.aws.ecs.listTaskDefinitions({ status: "INACTIVE" });
    expect(taskDefinitionArns).toEqual([]);
  });

  it("names what is not its to remove, and leaves it", async () => {
    const place = newPlace();
    await deploy(target, place);
    const { ecs } = stage.aws;
    const { cluster } = stage.settings;
    const ec2 = new EC2({ region: stage.settings.region, endpoint: stage.endpoint });
    const { GroupId = "" } = await ec2.createSecurityGroup({
      GroupName: "of-the-team",
      Description: "of the team",
      VpcId: vpcId,
      TagSpecifications: [{ ResourceType: "security-group", Tags: upperTags(tagsFor("test", place)) }],
    });
    const serviceName = `${servicePrefix("test", place)}by-hand`;
    const { taskDefinition } = await ecs.registerTaskDefinition({
      family: "of-the-team",
      containerDefinitions: [{ name: "team", image: "shop:1", memory: 128 }],
    });
    const networkConfiguration = networkOf(stage.settings);
    const definition = taskDefinition?.taskDefinitionArn;
    await ecs.createService({
      cluster,
      serviceName,
      taskDefinition: definition,
      desiredCount: 0,
      launchType: "FARGATE",
      networkConfiguration,
    });
    const remarks = await target.destroy(place, "remove");
    expect(remarks).toHaveLength(2);
    expect(remarks.join()).toContain(serviceName);
    expect(remarks.join()).toContain(GroupId);
    const { services } = await ecs.describeServices({ cluster, services: [serviceName] });
    expect(services?.[0]?.status).toBe("ACTIVE");
    await ecs.deleteService({ cluster, service: serviceName, force: true });
    await ec2.deleteSecurityGroup({ GroupId });
  });

  it("fails with what AWS does not let go of, and goes on from there", async () => {
    const place = newPlace();
    await deploy(target, place);
    const Name = targetGroupName("test", place, "web", "b");
    const { elb } = stage.aws;
    const TargetGroupArn = (await elb.describeTargetGroups({ Names: [Name] })).TargetGroups?.[0]?.TargetGroupArn;
    const { Rules } = await elb.createRule({
      ListenerArn: stage.settings.listener,
      Priority: 7,
      Conditions: [{ Field: "host-header", HostHeaderConfig: { Values: ["other.example.com"] } }],
      Actions: [{ Type: "forward", TargetGroupArn }],
    });
    const hasty = await openEcsTarget(targetOptions(stage, { times: { ...targetOptions(stage).times, sweepMs: 0 } }));
    const refused = await hasty.destroy(place, "remove").catch((error: unknown) => error);
    expect(errorCode(refused)).toBe("AWS_LEFTOVERS");
    expect(String(refused)).toContain(`the target group ${TargetGroupArn}`);
    await elb.deleteRule({ RuleArn: Rules?.[0]?.RuleArn });
    expect(await target.destroy(place, "remove")).toEqual([]);
    expect(await groupNames()).not.toContain(Name);
  });

  it("has only what runs gone once a place is halted: secrets, logs and task definitions stay for its next start", async () => {
    const place = newPlace();
    await deploy(target, place);
    await target.halt(place, []);
    const kinds = (await findLeft(stage.aws, tagsFor("test", place))).map((arn) => arn.split(":")[2]);
    expect([...new Set(kinds)].sort()).toEqual(["ecs", "logs", "secretsmanager"]);
    await deploy(target, place);
    expect(await target.destroy(place, "remove")).toEqual([]);
  });

  it("is done without the tags where a policy denies them, and says so", async () => {
    const place = newPlace();
    await deploy(target, place);
    const fateOf = ({ name }: { name: string }): Fate => (name === "tagging:GetResources" ? "denied" : "pass");
    const proxy = await newFaultProxy(stage.endpoint, fateOf);
    const on = await openEcsTarget(targetOptions(stage, { aws: { endpoint: proxy.endpoint, speed: 1_000 } }));
    expect(await on.destroy(place, "remove")).toEqual([expect.stringContaining("tag:GetResources")]);
    await proxy.close();
    expect(await target.destroy(place, "remove")).toEqual([]);
  });

  it("does not mind that Terraform has removed cluster and listener before", async () => {
    const { aws, settings } = stage;
    const LoadBalancerArn = (await aws.elb.describeLoadBalancers({})).LoadBalancers?.[0]?.LoadBalancerArn;
    const DefaultActions = [{ Type: "fixed-response" as const, FixedResponseConfig: { StatusCode: "404" } }];
    const { Listeners } = await aws.elb.createListener({ LoadBalancerArn, Protocol: "HTTP", Port: 81, DefaultActions });
    const listener = Listeners?.[0]?.ListenerArn ?? "";
    await aws.ecs.createCluster({ clusterName: "short-lived" });
    const on = await openEcsTarget(
      targetOptions(stage, { settings: { ...settings, cluster: "short-lived", listener } }),
    );
    const place = newPlace();
    await deploy(on, place);
    for (const name of ["web_b", "worker_a"]) {
      const service = `${servicePrefix("test", place)}${name}`;
      await aws.ecs.deleteService({ cluster: "short-lived", service, force: true });
    }
    await aws.elb.deleteListener({ ListenerArn: listener });
    await aws.ecs.deleteCluster({ cluster: "short-lived" });
    await on.halt(place, []);
    expect(await on.findDrift(place, { inProgress: [] })).toEqual([]);
    expect(await on.destroy(place, "remove")).toEqual([]);
    expect(await groupNames()).not.toContain(targetGroupName("test", place, "web", "a"));
  });
});
