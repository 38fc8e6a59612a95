import { sleep } from "../../../../shared/until.ts";
import { inOrder, type LogEvent, type ReadPage, readPast } from "./past-events.ts";

export type FeedTimes = {
  /** Between two rounds while lines come, and the longest it grows to while none do. */
  quickMs: number;
  slowMs: number;
  /** How far back of the newest line each round reads again: tasks' lines arrive some seconds apart, an older one after a newer. */
  overlapMs: number;
};

/** Events remembered as given. When there are more the overlap shrinks, so that a flood of lines does not fill the memory. */
const MOST_REMEMBERED = 100_000;
/** What a viewer may have waiting while it reads its past. */
const MOST_WAITING = 20_000;
/** AWS takes no request from a clock that is further off (Signature Version 4): so far back the first round looks, until events tell the time. */
const CLOCK_TOLERANCE_MS = 300_000;

export type Given = { events: LogEvent[]; leftOut: number };

type Viewer = {
  prefix: string;
  sinceMs: number;
  give(given: Given): void;
  fail(error: unknown): void;
  /** What came while it reads its past; undefined from then on. */
  waiting: Given | undefined;
  /** What it has read by itself; a round that began before that was over may bring the same. */
  own: ReadonlySet<string>;
  ownUntilRound: number;
};

export type LogFeed = ReturnType<typeof newLogFeed>;

/**
 * What comes into one log group, asked for once for all who watch it: FilterLogEvents has 5 to 25 calls a second for a whole account. It is asked only while
 * somebody watches. Each event is given once: one that arrives late is found by the overlap, one that was given already is known by its id.
 */
export function newLogFeed(readPage: ReadPage, times: FeedTimes, mostRemembered = MOST_REMEMBERED) {
  const viewers = new Set<Viewer>();
  let polling: AbortController | undefined;
  /** Rounds begun, ever. */
  let rounds = 0;
  let ended = Promise.resolve();

  /**
   * Gives events of streams that begin with `prefix`: first those since `sinceMs`, the last `atMost` of them, then what comes, until the signal aborts.
   * `give` must neither throw nor wait. @throws what kept us from reading
   */
  async function follow(
    want: { prefix: string; sinceMs: number; atMost: number; signal: AbortSignal },
    give: (given: Given) => void,
  ): Promise<void> {
    const { prefix, sinceMs, atMost, signal } = want;
    if (signal.aborted) return;
    let fail: (error: unknown) => void = () => undefined;
    let leave: () => void = () => undefined;
    const over = new Promise<void>((resolve, reject) => {
      leave = resolve;
      fail = reject;
    });
    signal.addEventListener("abort", leave, { once: true });
    const waiting = { events: [], leftOut: 0 };
    const viewer: Viewer = { prefix, sinceMs, give, fail, waiting, own: NOTHING, ownUntilRound: Infinity };
    // It watches before it reads its past: what comes in between comes twice then, and not never.
    viewers.add(viewer);
    if (polling === undefined) startPolling();
    try {
      await Promise.all([
        over,
        readPast(readPage, { ...want, nowMs: Date.now() }).then((events) => catchUp(viewer, events, atMost)),
      ]);
    } finally {
      signal.removeEventListener("abort", leave);
      viewers.delete(viewer);
      if (viewers.size === 0) stopPolling();
    }
  }

  function catchUp(viewer: Viewer, past: LogEvent[], atMost: number): void {
    const { waiting } = viewer;
    if (!viewers.has(viewer) || waiting === undefined) return;
    viewer.own = new Set(past.map((event) => event.id));
    viewer.ownUntilRound = rounds + 1;
    viewer.waiting = undefined;
    // What was left out of the past must not come as news.
    if (past.length >= atMost) viewer.sinceMs = past[0]?.at ?? viewer.sinceMs;
    const since = waiting.events.filter((event) => event.at >= viewer.sinceMs && !viewer.own.has(event.id));
    if (past.length > 0) viewer.give({ events: past, leftOut: 0 });
    if (since.length > 0) viewer.give({ events: since, leftOut: waiting.leftOut });
  }

  function startPolling(): void {
    const stop = new AbortController();
    polling = stop;
    ended = poll(stop.signal).catch((error: unknown) => {
      if (polling === stop) polling = undefined;
      if (!stop.signal.aborted) for (const viewer of viewers) viewer.fail(error);
    });
  }

  function stopPolling(): void {
    polling?.abort();
    polling = undefined;
  }

  async function poll(signal: AbortSignal): Promise<void> {
    const memory = newMemory(times.overlapMs, mostRemembered);
    let pauseMs = times.quickMs;
    while (!signal.aborted) {
      const round = ++rounds;
      const isFruitful = await readRound(memory, signal);
      for (const viewer of viewers) if (viewer.ownUntilRound <= round) viewer.own = NOTHING;
      pauseMs = isFruitful ? times.quickMs : Math.min(times.slowMs, pauseMs * 1.5);
      await sleep(pauseMs * (0.9 + Math.random() * 0.2), signal).catch(() => undefined);
    }
  }

  async function readRound(memory: Memory, signal: AbortSignal): Promise<boolean> {
    const range = { fromMs: memory.from(), prefix: commonPrefix([...viewers].map((one) => one.prefix)) };
    let isFruitful = false;
    let token: string | undefined;
    do {
      const page = await readPage(range, token);
      // Who watched may have left meanwhile; who came since has a poll of its own.
      if (signal.aborted) return false;
      const fresh = memory.take(page.events);
      if (fresh.length > 0) for (const viewer of viewers) hand(viewer, fresh);
      isFruitful ||= fresh.length > 0;
      token = page.nextToken;
    } while (token !== undefined);
    return isFruitful;
  }

  return {
    follow,
    /** Whether nobody watches and nothing is asked any more. */
    idle: async (): Promise<boolean> => {
      await ended;
      return viewers.size === 0;
    },
    /** Rounds that have begun: what had arrived before one began has been given when the next begins. */
    rounds: () => rounds,
  };
}

