import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { endSilence, keepAlive } from "./keep-alive.ts";

// Long enough for an answer on a busy machine.
const EVERY_MS = 1_000;
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Both ends of a connection; `there` may be one that answers no ping. */
async function newPair(options: { autoPong?: boolean } = {}) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", ...options });
  await once(server, "listening");
  const here = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const [[there]] = (await Promise.all([once(server, "connection"), once(here, "open")])) as [[WebSocket], unknown];
  closers.push(() => {
    here.terminate();
    there.terminate();
    server.close();
  });
  return { here, there };
}

/** Resolves once the other side was asked so often. */
async function asked(there: WebSocket, times: number): Promise<void> {
  for (let n = 0; n < times; n++) await once(there, "ping");
}

describe("keepAlive", () => {
  it("leaves a connection alone whose other side answers, and ends one whose other side does not", async () => {
    const live = await newPair();
    closers.push(keepAlive(live.here, EVERY_MS));
    await asked(live.there, 3);
    expect(live.here.readyState).toBe(WebSocket.OPEN);
    const dead = await newPair({ autoPong: false });
    closers.push(keepAlive(dead.here, EVERY_MS));
    await once(dead.here, "close");
  });

  it("concludes nothing while nobody reads, and goes on when somebody does", async () => {
    const { here, there } = await newPair();
    here.pause();
    closers.push(keepAlive(here, EVERY_MS));
    await asked(there, 3);
    expect(here.readyState).toBe(WebSocket.OPEN);
    here.resume();
    await asked(there, 3);
    expect(here.readyState).toBe(WebSocket.OPEN);
  });
});

describe("endSilence", () => {
  it("ends a connection from which nothing comes, and no other", async () => {
    const asking = await newPair();
    closers.push(keepAlive(asking.there, EVERY_MS));
    endSilence(asking.here, 10 * EVERY_MS);
    await asked(asking.here, 3);
    expect(asking.here.readyState).toBe(WebSocket.OPEN);
    const silent = await newPair();
    endSilence(silent.here, EVERY_MS);
    await once(silent.here, "close");
  });

  it("concludes nothing while nobody reads", async () => {
    const { here, there } = await newPair();
    here.pause();
    closers.push(keepAlive(there, EVERY_MS));
    endSilence(here, EVERY_MS);
    const other = await newPair();
    endSilence(other.here, 3 * EVERY_MS);
    await once(other.here, "close");
    expect(here.readyState).toBe(WebSocket.OPEN);
  });
});
