import type { Place } from "../../release.ts";
import { describeRolloutTarget } from "../contract.ts";
import { backingName, LABEL, networkName, prefixed } from "./names.ts";
import { askRelease, dockerService, hostOf, newDockerStage } from "./testing.ts";

describeRolloutTarget("docker", async () => {
  const stage = await newDockerStage();
  let places = 0;
  const backing = (place: Place, name: string) => stage.docker.getContainer(backingName(stage.instance, place, name));
  const intruders: string[] = [];
  return {
    target: stage.target,
    newPlace: () => ({ app: "shop", environment: `e${++places}` }),
    service: dockerService,
    answering: (place, service) => askRelease(stage.httpPort, hostOf(place, service)),
    change: (_, task) => stage.docker.getContainer(prefixed(stage.instance, task)).update({ CpuShares: 77 }),
    intrude: async (place) => {
      const name = `intruder-${stage.instance}-${place.environment}`;
      const container = await stage.docker.createContainer({
        name,
        Image: "debian:bookworm-slim",
        Cmd: ["sleep", "600"],
        HostConfig: { NetworkMode: networkName(stage.instance, place) },
        // Only so that the clean-up finds it; the router has this label as well, and an app's is what makes it ours.
        Labels: { [LABEL.instance]: stage.instance, [LABEL.app]: "intruder" },
      });
      await container.start();
      intruders.push(container.id);
      return name;
    },
    lose: (_, task) => stage.docker.getContainer(prefixed(stage.instance, task)).remove({ force: true }),
    loseBacking: (place, name) => backing(place, name).remove({ force: true }),
    stopBacking: (place, name) => backing(place, name).stop({ t: 5 }),
    expel: async () => {
      for (const id of intruders.splice(0)) await stage.docker.getContainer(id).remove({ force: true });
    },
    parked: "paused",
    holdsReleases: "any",
    cleanUp: stage.cleanUp,
  };
});
