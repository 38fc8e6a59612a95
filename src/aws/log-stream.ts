import type { CloudWatchLogs, OutputLogEvent } from "@aws-sdk/client-cloudwatch-logs";
import { noneWithout } from "./aws-errors.ts";

/** A stream of Amazon CloudWatch Logs. */
export type LogStream = { group: string; stream: string };

/** Reads a stream from its beginning, a page at a time. One that does not exist yet is empty. */
export function newLogStreamReader({ logs }: { logs: CloudWatchLogs }, { group, stream }: LogStream) {
  let token: string | undefined;
  return {
    /** Events that were not given yet. */
    async next(): Promise<OutputLogEvent[]> {
      const events: OutputLogEvent[] = [];
      for (;;) {
        const page = await logs
          .getLogEvents({
            logGroupName: group,
            logStreamName: stream,
            startFromHead: true,
            ...(token !== undefined && { nextToken: token }),
          })
          .catch(noneWithout("ResourceNotFound"));
        if (page === undefined) return events;
        const some = page.events ?? [];
        events.push(...some);
        const isEnd = page.nextForwardToken === undefined || page.nextForwardToken === token;
        token = page.nextForwardToken ?? token;
        // An empty page may come before the end, too: what is missing then comes with the next look.
        if (isEnd || some.length === 0) return events;
      }
    },

    /** Begins anew: an event that came late stands before those that were read, and no token leads back to it. */
    rewind(): void {
      token = undefined;
    },
  };
}
