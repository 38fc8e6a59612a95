import { newService } from "../testing.ts";
import { type Behaviour, describeRolloutTarget } from "./contract.ts";
import { memoryTarget } from "./memory.ts";

const IMAGES: Record<Behaviour, string> = {
  web: "shop:1",
  "web-broken": "shop:broken",
  "web-exits": "shop:exits",
  "web-crashes": "shop:crashes",
  worker: "shop:1",
  "worker-exits": "shop:exits",
};

describeRolloutTarget("memory", async () => {
  const target = memoryTarget();
  let places = 0;
  return {
    target,
    newPlace: () => ({ app: "shop", environment: `e${++places}` }),
    service: (_, name, behaviour, changes = {}) =>
      newService(name, {
        image: IMAGES[behaviour],
        health: {
          interval: 10,
          timeout: 100,
          healthy: 1,
          unhealthy: 1,
          ...(behaviour === "web-broken" ? { grace: 200 } : {}),
        },
        ...(behaviour.startsWith("worker") ? { port: undefined } : {}),
        ...changes,
      }),
    answering: async (place, service) => target.answering(place, service),
    lose: async (_, task) => target.lose(task),
    loseBacking: async (place, name) => target.loseBacking(place, name),
    stopBacking: async (place, name) => target.stopBacking(place, name),
    change: async (_, task) => target.change(task),
    intrude: async (place) => {
      target.intrude(place, "stranger");
      return "stranger";
    },
    expel: async () => undefined,
    parked: "paused",
    holdsReleases: "any",
    cleanUp: async () => undefined,
  };
});
