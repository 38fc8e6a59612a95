import { sleep } from "../../../shared/until.ts";
import type { Place } from "../../release.ts";
import { MOST_PAST_LINES, type RolloutTarget } from "../../target.ts";
import type { Ground } from "./ground.ts";
import { logGroupName, logStreamName } from "./names.ts";
import { slotOf } from "./slots.ts";
import { followLog, lastLines, newLogReader } from "./task-logs.ts";

/** Reads what a task prints. */
export function newTaskOutput(ground: Ground): Pick<RolloutTarget, "readLogs"> {
  const { aws, reader, install, times } = ground;
  return {
    async readLogs(place, task, { sinceMs, follow, signal }, log) {
      const found = await findTask(ground, place, task, follow ? signal : undefined);
      if (found === undefined) return;
      const stream = {
        group: logGroupName(install, place),
        stream: logStreamName(found.service, found.service, found.arn),
      };
      if (!follow) {
        const lines = await lastLines(aws, stream, MOST_PAST_LINES, sinceMs);
        if (lines.length > 0) log(lines);
        return;
      }
      const isOver = async () => (await reader.tasksByArn([found.arn]))[0]?.status === "STOPPED";
      await followLog(newLogReader(aws, stream, sinceMs), { everyMs: times.pollMs, signal, isOver }, log);
    },
  };
}

/** Tasks of a slot are numbered by their age: `…r7-2` is the second oldest that runs. One that is still to come is waited for until `waiting` aborts. */
async function findTask(
  { reader, times }: Ground,
  place: Place,
  task: string,
  waiting: AbortSignal | undefined,
): Promise<{ service: string; arn: string } | undefined> {
  const parsed = /^(.*)\.r(\d+)-(\d+)$/.exec(task);
  if (parsed === null) return undefined;
  const [, head = "", release = "", index = ""] = parsed;
  const service = head.slice(`${place.app}.${place.environment}.`.length);
  for (;;) {
    const [view] = await reader.views(place, [service]);
    const slot = view && slotOf(view, Number(release));
    if (slot?.primary === undefined || slot.desired < Number(index)) return undefined;
    const found = (await reader.startedTasks(slot.primary.id))[Number(index) - 1];
    if (found !== undefined) return { service, arn: found.arn };
    if (waiting === undefined || waiting.aborted) return undefined;
    await sleep(times.pollMs, waiting).catch(() => undefined);
  }
}