function hand(viewer: Viewer, fresh: LogEvent[]): void {
  const events = fresh.filter(
    ({ id, at, stream }) => stream.startsWith(viewer.prefix) && at >= viewer.sinceMs && !viewer.own.has(id),
  );
  if (events.length === 0) return;
  const { waiting } = viewer;
  if (waiting === undefined) {
    viewer.give({ events, leftOut: 0 });
    return;
  }
  waiting.events.push(...events);
  const over = waiting.events.length - MOST_WAITING;
  if (over <= 0) return;
  waiting.events = waiting.events.slice(over);
  waiting.leftOut += over;
}

const NOTHING: ReadonlySet<string> = new Set();

type Memory = ReturnType<typeof newMemory>;

/** Which events were given, as far back as the next round reads. */
export function newMemory(overlapMs: number, most: number, now: () => number = Date.now) {
  const given = new Map<string, number>();
  let newestMs: number | undefined;
  let overlap = overlapMs;
  /** Of what is older nothing is remembered, so it is not read again. */
  let floorMs = 0;
  const from = () => {
    // A task whose clock is ahead must not hide what the others are still to print.
    const reachedMs = newestMs === undefined ? now() - CLOCK_TOLERANCE_MS : Math.min(newestMs, now());
    return Math.max(floorMs, reachedMs - overlap);
  };
  const forget = () => {
    floorMs = from();
    for (const [id, at] of given) if (at < floorMs) given.delete(id);
  };
  const shrink = () => {
    overlap = Math.min(overlapMs, overlap * 1.5);
    forget();
    while (given.size > most && overlap >= 1) {
      overlap /= 2;
      forget();
    }
  };
  return {
    from,
    /** Those that were not given yet, oldest first. */
    take(events: LogEvent[]): LogEvent[] {
      const fresh = inOrder(events.filter(({ id }) => !given.has(id)));
      for (const { id, at } of fresh) {
        given.set(id, at);
        newestMs = Math.max(newestMs ?? at, at);
      }
      shrink();
      return fresh;
    },
    size: () => given.size,
  };
}

/** What all of them begin with. */
export function commonPrefix(prefixes: string[]): string {
  const [first = "", ...others] = prefixes;
  let length = first.length;
  for (const one of others) while (!one.startsWith(first.slice(0, length))) length--;
  return first.slice(0, length);
}
