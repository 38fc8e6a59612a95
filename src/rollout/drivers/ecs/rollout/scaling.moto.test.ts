import { ApplicationAutoScaling } from "@aws-sdk/client-application-auto-scaling";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../../shared/until.ts";
import type { Place, Release } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { type SlotName, serviceName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "../testing.ts";

const NOTHING = { env: {}, secrets: {} };
const ScalableDimension = "ecs:service:DesiredCount" as const;

/** moto keeps scalable targets and scales nothing: what scaling decides is written by the test, as AWS would write it. */
describe.skipIf(!hasMoto)("where Application Auto Scaling decides how many tasks run", { timeout: 120_000 }, () => {
  let stage: AwsStage;
  let scaled: RolloutTarget;
  let fixed: RolloutTarget;
  let scaling: ApplicationAutoScaling;
  beforeAll(async () => {
    stage = await newAwsStage();
    scaled = await openEcsTarget(targetOptions(stage, { settings: { ...stage.settings, autoscaling: true } }));
    fixed = await openEcsTarget(targetOptions(stage));
    scaling = new ApplicationAutoScaling({ region: stage.settings.region, endpoint: stage.endpoint });
  });
  afterAll(() => stage?.cleanUp());

  const place: Place = { app: "shop", environment: "scaled" };
  const release = (number: number): Release => ({
    app: place.app,
    number,
    services: [ecsService(place, "web", "web", { count: 2 })],
  });
  const nameOf = (slot: SlotName) => serviceName("test", place, "web", slot);
  const resourceOf = (slot: SlotName) => `service/${stage.settings.cluster}/${nameOf(slot)}`;
  const deploy = async (number: number) => {
    const one = release(number);
    await scaled.prepare(place, one);
    for (const service of one.services) await scaled.startService(place, one, service, NOTHING);
    const options = { deadlineMs: 30_000, onProgress: () => undefined };
    expect((await scaled.awaitHealthy(place, one, one.services, options)).status).toBe("healthy");
    await scaled.shiftTraffic(place, one);
  };
  const desiredOf = async (slot: SlotName) => {
    const { services } = await stage.aws.ecs.describeServices({
      cluster: stage.settings.cluster,
      services: [nameOf(slot)],
    });
    return services?.[0]?.desiredCount;
  };
  const isSuspended = async (slot: SlotName) => {
    const { ScalableTargets } = await scaling.describeScalableTargets({
      ServiceNamespace: "ecs",
      ResourceIds: [resourceOf(slot)],
    });
    return ScalableTargets?.[0]?.SuspendedState?.DynamicScalingOutSuspended;
  };

  it("its number is nobody's drift and is not mended, a release begins with it, and an empty slot is not filled by its minimum", async () => {
    // Slot b, in which nobody has registered anything yet.
    await deploy(1);
    await scaling.registerScalableTarget({
      ServiceNamespace: "ecs",
      ResourceId: resourceOf("b"),
      ScalableDimension,
      MinCapacity: 2,
      MaxCapacity: 9,
    });
    await stage.aws.ecs.updateService({ cluster: stage.settings.cluster, service: nameOf("b"), desiredCount: 5 });
    const desired = { live: { release: release(1), variables: {} }, inProgress: [] };
    expect(await scaled.findDrift(place, desired)).toEqual([]);
    expect(await scaled.reconcile(place, desired)).toEqual([]);
    expect(await desiredOf("b")).toBe(5);

    await deploy(2);
    expect(await desiredOf("a")).toBe(5);
    await scaling.registerScalableTarget({
      ServiceNamespace: "ecs",
      ResourceId: resourceOf("a"),
      ScalableDimension,
      MinCapacity: 2,
      MaxCapacity: 9,
    });
    await scaled.stop(place, 1);
    expect([await desiredOf("b"), await isSuspended("b"), await isSuspended("a")]).toEqual([0, true, false]);

    await deploy(3);
    expect([await desiredOf("b"), await isSuspended("b")]).toEqual([5, false]);
    const { ScalableTargets } = await scaling.describeScalableTargets({
      ServiceNamespace: "ecs",
      ResourceIds: [resourceOf("b")],
    });
    expect(ScalableTargets?.[0]).toMatchObject({ MinCapacity: 2, MaxCapacity: 9 });
  });

  it("a release without any task is started all the same, and elsewhere the declared number is put back", async () => {
    const desired = { live: { release: release(3), variables: {} }, inProgress: [] };
    await stage.aws.ecs.updateService({ cluster: stage.settings.cluster, service: nameOf("b"), desiredCount: 0 });
    expect(await scaled.reconcile(place, desired)).toEqual(
      expect.arrayContaining([expect.stringContaining("from 0 to 2 tasks")]),
    );
    await stage.aws.ecs.updateService({ cluster: stage.settings.cluster, service: nameOf("b"), desiredCount: 7 });
    await until("the declared number is back", async () => {
      await fixed.reconcile(place, desired);
      return (await desiredOf("b")) === 2;
    });
    await scaled.destroy(place, "remove");
  });
});
