import { describe, expect, it } from "vitest";
import { until } from "../../../../shared/until.ts";
import { commonPrefix, type LogFeed, newLogFeed, newMemory } from "./log-feed.ts";
import { type LogEvent, type ReadPage, readPast } from "./past-events.ts";

const MINUTE_MS = 60_000;

type Gate = { until: Promise<void>; open(): void; isHolding: boolean };
const newGate = (): Gate => {
  let open = () => {};
  const until = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { until, open: () => open(), isHolding: false };
};

/** A log group that gives small pages, some of them empty, and other streams' events too. */
function newGroup(pageSize = 7) {
  const stored: LogEvent[] = [];
  const calls: { fromMs: number; toMs: number | undefined; prefix: string; token: string | undefined }[] = [];
  let pastGate: (Gate & { fromMs: number }) | undefined;
  let roundGate: Gate | undefined;
  let failing: Error | undefined;
  const readPage: ReadPage = async ({ fromMs, toMs, prefix }, token) => {
    calls.push({ fromMs, toMs, prefix, token });
    await new Promise((resolve) => setImmediate(resolve));
    if (failing) throw failing;
    if (fromMs === pastGate?.fromMs) await pastGate.until;
    const found = stored.filter(({ at }) => at >= fromMs && at <= (toMs ?? Infinity)).sort((a, b) => a.at - b.at);
    const begin = Number(token?.replace("empty", "") ?? 0);
    if (token === undefined && found.length > 0) return { events: [], nextToken: "empty0" };
    const page = found.slice(begin, begin + pageSize);
    const nextToken = begin + pageSize < found.length ? String(begin + pageSize) : undefined;
    // A round is told from a past by its beginning, which is an event's time less the overlap.
    if (nextToken === undefined && roundGate !== undefined && found.some(({ at }) => at - fromMs === QUICK.overlapMs)) {
      roundGate.isHolding = true;
      await roundGate.until;
    }
    return { events: page, nextToken };
  };
  const print = (at: number, stream = "r7/web/1") => {
    const id = `e${stored.length}`;
    stored.push({ id, at, stream, text: id });
    return id;
  };
  return {
    readPage,
    calls,
    print,
    fail(error: Error | undefined) {
      failing = error;
    },
    /** Whoever asks from this moment on is not answered until the returned function is called. */
    hold(fromMs: number) {
      const gate = { ...newGate(), fromMs };
      pastGate = gate;
      return gate.open;
    },
    /** The last page of rounds, as it is when it is asked for, is not given until the returned function is called. */
    holdRound() {
      const gate = newGate();
      roundGate = gate;
      return gate.open;
    },
    isHeld: () => roundGate?.isHolding === true,
  };
}

const QUICK = { quickMs: 1, slowMs: 3, overlapMs: 1_000 };

function watch(feed: LogFeed, { prefix = "r7/", sinceMs = 0, atMost = 10_000 } = {}) {
  const got: LogEvent[] = [];
  let leftOut = 0;
  const stop = new AbortController();
  const ended = feed.follow({ prefix, sinceMs, atMost, signal: stop.signal }, (given) => {
    got.push(...given.events);
    leftOut += given.leftOut;
  });
  ended.catch(() => undefined);
  const ids = () => got.map(({ id }) => id);
  const gets = (id: string) => until(`the event ${id}`, () => ids().includes(id));
  return { got, ids, gets, ended, stop: () => stop.abort(), leftOut: () => leftOut };
}

/** As many rounds as it takes that what is there now has been read. */
const aRound = async (feed: LogFeed) => {
  const after = feed.rounds() + 2;
  await until("a whole round", () => feed.rounds() >= after, { everyMs: 1 });
};

