/** One line as CloudWatch Logs keeps it. */
export type LogEvent = { id: string; at: number; stream: string; text: string };

export type LogRange = { fromMs: number; toMs?: number | undefined; prefix: string };

/**
 * One page of a group's events from `fromMs` to `toMs`, both included; none where the group is not there. An empty page with a token is not the end.
 * Events of streams whose names begin otherwise may be among them: an emulator knows no prefix.
 */
export type ReadPage = (
  range: LogRange,
  token: string | undefined,
) => Promise<{ events: LogEvent[]; nextToken: string | undefined }>;

/** The past is read from its newest end, a window at a time: most of it is of no use to whoever wants the last lines. */
const FIRST_WINDOW_MS = 60_000;
const WIDER = 10;

/** The last `atMost` events from `sinceMs` on, oldest first. */
export async function readPast(
  readPage: ReadPage,
  want: { prefix: string; sinceMs: number; nowMs: number; atMost: number; signal: AbortSignal },
): Promise<LogEvent[]> {
  const { prefix, sinceMs, nowMs, atMost, signal } = want;
  let found: LogEvent[] = [];
  let toMs: number | undefined;
  for (let widthMs = FIRST_WINDOW_MS; ; widthMs *= WIDER) {
    const fromMs = Math.max(sinceMs, nowMs - widthMs);
    found = [...(await readRange(readPage, { fromMs, toMs, prefix }, atMost, signal)), ...found].slice(-atMost);
    if (fromMs <= sinceMs || found.length >= atMost || signal.aborted) return found;
    toMs = fromMs - 1;
  }
}

async function readRange(readPage: ReadPage, range: LogRange, atMost: number, signal: AbortSignal) {
  // By id: what arrives between two pages may bring the end of one again.
  let found = new Map<string, LogEvent>();
  let token: string | undefined;
  const newest = () => inOrder([...found.values()]).slice(-atMost);
  do {
    const page = await readPage(range, token);
    for (const event of page.events) if (event.stream.startsWith(range.prefix)) found.set(event.id, event);
    // Twice as many as wanted are held at most, so that a long past is not copied for every page.
    if (found.size > 2 * atMost) found = new Map(newest().map((event) => [event.id, event]));
    token = page.nextToken;
  } while (token !== undefined && !signal.aborted);
  return newest();
}

/** By time; what has the same time stays as it came. */
export const inOrder = (events: LogEvent[]): LogEvent[] => events.sort((a, b) => a.at - b.at);
