import { isAws } from "../../../../aws/aws-errors.ts";
import type { LogLine } from "../../../../shared/log-line.ts";
import { sleep } from "../../../../shared/until.ts";
import type { Place } from "../../../release.ts";
import { type LogSource, MOST_PAST_LINES, type RolloutTarget, type TaskLogSink } from "../../../target.ts";
import { releaseIn, type ServiceView } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { logGroupName, logPrefix, taskOfStream } from "../names.ts";
import { type Given, type LogFeed, newLogFeed } from "./log-feed.ts";
import { type LogEvent, type ReadPage, readPast } from "./past-events.ts";

const DAY_MS = 86_400_000;

/** Reads what tasks print: each log group once, however many watch it. */
export function newTaskOutput(ground: Ground): Pick<RolloutTarget, "readLogs"> {
  const { install, settings, times } = ground;
  const feeds = new Map<string, LogFeed>();
  const feedOf = (group: string, readPage: ReadPage): LogFeed => {
    const feed = feeds.get(group) ?? newLogFeed(readPage, times.feed);
    feeds.set(group, feed);
    return feed;
  };

  return {
    async readLogs(place, source, { sinceMs, follow, signal }, log) {
      const group = logGroupName(install, place);
      const readPage = newPageReader(ground, group);
      const nowMs = Date.now();
      // Nothing older is kept.
      const oldestMs = nowMs - settings.logRetentionDays * DAY_MS;
      const want = { prefix: prefixOf(source), sinceMs: Math.max(sinceMs, oldestMs), atMost: MOST_PAST_LINES };
      const give = newGiver(place, log);
      if (!follow) return give({ events: await readPast(readPage, { ...want, nowMs, signal }), leftOut: 0 });
      const feed = feedOf(group, readPage);
      const over = new AbortController();
      const ends = AbortSignal.any([signal, over.signal]);
      const gone = untilGone(ground, place, source, feed, ends).finally(() => over.abort());
      const following = feed.follow({ ...want, signal: ends }, give).finally(() => over.abort());
      await Promise.all([gone, following]);
    },
  };
}

const prefixOf = ({ release, service }: LogSource): string =>
  service === undefined ? `${logPrefix(release)}/` : `${logPrefix(release)}/${service}/`;

function newPageReader({ aws }: Ground, logGroupName: string): ReadPage {
  return async ({ fromMs, toMs, prefix }, nextToken) => {
    try {
      const page = await aws.logs.filterLogEvents({
        logGroupName,
        startTime: Math.max(0, Math.floor(fromMs)),
        ...(toMs !== undefined && { endTime: Math.floor(toMs) }),
        ...(prefix !== "" && { logStreamNamePrefix: prefix }),
        ...(nextToken !== undefined && { nextToken }),
      });
      const events = (page.events ?? []).map((event): LogEvent => {
        const { eventId = "", timestamp = 0, logStreamName = "", message = "" } = event;
        return { id: eventId, at: timestamp, stream: logStreamName, text: message.replace(/\r?\n$/, "") };
      });
      return { events, nextToken: page.nextToken };
    } catch (error) {
      if (isAws(error, "ResourceNotFound")) return { events: [], nextToken: undefined };
      throw error;
    }
  };
}

/** Hands events on as lines of their tasks. */
function newGiver(place: Place, log: TaskLogSink): (given: Given) => void {
  return ({ events, leftOut }) => {
    let last: { task: string; lines: LogLine[] } | undefined;
    for (const { at, stream, text } of events) {
      const task = taskOfStream(place, stream);
      if (task === undefined) continue;
      if (last?.task !== task) {
        if (last) log(last.task, last.lines);
        last = { task, lines: leftOut > 0 && last === undefined ? [leftOutLine(at, leftOut)] : [] };
      }
      last.lines.push({ at, stream: "out", text });
    }
    if (last) log(last.task, last.lines);
  };
}

const leftOutLine = (at: number, count: number): LogLine => ({
  at,
  stream: "meta",
  text: `${count} lines are left out here: they came faster than they were read`,
});

/** Resolves when the tasks are gone and their last lines have had the time to come, or the signal aborts. */
async function untilGone(
  { reader, times }: Ground,
  place: Place,
  { release, service }: LogSource,
  feed: LogFeed,
  signal: AbortSignal,
): Promise<void> {
  const isThere = (view: ServiceView) =>
    (service === undefined || view.service === service) &&
    Object.values(view.slots).some((slot) => releaseIn(slot) === release);
  // As the environment was a while ago: it costs no call of its own, however many look.
  while ((await reader.steadyViews(place)).some(isThere)) {
    await sleep(times.goneMs, signal).catch(() => undefined);
    if (signal.aborted) return;
  }
  await sleep(times.logLagMs, signal).catch(() => undefined);
  // The round that is under way may have begun before the last line came.
  const { rounds } = feed;
  for (const last = rounds() + 2; rounds() < last && !signal.aborted; )
    await sleep(times.feed.quickMs, signal).catch(() => undefined);
}
