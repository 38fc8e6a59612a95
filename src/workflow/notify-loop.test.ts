import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newSealer } from "../environment/sealing.ts";
import { appendEvent, type EventStream, openEventStream } from "../events/event-stream.ts";
import { MOST_ATTEMPTS } from "../notify/attempts.ts";
import { type NotifyDeps, takeTurn } from "../notify/deliver.ts";
import { httpSend } from "../notify/drivers/http-send.ts";
import { addHook, getHook, type Hook, listNotifyDeliveries, removeHook } from "../notify/hooks.ts";
import { type Receiver, startReceiver } from "../notify/testing.ts";
import { until } from "../shared/until.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { startNotifyLoop } from "./notify-loop.ts";

const sealer = newSealer(Buffer.alloc(32, 7));
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const never = new AbortController().signal;
let store: Store;
let events: EventStream;
let receiver: Receiver;
let clock: { ms: number };
let deps: NotifyDeps;
let loops: { stop(): Promise<void> }[];
beforeEach(async () => {
  store = await newTestStore();
  events = await openEventStream(store);
  receiver = await startReceiver();
  clock = { ms: Date.now() };
  const now = () => clock.ms;
  deps = { db: store.db, sealer, send: httpSend(), apiUrl: "http://ship", now, random: () => 0.5 };
  loops = [];
  for (const name of ["shop", "blog"]) await store.db.insertInto("apps").values({ name }).execute();
});
afterEach(async () => {
  for (const loop of loops) await loop.stop();
  await receiver.close();
  await events.close();
  await store.close();
});

const start = (changes: Partial<NotifyDeps> = {}) => {
  const loop = startNotifyLoop({ ...deps, ...changes, events, log });
  loops.push(loop);
  return loop;
};
const hookTo = async (url: string, changes: { app?: string; selectors?: string[] } = {}) => {
  const { app = null, selectors = ["delivery.note"] } = changes;
  return await addHook(store.db, sealer, { url, app, format: "json", selectors }, "ada");
};
const say = (text: string, app = "shop") =>
  appendEvent(store.db, { app, subject: `app:${app}`, actor: "ada" }, { kind: "delivery.note", data: { text } });
const texts = (of = receiver) => of.received.map(({ body }) => JSON.parse(body).event.data.text);
const ids = () => receiver.received.map(({ headers }) => headers["shipway-delivery"]);
const arrived = (count: number, of = receiver) =>
  until(`${count} notifications (${texts(of)})`, () => of.received.length >= count);
const settled = (hook: Hook, status: string) =>
  until(`a delivery that is ${status}`, async () =>
    (await listNotifyDeliveries(store.db, hook.id, 50)).find((one) => one.status === status),
  );

