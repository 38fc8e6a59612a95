import type { ObservedService } from "../../target.ts";
import type { SeenContainer } from "./containers.ts";
import type { RouterServer } from "./router.ts";

/** What the port calls observed: the containers by release and service, and what the router does with them. */
export function observedServices(
  tasks: SeenContainer[],
  servers: ReadonlyMap<string, RouterServer>,
): ObservedService[] {
  const groups = new Map<string, SeenContainer[]>();
  for (const task of tasks) {
    const key = `${task.release}/${task.service}`;
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  return [...groups.values()]
    .flatMap((group) => {
      const [first] = group;
      if (first?.release === undefined) return [];
      return {
        release: first.release,
        service: first.service,
        traffic: trafficOf(group, servers),
        tasks: group
          .map(({ name, state }) => ({ name, state: taskState(state) }))
          .sort((a, b) => a.name.localeCompare(b.name)),
      };
    })
    .sort((a, b) => a.release - b.release || a.service.localeCompare(b.service));
}

/** `maint` is a parked task, also in the moment between its waking and the shift. */
function trafficOf(group: SeenContainer[], servers: ReadonlyMap<string, RouterServer>): ObservedService["traffic"] {
  const states = new Set(group.flatMap((task) => servers.get(task.name)?.state ?? []));
  if (states.has("ready")) return "serving";
  if (states.has("maint")) return "standby";
  return states.has("drain") ? "draining" : "none";
}

function taskState(state: SeenContainer["state"]): "running" | "paused" | "exited" {
  if (state === "running" || state === "paused") return state;
  return "exited";
}
