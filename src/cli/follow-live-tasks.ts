import type { TaskLogLine } from "../http/schemas.ts";
import type { ApiClient, TaskLogQuery } from "./client.ts";
import type { FollowOptions } from "./follow.ts";

/**
 * Output of the tasks that serve, also of those that take over while we watch: when traffic moves, the stream begins anew with the tasks of the release
 * that is live now, from the start of that deployment. With a release named in the query, only its tasks. Ends when `signal` aborts.
 */
export async function* followLiveTasks(
  client: ApiClient,
  place: { app: string; environment: string },
  query: TaskLogQuery,
  signal: AbortSignal,
  onProblem: FollowOptions["onProblem"],
): AsyncGenerator<TaskLogLine> {
  const stop = new AbortController();
  const ends = AbortSignal.any([signal, stop.signal]);
  let since = query.since;
  let stream = new AbortController();
  const onLive = (startedAt: string) => {
    since = startedAt;
    stream.abort();
  };
  const watching = query.release === undefined ? watchTraffic(client, place, onLive, ends) : Promise.resolve();
  // The log stream meets the same server and tells what is wrong with it.
  watching.catch(() => {});
  try {
    while (!ends.aborted) {
      stream = new AbortController();
      const options = { signal: AbortSignal.any([ends, stream.signal]), onProblem };
      yield* client.followTaskLogs(place.app, place.environment, { ...query, since }, options);
    }
  } finally {
    stop.abort();
  }
}

async function watchTraffic(
  client: ApiClient,
  { app, environment }: { app: string; environment: string },
  onLive: (startedAt: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let startedAt: string | undefined;
  for await (const event of client.followEvents({ app }, { signal })) {
    if (event.environment !== environment) continue;
    if (event.kind === "deployment.started") startedAt = event.at;
    if (event.kind === "rollout.live") onLive(startedAt ?? event.at);
  }
}
