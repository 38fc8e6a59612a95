import type { LogLine, LogSink } from "../shared/log-line.ts";

/** How far back lines are compared after a restart: those of stdout and stderr are stored a little out of the order of their times. */
const OVERLAP_MS = 1_000;

/**
 * A sink that leaves out what was given before: all that is older than the newest of it, and of the last second each line as often as it was there. `meta` lines
 * are about a program's output and let through, unless the program itself gives them (`withMeta`).
 */
export function withoutGiven(
  sink: LogSink,
  before: readonly LogLine[],
  mask: (text: string) => string,
  { withMeta = false }: { withMeta?: boolean } = {},
): LogSink {
  const isOutput = ({ stream }: LogLine) => withMeta || stream !== "meta";
  const output = before.filter(isOutput);
  const since = Math.max(0, ...output.map(({ at }) => at)) - OVERLAP_MS;
  const given = new Map<string, number>();
  // As much of a line as is surely stored.
  const keyOf = ({ at, stream }: LogLine, text: string) => JSON.stringify([at, stream, text.slice(0, 1_000)]);
  for (const line of output.filter(({ at }) => at >= since)) {
    const key = keyOf(line, line.text);
    given.set(key, (given.get(key) ?? 0) + 1);
  }
  return (lines) =>
    sink(
      lines.filter((line) => {
        if (!isOutput(line)) return true;
        if (line.at < since) return false;
        const key = keyOf(line, mask(line.text));
        const left = given.get(key) ?? 0;
        if (left > 0) given.set(key, left - 1);
        return left === 0;
      }),
    );
}
