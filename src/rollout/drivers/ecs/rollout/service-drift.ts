import type { Place, ReleaseService } from "../../../release.ts";
import type { TaskDrift } from "../../../target.ts";
import { type ServiceSettings, serviceSettings } from "../account/service-settings.ts";
import type { Slot } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { SERVICE_TAG, SLOT_TAG, type Tags, tagsFor } from "../tags.ts";
import { serviceMembers } from "./ensure.ts";

export type Attributes = TaskDrift["attributes"];

const NOT_SET = "(not set)";

/** How the slot's ECS service is set otherwise than it would be made now, its tags among it: of what AWS says anyway, at no call of its own. */
export function serviceDrift(
  { install, settings }: Pick<Ground, "install" | "settings">,
  place: Place,
  service: ReleaseService,
  slot: Slot,
): Attributes {
  const declared = serviceSettings(serviceMembers(settings, service, slot.targetGroup));
  // Of tasks on Spot the first is on demand where there are several, and how many there were is nobody's to say here.
  if (settings.spot === true && settings.autoscaling === true) delete declared.capacity;
  const tags = tagsFor(install, place, { [SERVICE_TAG]: service.name, [SLOT_TAG]: slot.name });
  return [...differing(declared, slot.settings), ...tagDrift(tags, slot.tags)];
}

/** What is not seen is not compared: AWS says all of it, and an emulator or a partition may lack some. */
export function differing(declared: ServiceSettings, seen: ServiceSettings): Attributes {
  return Object.entries(declared).flatMap(([path, before]) => {
    const after = seen[path];
    return after === undefined || after === before ? [] : [{ path, before, after }];
  });
}

/** Those that somebody removed or changed; what was added is not ours. */
export function tagDrift(declared: Tags, seen: Tags): Attributes {
  return Object.entries(declared)
    .filter(([name, value]) => seen[name] !== value)
    .map(([name, value]) => ({ path: `tags.${name}`, before: value, after: seen[name] ?? NOT_SET }));
}
