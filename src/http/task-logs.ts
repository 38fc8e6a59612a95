import { newMask } from "../events/mask-secrets.ts";
import type { Place } from "../rollout/release.ts";
import { type LogSource, MOST_PAST_LINES } from "../rollout/target.ts";
import type { LogLine } from "../shared/log-line.ts";
import type { Platform } from "./platform.ts";
import type { TaskLogLine } from "./schemas.ts";

type Deps = { target: Pick<Platform["target"], "readLogs">; secrets: Pick<Platform["secrets"], "all"> };
type Wanted = LogSource & { sinceMs: number };

/** What these tasks printed so far, masked, in the order of time; of very much the newest. */
export async function readTaskLogs(deps: Deps, place: Place, wanted: Wanted, signal: AbortSignal) {
  const { sinceMs, ...source } = wanted;
  const view = await newLineView(deps, place);
  const lines: TaskLogLine[] = [];
  await deps.target.readLogs(place, source, { sinceMs, follow: false, signal }, (task, batch) => {
    for (const line of batch) lines.push(view(task, line));
  });
  return lines.sort((a, b) => a.at.localeCompare(b.at)).slice(-MOST_PAST_LINES);
}

/** What these tasks print, masked, as it comes, until the signal aborts or all of them are gone. */
export async function* followTaskLogs(
  deps: Deps,
  place: Place,
  wanted: Wanted,
  signal: AbortSignal,
): AsyncGenerator<TaskLogLine, void, void> {
  const { sinceMs, ...source } = wanted;
  const view = await newLineView(deps, place);
  const done = new AbortController();
  const ends = AbortSignal.any([signal, done.signal]);
  const queue = newLineQueue(ends);
  const following = deps.target.readLogs(place, source, { sinceMs, follow: true, signal: ends }, (task, batch) =>
    queue.push(batch.map((line) => view(task, line))),
  );
  following.then(queue.close, queue.close);
  try {
    yield* queue.lines();
    // What kept us from reading ends the stream with an error, so that the reader tries again.
    if (!signal.aborted) await following;
  } finally {
    done.abort();
  }
}

async function newLineView({ secrets }: Deps, place: Place) {
  const mask = newMask(await secrets.all(place));
  return (task: string, { at, stream, text }: LogLine): TaskLogLine => ({
    task,
    at: new Date(at).toISOString(),
    stream,
    text: mask(text),
  });
}

/** Lines that wait for a reader; a task that prints faster than anybody reads must not fill the memory. */
const MOST_WAITING = 20_000;

function newLineQueue(signal: AbortSignal) {
  let waiting: TaskLogLine[] = [];
  let dropped = 0;
  let closed = false;
  let wake = () => {};
  const close = () => {
    closed = true;
    wake();
  };
  signal.addEventListener("abort", close, { once: true });
  return {
    close,
    push(lines: TaskLogLine[]) {
      waiting.push(...lines);
      if (waiting.length > MOST_WAITING) {
        // The older half at once: line by line would copy all of them for each.
        const kept = waiting.slice(-MOST_WAITING / 2);
        dropped += waiting.length - kept.length;
        waiting = kept;
      }
      wake();
    },
    async *lines(): AsyncGenerator<TaskLogLine, void, void> {
      for (;;) {
        const batch = waiting;
        waiting = [];
        const [first] = batch;
        if (dropped > 0 && first) {
          yield {
            ...first,
            stream: "meta",
            text: `${dropped} lines are left out here: they came faster than they were read`,
          };
          dropped = 0;
        }
        yield* batch;
        if (signal.aborted || (closed && waiting.length === 0)) return;
        if (waiting.length > 0) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
