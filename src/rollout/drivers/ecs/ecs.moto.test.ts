import { describe } from "vitest";
import { describeRolloutTarget } from "../contract.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { serviceName } from "./names.ts";
import { ecsService, hasMoto, hostOf, newAwsStage, targetOptions } from "./testing.ts";

describe.skipIf(!hasMoto)("on the emulator with a scheduler of ours", () => {
  describeRolloutTarget("ecs", async () => {
    const stage = await newAwsStage();
    let places = 0;
    return {
      target: await openEcsTarget(targetOptions(stage)),
      newPlace: () => ({ app: "shop", environment: `e${++places}` }),
      service: ecsService,
      answering: (place, service) => stage.answering(hostOf(place, service)),
      // One that only stopped would be replaced by ECS itself: what is gone for good was scaled away by somebody.
      lose: async (place, task) => {
        const service = task.split(".").at(-2) ?? "";
        for (const slot of ["a", "b"] as const) {
          const name = serviceName("test", place, service, slot);
          const { services } = await stage.aws.ecs.describeServices({
            cluster: stage.settings.cluster,
            services: [name],
          });
          const [found] = services ?? [];
          const family = found?.taskDefinition ?? "";
          const { tags } = await stage.aws.ecs
            .describeTaskDefinition({ taskDefinition: family, include: ["TAGS"] })
            .catch(() => ({ tags: [] }));
          const isIts = tags?.some((tag) => tag.key === "shipway:release" && task.includes(`.${tag.value}-`));
          if (isIts)
            await stage.aws.ecs.updateService({ cluster: stage.settings.cluster, service: name, desiredCount: 0 });
        }
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
