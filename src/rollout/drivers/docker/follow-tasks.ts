import type Docker from "dockerode";
import { sleep } from "../../../shared/until.ts";
import type { TaskLogSink } from "../../target.ts";
import { followContainer } from "./container-logs.ts";
import type { SeenContainer } from "./containers.ts";

/** How soon a task is noticed that was started while others are followed. */
const LOOK_EVERY_MS = 1_000;

/** Gives the output of every container that `list` gives, now or later, until it gives none any more or the signal aborts. */
export async function followTasks(
  docker: Docker,
  list: () => Promise<SeenContainer[]>,
  { sinceMs, signal }: { sinceMs: number; signal: AbortSignal },
  log: TaskLogSink,
): Promise<void> {
  const over = new AbortController();
  const options = { sinceMs, untilExit: false, signal: AbortSignal.any([signal, over.signal]) };
  /** By container; false where its output has ended. */
  const followed = new Map<string, Promise<void> | false>();
  let failure: { error: unknown } | undefined;
  const follow = async ({ id, name }: SeenContainer): Promise<void> => {
    try {
      await followContainer(docker, id, options, (lines) => log(name, lines));
    } catch (error) {
      failure ??= { error };
    }
    followed.set(id, false);
  };
  try {
    while (!signal.aborted) {
      const found = await list();
      if (found.length === 0) break;
      for (const id of followed.keys()) if (!found.some((one) => one.id === id)) followed.delete(id);
      for (const task of found) if (!followed.has(task.id)) followed.set(task.id, follow(task));
      const alive = [...followed.values()].filter((one) => one !== false);
      // Whichever comes first: time to look again, or the end of a task.
      await Promise.race([sleep(LOOK_EVERY_MS, options.signal).catch(() => undefined), ...alive]);
      if (failure) throw failure.error;
    }
  } finally {
    over.abort();
    await Promise.all([...followed.values()]);
  }
}
