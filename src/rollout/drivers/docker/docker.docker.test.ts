import { describeRolloutTarget } from "../contract.ts";
import { prefixed } from "./names.ts";
import { askRelease, dockerService, hostOf, newDockerStage } from "./testing.ts";

describeRolloutTarget("docker", async () => {
  const stage = await newDockerStage();
  let places = 0;
  return {
    target: stage.target,
    newPlace: () => ({ app: "shop", environment: `e${++places}` }),
    service: dockerService,
    answering: (place, service) => askRelease(stage.httpPort, hostOf(place, service)),
    lose: (_, task) => stage.docker.getContainer(prefixed(stage.instance, task)).remove({ force: true }),
    cleanUp: stage.cleanUp,
  };
});
