import { isAws } from "../../../../aws/aws-errors.ts";
import type { LogLine } from "../../../../shared/log-line.ts";
import type { AwsClients } from "../aws-clients.ts";

export type LogStream = { group: string; stream: string };

/** One GetLogEvents answer has at most this many (Amazon CloudWatch Logs API, GetLogEvents). */
const PAGE = 10_000;

type LogEvent = { timestamp?: number | undefined; message?: string | undefined };

const toLine = ({ timestamp, message }: LogEvent): LogLine => ({
  at: timestamp ?? 0,
  stream: "out",
  text: (message ?? "").replace(/\r?\n$/, ""),
});

/** The newest lines, oldest first; none when the stream does not exist yet. */
export async function lastLines(
  { logs }: AwsClients,
  { group, stream }: LogStream,
  atMost: number,
  sinceMs = 0,
): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  let nextToken: string | undefined;
  try {
    while (lines.length < atMost) {
      const page = await logs.getLogEvents({
        logGroupName: group,
        logStreamName: stream,
        startFromHead: false,
        limit: Math.min(PAGE, atMost - lines.length),
        ...(sinceMs > 0 && { startTime: sinceMs }),
        ...(nextToken && { nextToken }),
      });
      lines.unshift(...(page.events ?? []).map(toLine));
      // The same token twice is the end (Amazon CloudWatch Logs API, GetLogEvents).
      if (page.nextBackwardToken === undefined || page.nextBackwardToken === nextToken) break;
      nextToken = page.nextBackwardToken;
    }
  } catch (error) {
    if (!isAws(error, "ResourceNotFound")) throw error;
  }
  return lines.filter((line) => line.at >= sinceMs);
}

/** Reads a stream from `sinceMs` on, a page at a time; `next` gives what came since. A stream that does not exist yet is empty. */
export function newLogReader({ logs }: AwsClients, { group, stream }: LogStream, sinceMs: number) {
  let token: string | undefined;
  return {
    async next(): Promise<LogLine[]> {
      const lines: LogLine[] = [];
      for (;;) {
        const page = await logs
          .getLogEvents({
            logGroupName: group,
            logStreamName: stream,
            startFromHead: true,
            ...(sinceMs > 0 && { startTime: sinceMs }),
            ...(token && { nextToken: token }),
          })
          .catch((error: unknown) => {
            if (isAws(error, "ResourceNotFound")) return undefined;
            throw error;
          });
        if (page === undefined) return lines;
        lines.push(...(page.events ?? []).map(toLine).filter((line) => line.at >= sinceMs));
        const isEnd = page.nextForwardToken === undefined || page.nextForwardToken === token;
        token = page.nextForwardToken ?? token;
        if (isEnd || (page.events ?? []).length === 0) return lines;
      }
    },
  };
}
