import type { Place } from "../../../release.ts";
import { releaseIn } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { taskIdOf } from "../names.ts";

/** Where a task is: its service's container, and its ARN. */
export type FoundTask = { service: string; arn: string };

/** `…r7-2` is the second oldest that runs; `…r7-3fa9c1d2`, as lines of its output have it, the one whose id begins so. */
export async function findTask(ground: Ground, place: Place, task: string): Promise<FoundTask | undefined> {
  const all = await findTasksLike(ground, place, task);
  const end = task.split("-").at(-1) ?? "";
  return all.find(({ arn }) => taskIdOf(arn).startsWith(end) && end.length >= ID_CHARACTERS) ?? all[Number(end) - 1];
}

/** As many characters of ECS's id as names have. */
const ID_CHARACTERS = 8;

/** All that run of the service and release that a task's name says. Numbers move up when an older task ends, so what had this name before is among them. */
export async function findTasksLike({ reader }: Ground, place: Place, task: string): Promise<FoundTask[]> {
  const [, head = "", release = ""] = /^(.*)\.r(\d+)-[0-9a-f]+$/.exec(task) ?? [];
  const service = head.slice(`${place.app}.${place.environment}.`.length);
  if (service === "") return [];
  const [slots] = (await reader.slotsOf(place, [service])).values();
  const slot = Object.values(slots ?? {}).find((one) => releaseIn(one) === Number(release));
  const started = slot?.primary === undefined ? [] : await reader.startedTasks(slot.primary.id);
  return started.map(({ arn }) => ({ service, arn }));
}