describe("the feed of a log group", () => {
  it("gives every event once to each viewer, those that arrive late and those around the moment it came too", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const begin = Date.now() - 10_000;
    const viewers = [watch(feed)];
    for (let n = 0; n < 400; n++) {
      // Up to 0.9 of the overlap older than the newest one.
      const at = begin + n * 20 - (n % 3 === 0 ? Math.floor(Math.random() * 900) : 0);
      group.print(at, `r7/${n % 2 === 0 ? "web" : "api"}/${n % 5}`);
      if (n % 7 === 0) group.print(at, "journal/1");
      if (n % 40 === 20) viewers.push(watch(feed), watch(feed, { prefix: "r7/web/" }));
      if (n % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const isDone = ({ got }: (typeof viewers)[number], index: number) =>
      got.length >= (index > 0 && index % 2 === 0 ? 200 : 400);
    await until("all of it for all", () => viewers.every(isDone), { withinMs: 30_000 });
    await aRound(feed);
    for (const [index, viewer] of viewers.entries()) {
      expect(new Set(viewer.ids()).size).toBe(viewer.ids().length);
      expect(viewer.got).toHaveLength(index > 0 && index % 2 === 0 ? 200 : 400);
      viewer.stop();
    }
    for (const viewer of viewers) await viewer.ended;
  });

  it("gives once what a viewer read by itself while the round under way was too early for it", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const first = watch(feed);
    await first.gets(group.print(Date.now()));
    const answer = group.holdRound();
    await until("a round is under way", () => group.isHeld());
    const both = group.print(Date.now());
    const second = watch(feed, { sinceMs: Date.now() - 5_000 });
    await second.gets(both);
    answer();
    await first.gets(both);
    await aRound(feed);
    expect(second.ids()).toEqual(["e0", both]);
    for (const viewer of [first, second]) viewer.stop();
    for (const viewer of [first, second]) await viewer.ended;
  });

  it("gives a task's lines in order, the past before what comes", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const begin = Date.now() - 5_000;
    for (let n = 0; n < 50; n++) group.print(begin + n);
    const viewer = watch(feed);
    for (let n = 50; n < 100; n++) group.print(begin + n);
    await viewer.gets("e99");
    expect(viewer.ids()).toEqual(Array.from({ length: 100 }, (_, n) => `e${n}`));
    viewer.stop();
    await viewer.ended;
  });

  it("asks as often for fifty viewers as for one, and not at all for none", async () => {
    const group = newGroup(1_000);
    const feed = newLogFeed(group.readPage, QUICK);
    const viewers = Array.from({ length: 50 }, () => watch(feed));
    const first = group.print(Date.now());
    for (const viewer of viewers) await viewer.gets(first);
    const [calls, rounds] = [group.calls.length, feed.rounds()];
    await until("twenty rounds", () => feed.rounds() >= rounds + 20);
    // A page that is empty and one that is not: two calls a round.
    expect(group.calls.length - calls).toBeLessThanOrEqual(2 * (feed.rounds() - rounds + 1));
    for (const viewer of viewers) viewer.stop();
    for (const viewer of viewers) await viewer.ended;
    expect(await feed.idle()).toBe(true);
    const asked = group.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 10 * QUICK.slowMs));
    expect(group.calls.length).toBe(asked);
  });

  it("asks less often while nothing comes", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, { quickMs: 1, slowMs: 10_000, overlapMs: 1_000 });
    const viewer = watch(feed);
    await until("some rounds", () => feed.rounds() >= 8);
    const before = Date.now();
    const rounds = feed.rounds();
    await until("another", () => feed.rounds() > rounds);
    // 1 ms × 1.5^8, less the tenth that is left to chance.
    expect(Date.now() - before).toBeGreaterThanOrEqual(10);
    viewer.stop();
    await viewer.ended;
  });

  it("lets nobody wait for a viewer whose past takes long, who has both afterwards", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const quick = watch(feed);
    const past = group.print(Date.now() - 1_000);
    await quick.gets(past);
    await aRound(feed);
    const sinceMs = Date.now() - 4_321;
    const answer = group.hold(sinceMs);
    const slow = watch(feed, { sinceMs });
    await until("the slow one asks for its past", () => group.calls.some(({ fromMs }) => fromMs === sinceMs));
    const news = group.print(Date.now());
    await quick.gets(news);
    expect(slow.ids()).toEqual([]);
    answer();
    await slow.gets(news);
    expect(slow.ids()).toEqual([past, news]);
    for (const viewer of [quick, slow]) viewer.stop();
    for (const viewer of [quick, slow]) await viewer.ended;
  });

  it("does not give as news what was left out of a long past", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const begin = Date.now() - 3_000;
    for (let n = 0; n < 30; n++) group.print(begin + n);
    const viewer = watch(feed, { atMost: 5 });
    await viewer.gets("e29");
    await aRound(feed);
    const news = group.print(Date.now());
    await viewer.gets(news);
    expect(viewer.ids()).toEqual(["e25", "e26", "e27", "e28", "e29", news]);
    viewer.stop();
    await viewer.ended;
  });

  it("fails for all who watch when it cannot read, and begins anew for the next", async () => {
    const group = newGroup();
    const feed = newLogFeed(group.readPage, QUICK);
    const viewers = [watch(feed), watch(feed)];
    await viewers[1]?.gets(group.print(Date.now()));
    group.fail(new Error("throttled"));
    for (const viewer of viewers) await expect(viewer.ended).rejects.toThrow("throttled");
    expect(await feed.idle()).toBe(true);
    group.fail(undefined);
    const next = watch(feed);
    await next.gets(group.print(Date.now()));
    expect(next.ids()).toEqual(["e0", "e1"]);
    next.stop();
    await next.ended;
  });
});