describe("the notify loop", () => {
  it("tells a hook what it asked for, in order and once, signed with its secret", async () => {
    const { hook, secret } = await hookTo(receiver.url);
    start();
    for (const text of ["one", "two", "three"]) await say(text);
    await appendEvent(
      store.db,
      { app: "shop", subject: "app:shop", actor: "ada" },
      { kind: "app.created", data: { app: "shop" } },
    );
    await say("four");
    await arrived(4);
    expect(texts()).toEqual(["one", "two", "three", "four"]);
    const [first] = receiver.received;
    const [, seconds, signature] =
      /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(first?.headers["shipway-signature"])) ?? [];
    expect(createHmac("sha256", secret).update(`${seconds}.${first?.body}`).digest("hex")).toBe(signature);
    await settled(hook, "delivered");
    await until("all are recorded", async () => (await listNotifyDeliveries(store.db, hook.id, 50)).length === 4);
  });

  it("tells a hook of one app nothing of another, and one of all apps both", async () => {
    const other = await startReceiver();
    await hookTo(receiver.url, { app: "shop" });
    await hookTo(other.url);
    start();
    await say("of blog", "blog");
    await say("of shop", "shop");
    await arrived(2, other);
    await arrived(1);
    expect(texts()).toEqual(["of shop"]);
    await other.close();
  });

  it("says nothing of what was before the hook, and goes on where it was after a restart", async () => {
    await say("before");
    const { hook } = await hookTo(receiver.url);
    const loop = start();
    await say("one");
    await settled(hook, "delivered");
    await loop.stop();
    await say("while Shipway was down");
    start();
    await arrived(2);
    expect(texts()).toEqual(["one", "while Shipway was down"]);
  });

  it("sends the same id and body again when it was killed between sending and recording", async () => {
    const { hook } = await hookTo(receiver.url);
    await say("one");
    const killed: NotifyDeps["send"] = async (request, signal) => {
      await deps.send(request, signal);
      await new Promise(() => undefined);
      throw new Error("nobody comes here");
    };
    // The process that dies: its turn never ends, and nothing of it is recorded.
    void takeTurn({ ...deps, send: killed }, hook, 0, never);
    await arrived(1);
    expect(await listNotifyDeliveries(store.db, hook.id, 50)).toEqual([]);
    start();
    await say("two");
    await arrived(3);
    expect(texts()).toEqual(["one", "one", "two"]);
    expect(ids()[1]).toBe(ids()[0]);
    expect(receiver.received[1]?.body).toBe(receiver.received[0]?.body);
    expect(ids()[2]).not.toBe(ids()[0]);
  });

  it("lets only one of two processes record what both sent", async () => {
    const { hook } = await hookTo(receiver.url);
    await say("one");
    const turns = await Promise.all([takeTurn(deps, hook, 0, never), takeTurn(deps, hook, 0, never)]);
    expect(turns.map(({ is }) => is).sort()).toEqual(["gone", "more"]);
    expect(new Set(ids()).size).toBe(1);
    expect(await listNotifyDeliveries(store.db, hook.id, 50)).toMatchObject([{ attempts: 1, status: "delivered" }]);
  });

  it("tries as often as it says and no more, keeps the order, then goes on and shows the hook as failing", async () => {
    const { hook } = await hookTo(receiver.url, { selectors: ["delivery.note", "notify.failing", "notify.recovered"] });
    for (let count = 0; count < MOST_ATTEMPTS; count++) receiver.replies.push({ status: 503, text: "down" });
    await say("poison");
    await say("next");
    let turn = await takeTurn(deps, hook, 0, never);
    for (let attempt = 1; attempt < MOST_ATTEMPTS; attempt++) {
      expect(turn).toMatchObject({ is: "wait" });
      // Before it is due nothing is sent.
      const early = await takeTurn(deps, await getHook(store.db, hook.id), 0, never);
      expect([early.is, receiver.received.length]).toEqual(["wait", attempt]);
      if (turn.is === "wait") clock.ms = turn.untilMs + 1;
      turn = await takeTurn(deps, await getHook(store.db, hook.id), 0, never);
    }
    expect(texts()).toEqual(Array.from({ length: MOST_ATTEMPTS }, () => "poison"));
    expect(new Set(ids()).size).toBe(1);
    expect(await listNotifyDeliveries(store.db, hook.id, 50)).toMatchObject([
      { status: "failed", attempts: MOST_ATTEMPTS, http_status: 503, answer: "down" },
    ]);
    expect((await getHook(store.db, hook.id)).failing_since).not.toBeNull();
    start();
    await arrived(MOST_ATTEMPTS + 3);
    const kinds = receiver.received.slice(MOST_ATTEMPTS).map(({ body }) => JSON.parse(body).event.kind);
    expect(kinds).toEqual(["delivery.note", "notify.failing", "notify.recovered"]);
    expect((await getHook(store.db, hook.id)).failing_since).toBeNull();
  });

  it("tries again by itself when the receiver is back", async () => {
    const { hook } = await hookTo(receiver.url);
    receiver.replies.push("cut");
    start({ now: Date.now, random: () => 0 });
    await say("one");
    const retrying = await settled(hook, "retrying");
    expect(retrying).toMatchObject({ attempts: 1, http_status: null, problem: "the connection was cut" });
    await settled(hook, "delivered");
    expect(texts()).toEqual(["one", "one"]);
    expect(await listNotifyDeliveries(store.db, hook.id, 50)).toMatchObject([{ attempts: 2, status: "delivered" }]);
  });

  it("holds up no hook for another that does not answer, nor who writes events, and stops all the same", async () => {
    const slow = await startReceiver();
    slow.replies.push("hang");
    await hookTo(slow.url);
    await hookTo(receiver.url);
    const loop = start();
    await say("one");
    await arrived(1, slow);
    await arrived(1);
    await say("two");
    await arrived(2);
    await loop.stop();
    expect(texts(slow)).toEqual(["one"]);
    await slow.close();
  });

  it("remembers where it was although nothing was of interest for long", async () => {
    const { hook } = await hookTo(receiver.url, { selectors: ["secret.set"] });
    await store.db
      .insertInto("events")
      .values(Array.from({ length: 600 }, () => ({ ...MANY, data: "{}" })))
      .execute();
    start();
    await until("the cursor moved", async () => Number((await getHook(store.db, hook.id)).cursor) > 500);
    expect(receiver.received).toEqual([]);
  });

  it("forgets a hook that is removed, with what waits for it", async () => {
    const { hook } = await hookTo(receiver.url);
    receiver.replies.push({ status: 500 });
    start();
    await say("one");
    await settled(hook, "retrying");
    await removeHook(store.db, hook.id, "ada");
    const kept = await hookTo(receiver.url);
    await say("two");
    await settled(kept.hook, "delivered");
    expect(texts()).toEqual(["one", "two"]);
    expect(await listNotifyDeliveries(store.db, hook.id, 50)).toEqual([]);
  });

  it("keeps URL and secret sealed", async () => {
    const { hook, secret } = await hookTo(receiver.url);
    const stored =
      JSON.stringify(await store.db.selectFrom("notify_hooks").selectAll().execute()) + hook.url.toString("latin1");
    expect(stored).not.toContain("s3cret-part");
    expect(hook.secret.toString("latin1")).not.toContain(secret);
    expect(hook.shown_url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/…$/);
  });
});

const MANY = {
  app: "shop",
  environment: null,
  subject: "app:shop",
  delivery_id: null,
  kind: "rollout.note",
  actor: "ada",
};
