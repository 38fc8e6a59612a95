import { isAws } from "../../../../aws/aws-errors.ts";
import type { LogStream } from "../../../../aws/log-stream.ts";
import type { LogLine } from "../../../../shared/log-line.ts";
import type { AwsClients } from "../aws-clients.ts";

/** One GetLogEvents answer has at most this many (Amazon CloudWatch Logs API, GetLogEvents). */
const PAGE = 10_000;

type LogEvent = { timestamp?: number | undefined; message?: string | undefined };

export const toLine = ({ timestamp, message }: LogEvent): LogLine => ({
  at: timestamp ?? 0,
  stream: "out",
  text: (message ?? "").replace(/\r?\n$/, ""),
});

/** The newest lines, oldest first; none when the stream does not exist yet. */
export async function lastLines(
  { logs }: AwsClients,
  { group, stream }: LogStream,
  atMost: number,
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
  return lines;
}
