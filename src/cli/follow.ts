import type { EventSourceMessage } from "eventsource-parser";
import { hasCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { isAbort, type Query, type Server, send, unreachable } from "./request.ts";
import { readMessages } from "./sse.ts";

/** Where to go on after a lost connection. */
export type Resume = { query: Query; lastEventId?: string };

export type FollowOptions = {
  signal?: AbortSignal | undefined;
  /** Told when the connection was lost, before each new attempt. */
  onReconnect?: ((attempt: number) => void) | undefined;
  /** How long a server may stay away before we give up. */
  giveUpAfterMs?: number;
  firstPauseMs?: number;
};

const GIVE_UP_AFTER_MS = 120_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3_000;

/**
 * The messages of a stream that may break off: connects again where `resume()` says, and goes on. Ends when `signal` aborts, or when the consumer stops.
 * What the API refuses (a bad token, an unknown app) is thrown at once; only a lost connection is tried again. @throws API_UNREACHABLE
 */
export async function* followStream(
  server: Server,
  path: string,
  resume: () => Resume,
  options: FollowOptions = {},
): AsyncGenerator<EventSourceMessage> {
  let lostAt: number | undefined;
  for (let attempt = 0; !options.signal?.aborted; attempt++) {
    try {
      for await (const message of connectOnce(server, path, resume(), options.signal)) {
        lostAt = undefined;
        attempt = 0;
        yield message;
      }
      // The server closed the stream in good order (a restart): the same as a lost connection.
      lostAt ??= Date.now();
    } catch (error) {
      if (isAbort(error) || options.signal?.aborted) return;
      lostAt ??= Date.now();
      const neverConnected = attempt === 0 && hasCode(error, "API_UNREACHABLE");
      const patient = Date.now() - lostAt < (options.giveUpAfterMs ?? GIVE_UP_AFTER_MS);
      if (!isLoss(error) || neverConnected || !patient) throw error;
    }
    options.onReconnect?.(attempt + 1);
    const pauseMs = Math.min(LONGEST_PAUSE_MS, (options.firstPauseMs ?? FIRST_PAUSE_MS) * 2 ** attempt);
    await sleep(pauseMs, options.signal).catch(() => {});
  }
}

async function* connectOnce(server: Server, path: string, from: Resume, signal: AbortSignal | undefined) {
  const headers = {
    accept: "text/event-stream",
    ...(from.lastEventId === undefined ? {} : { "last-event-id": from.lastEventId }),
  };
  const response = await send(server, "GET", path, { query: from.query, headers, ...(signal ? { signal } : {}) });
  if (!response.body) return;
  try {
    yield* readMessages(response.body);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new LostConnection(unreachable(server, error));
  }
}

class LostConnection extends Error {
  constructor(cause: unknown) {
    super("the connection was lost", { cause });
    this.name = "LostConnection";
  }
}

function isLoss(error: unknown): boolean {
  return error instanceof LostConnection || hasCode(error, "API_UNREACHABLE");
}
