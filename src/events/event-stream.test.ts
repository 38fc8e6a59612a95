import { afterAll, beforeAll, expect, it } from "vitest";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import type { StoredEvent } from "./event.ts";
import { appendEvent, type EventStream, lastEventId, openEventStream } from "./event-stream.ts";

let store: Store;
let stream: EventStream;
beforeAll(async () => {
  store = await newTestStore();
  stream = await openEventStream(store);
});
afterAll(async () => {
  await stream.close();
  await store.close();
});

const say = (text: string, app = "shop") =>
  store.db
    .transaction()
    .execute((tx) =>
      appendEvent(tx, { app, subject: `app:${app}`, actor: "ada" }, { kind: "delivery.note", data: { text } }),
    );

async function take(count: number, from: AsyncGenerator<StoredEvent, void, void>): Promise<string[]> {
  const texts: string[] = [];
  for await (const event of from) {
    texts.push(String(event.data.text));
    if (texts.length === count) break;
  }
  return texts;
}

it("gives a reader the past after its last id and then what comes, in order", async () => {
  const after = await lastEventId(store.db);
  await say("one");
  const reading = take(3, stream.follow({ after, app: "shop" }, AbortSignal.timeout(10_000)));
  await say("two");
  await say("hidden", "other");
  await say("three");
  expect(await reading).toEqual(["one", "two", "three"]);
});

it("misses nothing when many transactions commit at once", async () => {
  const after = await lastEventId(store.db);
  const reading = take(40, stream.follow({ after }, AbortSignal.timeout(15_000)));
  await Promise.all(Array.from({ length: 40 }, (_, index) => say(`e${index}`)));
  expect((await reading).sort()).toEqual(Array.from({ length: 40 }, (_, index) => `e${index}`).sort());
});

it("takes an event back when its transaction does not commit", async () => {
  const after = await lastEventId(store.db);
  await store.db
    .transaction()
    .execute(async (tx) => {
      await appendEvent(
        tx,
        { app: "shop", subject: "app:shop", actor: "ada" },
        { kind: "delivery.note", data: { text: "never" } },
      );
      throw new Error("no");
    })
    .catch(() => undefined);
  await say("kept");
  expect(await take(1, stream.follow({ after }, AbortSignal.timeout(10_000)))).toEqual(["kept"]);
});
