import type { AddressInfo } from "node:net";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { appendEvent } from "../events/event-stream.ts";
import { getChange } from "../release/deliveries.ts";
import { closePipeline, openPipeline } from "../release/pipelines.ts";
import { newRelease, newService } from "../rollout/testing.ts";
import { fail } from "../shared/errors.ts";
import { recordManualChange } from "../source/record-push.ts";
import { type DeliveredApp, newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

let test: TestPlatform;
let shop: DeliveredApp;
let url: string;
let authorization: string;
beforeAll(async () => {
  test = await newTestPlatform();
  shop = await newDeliveredApp(test, "shop");
  authorization = `Bearer ${await test.tokenFor("viewer")}`;
  await test.server.listen({ port: 0, host: "127.0.0.1" });
  url = `http://127.0.0.1:${(test.server.server.address() as AddressInfo).port}`;
});
afterAll(() => test?.close());

type Opened = { status: number; messages: AsyncGenerator<EventSourceMessage, void, void>; close(): void };

async function open(path: string, headers: Record<string, string> = {}): Promise<Opened> {
  const closing = new AbortController();
  const response = await fetch(`${url}${path}`, {
    headers: { authorization, accept: "text/event-stream", ...headers },
    signal: AbortSignal.any([closing.signal, AbortSignal.timeout(15_000)]),
  });
  async function* messages() {
    const waiting: EventSourceMessage[] = [];
    const parser = createParser({ onEvent: (message) => void waiting.push(message) });
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      parser.feed(decoder.decode(chunk, { stream: true }));
      yield* waiting.splice(0);
    }
  }
  return { status: response.status, messages: messages(), close: () => closing.abort() };
}

async function take(opened: Opened, count: number): Promise<EventSourceMessage[]> {
  const taken: EventSourceMessage[] = [];
  while (taken.length < count) {
    const { value, done } = await opened.messages.next();
    if (done || !value) break;
    taken.push(value);
  }
  opened.close();
  return taken;
}

const note = (text: string, deliveryId = "c_notes") =>
  test.platform.store.db
    .transaction()
    .execute((tx) =>
      appendEvent(
        tx,
        { app: "shop", subject: "change:c_notes", deliveryId, actor: "ada" },
        { kind: "delivery.note", data: { text } },
      ),
    );
const textOf = ({ data }: EventSourceMessage): string => JSON.parse(data).data?.text ?? JSON.parse(data).text;

describe("the event stream", () => {
  it("begins now, goes on with what happens, and after a reconnection behind the last event that was seen", async () => {
    const first = await open("/api/events?deliveryId=c_notes");
    await note("one");
    const [seen] = await take(first, 1);
    expect(seen).toMatchObject({ event: "event", id: expect.stringMatching(/^\d+$/) });
    await note("two");
    await note("three");
    const again = await open("/api/events?deliveryId=c_notes&after=0", { "last-event-id": seen?.id ?? "" });
    expect((await take(again, 2)).map(textOf)).toEqual(["two", "three"]);
  });

  it("refuses an id that is none before it begins", async () => {
    const refused = await open("/api/events", { "last-event-id": "the last one" });
    expect(refused.status).toBe(400);
    refused.close();
  });
});

describe("a kept log", () => {
  const newRun = async () => {
    const { db } = test.platform.store;
    const wanted = { app: "shop", environment: "production", commit: shop.commit, refName: "main", actor: "ada" };
    const { id } = await recordManualChange(db, test.platform.repositories, wanted);
    return (await openPipeline(db, await getChange(db, id), [{ id: "0", name: "unit" }])).id;
  };

  it("is followed from any line until it is closed", async () => {
    const id = `${await newRun()}.step-0`;
    const writer = await test.platform.logs.open(id);
    const say = (text: string) => writer.sink([{ at: 1, stream: "out", text }]);
    say("one");
    say("two");
    const following = await open(`/api/logs?id=${id}&from=1&follow=true`);
    say("three");
    await writer.close();
    const messages = await take(following, 99);
    expect(messages.map(({ event, id: line }) => [event, line])).toEqual([
      ["line", "1"],
      ["line", "2"],
      ["end", undefined],
    ]);
    expect(messages.slice(0, 2).map(textOf)).toEqual(["two", "three"]);
  });

  it("ends with its pipeline when its step never began, or never got to close it", async () => {
    const run = await newRun();
    const never = await open(`/api/logs?id=${run}.step-0&follow=true`);
    const cut = await test.platform.logs.open(`${run}.step-1`);
    cut.sink([{ at: 1, stream: "out", text: "half" }]);
    const torn = await open(`/api/logs?id=${run}.step-1&follow=true`);
    await closePipeline(test.platform.store.db, run, "failed", "unit");
    expect((await take(never, 99)).map(({ event }) => event)).toEqual(["end"]);
    expect((await take(torn, 99)).map(({ event }) => event)).toEqual(["line", "end"]);
    const late = await open(`/api/logs?id=${run}.step-1&follow=true`);
    expect((await take(late, 99)).map(({ event }) => event)).toEqual(["line", "end"]);
    await cut.close();
  });
});

describe("what tasks print", () => {
  const place = { app: "shop", environment: "production" };
  const path = "/api/apps/shop/environments/production/logs";
  const release = newRelease(2, [newService("web"), newService("api")]);
  beforeAll(async () => {
    await test.platform.secrets.set(place, "GREETING", "says hello", "ada");
    for (const service of release.services)
      await test.platform.target.startService(place, release, service, { env: {}, secrets: {} });
  });

  it("is given so far, masked, of one service or all, without waiting", async () => {
    const read = async (query = "") =>
      (await fetch(`${url}${path}${query}`, { headers: { authorization } })).json() as Promise<
        { task: string; text: string }[]
      >;
    const lines = await read();
    expect(lines.map(({ task }) => task).sort()).toEqual(["api", "web"].map((name) => expect.stringContaining(name)));
    expect(JSON.stringify(lines)).not.toContain("says hello");
    expect(await read("?service=web")).toHaveLength(1);
    expect(await read("?release=1")).toEqual([]);
    expect(await read(`?since=${new Date(Date.now() + 60_000).toISOString()}`)).toEqual([]);
  });

  it("is followed until the tasks are gone", async () => {
    const following = await open(`${path}?follow=true&service=web`);
    const first = await following.messages.next();
    expect(first.value).toMatchObject({ event: "line" });
    await test.platform.target.stop(place, 2);
    expect((await take(following, 99)).map(({ event }) => event)).toEqual(["end"]);
  });

  it("ends without its end when the engine goes away, so that the reader comes back", async () => {
    for (const service of release.services)
      await test.platform.target.startService(place, release, service, { env: {}, secrets: {} });
    test.onTargetCall.current = (method) => {
      if (method === "readLogs") throw new Error("gone");
    };
    const following = await open(`${path}?follow=true`);
    expect(await take(following, 99)).toEqual([]);
  });

  it("tells what keeps them from being read, with what to do about it", async () => {
    test.onTargetCall.current = (method) => {
      if (method === "readLogs") throw fail("AWS_DENIED", { message: "AWS refused it.", hint: "Add a statement." });
    };
    const following = await open(`${path}?follow=true`);
    const [problem, ...rest] = await take(following, 99);
    expect(problem).toMatchObject({ event: "problem" });
    expect(JSON.parse(problem?.data ?? "")).toEqual({
      code: "AWS_DENIED",
      message: "AWS refused it.",
      hint: "Add a statement.",
    });
    expect(rest).toEqual([]);
  });
});
