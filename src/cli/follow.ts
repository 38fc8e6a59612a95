import type { EventSourceMessage } from "eventsource-parser";
import { ProblemBody } from "../http/schemas.ts";
import { ERRORS, type ErrorCode, hasCode, ShipwayError } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { isAbort, type Query, type Server, send, unreachable } from "./request.ts";
import { readMessages } from "./sse.ts";

/** Where to go on after a lost connection. */
export type Resume = { query: Query; lastEventId?: string };

export type FollowOptions = {
  signal?: AbortSignal | undefined;
  /** Told when the connection was lost, before each new attempt. */
  onReconnect?: ((attempt: number) => void) | undefined;
  /** Told what keeps the server from going on for now: a cloud that does not answer, an engine that is away. */
  onProblem?: ((problem: ShipwayError) => void) | undefined;
  /** How long a server may stay away before we give up. */
  giveUpAfterMs?: number;
  firstPauseMs?: number;
};

const GIVE_UP_AFTER_MS = 120_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3_000;

/**
 * The messages of a stream that may break off: connects again where `resume()` says, and goes on. Ends when `signal` aborts, or when the consumer stops.
 * What the API refuses (a bad token, an unknown app) is thrown at once, and so is a server that was never reached and what a person has to put right; only
 * a lost connection, and an upstream that is away, are tried again.
 * @throws API_UNREACHABLE when the server stays away
 */
export async function* followStream(
  server: Server,
  path: string,
  resume: () => Resume,
  options: FollowOptions = {},
): AsyncGenerator<EventSourceMessage> {
  const { signal, giveUpAfterMs = GIVE_UP_AFTER_MS, firstPauseMs = FIRST_PAUSE_MS } = options;
  let everReached = false;
  let lostAt: number | undefined;
  let fruitless = 0;
  const reached = () => {
    everReached = true;
    lostAt = undefined;
  };
  while (!signal?.aborted) {
    try {
      for await (const message of connectOnce(server, path, resume(), reached, signal)) {
        const problem = message.event === "problem" ? readProblem(message.data) : undefined;
        if (problem !== undefined) {
          if (ERRORS[problem.code].kind === "user") throw problem;
          options.onProblem?.(problem);
          continue;
        }
        // `end` only says that the server has no more for now.
        if (message.event !== "end") fruitless = 0;
        yield message;
      }
    } catch (error) {
      if (isAbort(error) || signal?.aborted) return;
      lostAt ??= Date.now();
      if (!isLoss(error) || !everReached || Date.now() - lostAt >= giveUpAfterMs) throw error;
      options.onReconnect?.(fruitless + 1);
    }
    await sleep(Math.min(LONGEST_PAUSE_MS, firstPauseMs * 2 ** fruitless++), signal).catch(() => {});
  }
}

async function* connectOnce(
  server: Server,
  path: string,
  from: Resume,
  reached: () => void,
  signal: AbortSignal | undefined,
) {
  const headers = {
    accept: "text/event-stream",
    ...(from.lastEventId === undefined ? {} : { "last-event-id": from.lastEventId }),
  };
  const response = await send(server, "GET", path, { query: from.query, headers, ...(signal ? { signal } : {}) });
  reached();
  if (!response.body) return;
  try {
    yield* readMessages(response.body);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new LostConnection(unreachable(server, error));
  }
}

/** Undefined where a newer server says something that we do not understand. */
function readProblem(data: string): ShipwayError | undefined {
  try {
    const { code, message, hint } = ProblemBody.parse(JSON.parse(data));
    return Object.hasOwn(ERRORS, code) ? new ShipwayError(code as ErrorCode, { message, hint }) : undefined;
  } catch {
    return undefined;
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
