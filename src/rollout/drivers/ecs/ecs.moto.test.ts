import type { Service } from "@aws-sdk/client-ecs";
import { describe } from "vitest";
import type { Place } from "../../release.ts";
import { describeRolloutTarget } from "../contract.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { SLOTS, serviceName, servicePrefix } from "./names.ts";
import { networkOf } from "./rollout/ensure.ts";
import { ecsService, hasMoto, hostOf, newAwsStage, targetOptions, withExec } from "./testing.ts";

describe.skipIf(!hasMoto)("on the emulator with a scheduler of ours", () => {
  describeRolloutTarget("ecs", async () => {
    const stage = await newAwsStage();
    let places = 0;
    const { cluster } = stage.settings;
    const { ecs } = stage.aws;
    /** The slot of a task's service that holds its release. */
    const slotOf = async (place: Place, task: string): Promise<Service> => {
      const names = SLOTS.map((slot) => serviceName("test", place, task.split(".").at(-2) ?? "", slot));
      const { services } = await ecs.describeServices({ cluster, services: names });
      for (const one of services ?? []) {
        const { tags } = await ecs.describeTaskDefinition({ taskDefinition: one.taskDefinition, include: ["TAGS"] });
        if (tags?.some((tag) => tag.key === "shipway:release" && task.includes(`.${tag.value}-`))) return one;
      }
      throw new Error(`no slot holds ${task}`);
    };
    const strangers: string[] = [];
    return {
      target: await openEcsTarget(targetOptions(stage, { settings: withExec(stage.settings) })),
      newPlace: () => ({ app: "shop", environment: `e${++places}` }),
      service: ecsService,
      answering: (place, service) => stage.answering(hostOf(place, service)),
      // One that only stopped would be replaced by ECS itself: what is gone for good was scaled away by somebody.
      lose: async (place, task) => {
        const { serviceName: service } = await slotOf(place, task);
        await ecs.updateService({ cluster, service, desiredCount: 0 });
      },
      change: async (place, task) => {
        const { serviceName: service, networkConfiguration } = await slotOf(place, task);
        const { subnets, securityGroups } = networkConfiguration?.awsvpcConfiguration ?? {};
        const awsvpcConfiguration = { subnets, securityGroups, assignPublicIp: "ENABLED" as const };
        await ecs.updateService({ cluster, service, networkConfiguration: { awsvpcConfiguration } });
      },
      intrude: async (place) => {
        const name = `${servicePrefix("test", place)}by-hand`;
        const [taskDefinition] = (await ecs.listTaskDefinitions({})).taskDefinitionArns ?? [];
        await ecs.createService({
          cluster,
          serviceName: name,
          taskDefinition,
          desiredCount: 0,
          launchType: "FARGATE",
          networkConfiguration: networkOf(stage.settings),
        });
        strangers.push(name);
        return name;
      },
      expel: async () => {
        for (const service of strangers.splice(0)) await ecs.deleteService({ cluster, service, force: true });
      },
      loseBacking: () => Promise.reject(new Error("there is none on ECS")),
      stopBacking: () => Promise.reject(new Error("there is none on ECS")),
      parked: "running",
      holdsReleases: 2,
      refusesBacking: "BACKING_NOT_ON_ECS",
      cleanUp: stage.cleanUp,
    };
  });
});
