import Fastify from "fastify";
import { afterEach, describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import { until } from "../shared/until.ts";
import { apiClient, newRecentLines } from "./client.ts";
import { ServerFailure } from "./request.ts";
import { errorBody, newEvent, sendEvents, startTestServer, type TestServer, TOKEN } from "./testing.ts";

let server: TestServer | undefined;
afterEach(() => server?.close());

const clientOf = (baseUrl: string, token = TOKEN) => apiClient({ baseUrl, token });
const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );
async function take<T>(stream: AsyncIterable<T>, count: number): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) {
    items.push(item);
    if (items.length === count) break;
  }
  return items;
}

describe("errors", () => {
  it("keep the API's code, message and hint", async () => {
    server = await startTestServer((app) => {
      app.get("/api/apps/x", (_request, reply) =>
        reply.status(404).send(errorBody("APP_NOT_FOUND", "There is no app x.", "List them.")),
      );
    });
    expect(await caught(clientOf(server.url).getApp("x"))).toMatchObject({
      code: "APP_NOT_FOUND",
      message: "There is no app x.",
      hint: "List them.",
    });
  });

  it.each([
    { status: 400, code: "REQUEST_INVALID" },
    { status: 401, code: "TOKEN_INVALID" },
    { status: 403, code: "FORBIDDEN" },
    { status: 404, code: "NOT_FOUND" },
    { status: 502, code: "API_UNREACHABLE" },
  ])("of a code that only a newer server knows become $code at $status", async ({ status, code }) => {
    server = await startTestServer((app) => {
      app.get("/api/apps", (_request, reply) => reply.status(status).send(errorBody("BRAND_NEW", "Something new.")));
    });
    expect(await caught(clientOf(server.url).listApps())).toMatchObject({ code, message: "Something new." });
  });

  it("of the server's own bugs carry the request id", async () => {
    server = await startTestServer((app) => {
      app.get("/api/apps", (_request, reply) => reply.status(500).send(errorBody("BUG", "Something broke.")));
    });
    const error = await caught(clientOf(server.url).listApps());
    expect(error).toBeInstanceOf(ServerFailure);
    expect(error).toMatchObject({ requestId: "req-1" });
  });

  it("say that no Shipway answers when the connection is refused", async () => {
    server = await startTestServer(() => {});
    await server.close();
    expect(await caught(clientOf(server.url).status())).toMatchObject({
      code: "API_UNREACHABLE",
      message: `No Shipway answers at ${server.url}: the connection was refused.`,
      hint: "Start it: `shipway up`",
    });
  });

  it("say that something else answers", async () => {
    server = await startTestServer((app) => {
      app.get("/api/apps", (_request, reply) => reply.type("text/html").send("<html>hello</html>"));
      app.get("/api/status", (_request, reply) => reply.status(503).type("text/html").send("<html>busy</html>"));
    });
    const client = clientOf(server.url);
    expect(hasCode(await caught(client.listApps()), "API_UNREACHABLE")).toBe(true);
    expect(await caught(client.status())).toMatchObject({
      code: "API_UNREACHABLE",
      message: /answered 503, but not as/,
    });
  });
});

