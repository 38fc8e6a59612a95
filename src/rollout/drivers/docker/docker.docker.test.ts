import type { Place } from "../../release.ts";
import { describeRolloutTarget } from "../contract.ts";
import { backingName, prefixed } from "./names.ts";
import { askRelease, dockerService, hostOf, newDockerStage } from "./testing.ts";

describeRolloutTarget("docker", async () => {
  const stage = await newDockerStage();
  let places = 0;
  const backing = (place: Place, name: string) => stage.docker.getContainer(backingName(stage.instance, place, name));
  return {
    target: stage.target,
    newPlace: () => ({ app: "shop", environment: `e${++places}` }),
    service: dockerService,
    answering: (place, service) => askRelease(stage.httpPort, hostOf(place, service)),
    lose: (_, task) => stage.docker.getContainer(prefixed(stage.instance, task)).remove({ force: true }),
    loseBacking: (place, name) => backing(place, name).remove({ force: true }),
    stopBacking: (place, name) => backing(place, name).stop({ t: 5 }),
    cleanUp: stage.cleanUp,
  };
});