const never = new AbortController().signal;

describe("the past of a log group", () => {
  const nowMs = Date.parse("2026-11-26T12:00:00Z");
  const read = (group: ReturnType<typeof newGroup>, sinceMs: number, atMost: number) =>
    readPast(group.readPage, { prefix: "r7/", sinceMs, nowMs, atMost, signal: never });

  it("is read from its newest end, and no further than is wanted", async () => {
    const group = newGroup();
    for (let n = 300; n > 0; n--) group.print(nowMs - n * MINUTE_MS);
    const found = await read(group, 0, 20);
    expect(found.map(({ at }) => (nowMs - at) / MINUTE_MS)).toEqual(Array.from({ length: 20 }, (_, n) => 20 - n));
    expect(Math.min(...group.calls.map(({ fromMs }) => fromMs))).toBe(nowMs - 100 * MINUTE_MS);
  });

  it("of ten minutes takes two calls when little was printed", async () => {
    const group = newGroup();
    expect(await read(group, nowMs - 10 * MINUTE_MS, 100)).toEqual([]);
    expect(group.calls.map(({ fromMs, toMs }) => [fromMs, toMs])).toEqual([
      [nowMs - MINUTE_MS, undefined],
      [nowMs - 10 * MINUTE_MS, nowMs - MINUTE_MS - 1],
    ]);
  });

  it("is that of the wanted streams alone, whatever comes beside", async () => {
    const group = newGroup();
    group.print(nowMs - 1, "r70/web/1");
    const ours = group.print(nowMs - 1, "r7/web/1");
    expect((await read(group, nowMs - MINUTE_MS, 10)).map(({ id }) => id)).toEqual([ours]);
  });
});

describe("what a feed remembers", () => {
  const now = Date.parse("2026-11-26T12:00:00Z");
  const events = (count: number, at: (n: number) => number, name: string): LogEvent[] =>
    Array.from({ length: count }, (_, n) => ({ id: `${name}${n}`, at: at(n), stream: "r7/web/1", text: "" }));

  it("stays small in a flood, and still gives nothing twice", () => {
    const memory = newMemory(60_000, 1_000, () => now);
    const all = events(20_000, (n) => now - 20_000 + n, "e");
    const given: string[] = [];
    for (let page = 0; page < 20; page++) {
      given.push(...memory.take(all.slice(page * 1_000, (page + 1) * 1_000)).map(({ id }) => id));
      expect(memory.size()).toBeLessThanOrEqual(1_000);
      // What the next round would read again.
      const again = all.slice(0, (page + 1) * 1_000).filter(({ at }) => at >= memory.from());
      expect(memory.take(again)).toEqual([]);
    }
    expect(given).toHaveLength(20_000);
  });

  it("never goes back behind what it has forgotten", () => {
    const memory = newMemory(1_000, 10, () => now);
    let from = memory.from();
    for (let round = 0; round < 50; round++) {
      memory.take(events(round < 5 ? 100 : 1, (n) => now + round + n / 100, `r${round}-`));
      expect(memory.from()).toBeGreaterThanOrEqual(from);
      from = memory.from();
    }
  });

  it("skips nothing for a task whose clock is ahead", () => {
    const memory = newMemory(1_000, 100, () => now);
    memory.take(events(1, () => now + 3_600_000, "ahead"));
    expect(memory.from()).toBe(now - 1_000);
  });
});

it.each([
  [["r7/web/"], "r7/web/"],
  [["r7/", "r7/web/"], "r7/"],
  [["r7/web/", "r7/worker/"], "r7/w"],
  [["r7/", "r12/"], "r"],
  [["r7/", ""], ""],
  [[], ""],
])("asks for what all of %j begin with: %j", (prefixes, common) => {
  expect(commonPrefix(prefixes)).toBe(common);
});