describe("followEvents", () => {
  it("goes on behind its last event after a lost connection, and shows each once", async () => {
    let connection = 0;
    const asked: unknown[] = [];
    server = await startTestServer((app) => {
      app.get("/api/events", (request, reply) => {
        asked.push([request.query, request.headers["last-event-id"]]);
        const pages = [
          [1, 2],
          [2, 3],
          [4, 5],
        ];
        const page = pages[connection++] ?? [];
        sendEvents(
          reply,
          page.map((id) => ({ id, event: "event", data: newEvent(id, "x.y", {}) })),
        );
        // The first ends in good order, the second breaks off in the middle of a message.
        if (connection === 1) reply.raw.end();
        if (connection === 2) setTimeout(() => reply.raw.destroy(), 20);
      });
    });
    const reconnects: number[] = [];
    const stream = clientOf(server.url).followEvents(
      { after: 0, deliveryId: "c_1" },
      { firstPauseMs: 1, onReconnect: (attempt) => reconnects.push(attempt) },
    );
    expect((await take(stream, 5)).map(({ id }) => id)).toEqual([1, 2, 3, 4, 5]);
    expect(asked).toEqual([
      [{ after: "0", deliveryId: "c_1" }, "0"],
      [{ after: "2", deliveryId: "c_1" }, "2"],
      [{ after: "3", deliveryId: "c_1" }, "3"],
    ]);
    expect(reconnects).toHaveLength(1);
  });

  it("comes back when the server was away for a while", async () => {
    const first = await startTestServer((app) => {
      app.get("/api/events", (_request, reply) =>
        sendEvents(reply, [{ id: 1, event: "event", data: newEvent(1, "x.y", {}) }]),
      );
    });
    const attempts: number[] = [];
    const stream = clientOf(first.url).followEvents(
      { after: 0 },
      { firstPauseMs: 5, onReconnect: (attempt) => attempts.push(attempt) },
    );
    expect((await stream.next()).value).toMatchObject({ id: 1 });
    const second = stream.next();
    await first.close();
    await until("three attempts", () => attempts.length >= 3);
    const again = Fastify({ forceCloseConnections: true });
    again.get("/api/events", (_request, reply) =>
      sendEvents(reply, [{ id: 2, event: "event", data: newEvent(2, "x.y", {}) }]),
    );
    await again.listen({ port: Number(new URL(first.url).port), host: "127.0.0.1" });
    expect((await second).value).toMatchObject({ id: 2 });
    await stream.return(undefined);
    await again.close();
  });

  it("gives up at once when the API refuses, or was never there", async () => {
    server = await startTestServer((app) => {
      app.get("/api/events", (_request, reply) => sendEvents(reply, []));
    });
    const refused = await caught(take(clientOf(server.url, "wrong").followEvents({}), 1));
    expect(refused).toMatchObject({ code: "TOKEN_INVALID" });
    expect(server.requests).toHaveLength(1);
    await server.close();
    expect(await caught(take(clientOf(server.url).followEvents({}), 1))).toMatchObject({ code: "API_UNREACHABLE" });
  });

  it("gives up when the server stays away", async () => {
    server = await startTestServer((app) => {
      app.get("/api/events", (_request, reply) => {
        sendEvents(reply, []);
        setTimeout(() => void server?.close(), 10);
      });
    });
    const options = { firstPauseMs: 10, giveUpAfterMs: 60 };
    expect(await caught(take(clientOf(server.url).followEvents({}, options), 1))).toMatchObject({
      code: "API_UNREACHABLE",
    });
  });

  it("throws what a person has to put right, and tells of an upstream that is away while it tries again", async () => {
    let connection = 0;
    server = await startTestServer((app) => {
      app.get("/api/events", (_request, reply) => {
        connection++;
        const [code, message] =
          connection < 3 ? ["AWS_UNREACHABLE", "AWS did not answer"] : ["AWS_DENIED", "AWS refused it"];
        sendEvents(reply, [{ event: "problem", data: { code, message, hint: "Look." } }]);
        reply.raw.end();
      });
    });
    const told: string[] = [];
    const options = { firstPauseMs: 1, onProblem: ({ message }: Error) => void told.push(message) };
    const thrown = await caught(take(clientOf(server.url).followEvents({ after: 0 }, options), 1));
    expect(thrown).toMatchObject({ code: "AWS_DENIED", message: "AWS refused it", hint: "Look." });
    expect(told).toEqual(["AWS did not answer", "AWS did not answer"]);
  });

  it("ends without an error when its signal aborts", async () => {
    server = await startTestServer((app) => {
      app.get("/api/events", (_request, reply) => sendEvents(reply, []));
    });
    const stop = new AbortController();
    const all = take(clientOf(server.url).followEvents({}, { signal: stop.signal }), 1);
    await until("the connection", () => server?.requests.length === 1);
    stop.abort();
    expect(await all).toEqual([]);
  });
});

describe("followLog", () => {
  const line = (n: number) => ({
    event: "line",
    data: { line: n, at: "2026-11-23T11:00:00.000Z", stream: "out", text: `line ${n}` },
  });

  it("ends when the log is closed, and reads each line once over a lost connection", async () => {
    let connection = 0;
    server = await startTestServer((app) => {
      app.get("/api/logs", (_request, reply) => {
        connection++;
        sendEvents(reply, connection === 1 ? [line(0), line(1)] : [line(1), line(2), { event: "end", data: {} }]);
        reply.raw.end();
      });
    });
    const texts: string[] = [];
    for await (const { text } of clientOf(server.url).followLog("p_1.step-1", 0, { firstPauseMs: 1 })) texts.push(text);
    expect(texts).toEqual(["line 0", "line 1", "line 2"]);
    expect(server.requests.map(({ url }) => url)).toEqual([
      "/api/logs?id=p_1.step-1&from=0&follow=true",
      "/api/logs?id=p_1.step-1&from=2&follow=true",
    ]);
  });
});

describe("newRecentLines", () => {
  const line = (task: string, second: number, text: string) => ({
    task,
    at: new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString(),
    stream: "out" as const,
    text,
  });

  it("drops after a rewind exactly the lines that came before it, in any order", () => {
    const recent = newRecentLines();
    const before = [line("a", 1, "x"), line("b", 1, "x"), line("a", 1, "x"), line("a", 2, "y")];
    expect(before.map((one) => recent.add(one))).toEqual([true, true, true, true]);
    expect(recent.rewind()).toBe("2025-12-31T23:59:47.000Z");
    const after = [line("a", 2, "y"), line("a", 1, "x"), line("a", 1, "x"), line("a", 1, "x"), line("b", 1, "x")];
    expect(after.map((one) => recent.add(one))).toEqual([false, false, false, true, false]);
  });
});
