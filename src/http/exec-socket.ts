import type { Readable } from "node:stream";
import type { RawData, WebSocket } from "ws";
import type { ExecEnd } from "../release/exec-sessions.ts";
import type { Place } from "../rollout/release.ts";
import { fail, toProblem } from "../shared/errors.ts";
import { keepAlive } from "../shared/keep-alive.ts";
import type { Execs, LiveExec } from "../workflow/execs.ts";
import {
  ExecStart,
  type ExecStartMessage,
  FromClient,
  type FromServerMessage,
  STDERR,
  STDOUT,
} from "./exec-messages.ts";

/** A client says at once what it wants. */
const START_WITHIN_MS = 10_000;
/** A client that does not answer two of these is gone: its network ended without a word. */
const PING_EVERY_MS = 15_000;
/** Close codes are of RFC 6455, 7.4.1. */
const DONE = 1000;

type Log = { error(fields: object, message: string): void };

/** Serves one `shipway exec`, from its first message to the command's end. A connection that is lost ends the command. */
export async function serveExec(
  socket: WebSocket,
  { execs, place, actor, log }: { execs: Execs; place: Place; actor: string; log: Log },
): Promise<void> {
  const inbox = newInbox(socket);
  const gone = new Promise<undefined>((resolve) => socket.once("close", () => resolve(undefined)));
  const stopPings = keepAlive(socket, PING_EVERY_MS);
  try {
    const start = await firstMessage(inbox);
    const exec = await execs.open(place, start, actor);
    let how: ExecEnd = { status: "cut-off" };
    try {
      tell(socket, { type: "started", task: exec.task });
      const exitCode = await Promise.race([carry(socket, exec, inbox), gone]);
      if (exitCode !== undefined) how = { status: "exited", exitCode };
    } finally {
      await exec.end(how);
    }
    // On the record first: whoever is told may look.
    if (how.status === "exited") tell(socket, { type: "exit", exitCode: how.exitCode });
  } catch (error) {
    const problem = toProblem(error);
    if (problem.code === "BUG") log.error({ err: error }, "an exec broke");
    tell(socket, { type: "error", problem });
  } finally {
    stopPings();
    // It waits for an answer, which one that is not read never gets.
    socket.resume();
    socket.close(DONE);
  }
}

/** Both ways at once, until the command has ended and all of its output was sent. */
async function carry(socket: WebSocket, { session }: LiveExec, inbox: Inbox): Promise<number> {
  inbox.take((message) => {
    if (message.binary) {
      if (!session.stdin.writable) return;
      // A command that does not read is not buffered for: the client's sending stops until it does.
      if (!session.stdin.write(message.data)) {
        socket.pause();
        session.stdin.once("drain", () => socket.resume());
      }
      return;
    }
    const said = FromClient.safeParse(parseJson(message.data));
    if (!said.success || said.data.type === "start") return;
    if (said.data.type === "stdin-end") session.stdin.end();
    else void session.resize(said.data);
  });
  await Promise.all([pump(socket, STDOUT, session.stdout), pump(socket, STDERR, session.stderr)]);
  return session.ended;
}

/** Sends one chunk after the other: a client that reads slowly slows the command down. */
async function pump(socket: WebSocket, channel: number, from: Readable): Promise<void> {
  const prefix = Buffer.from([channel]);
  for await (const chunk of from) {
    await new Promise<void>((resolve) => socket.send(Buffer.concat([prefix, chunk as Buffer]), () => resolve()));
  }
}

type Message = { binary: boolean; data: Buffer };
type Inbox = {
  /** The next message; undefined when none comes in time. */
  next(withinMs: number): Promise<Message | undefined>;
  /** Gives all that come from here on, and those that came already. */
  take(handler: (message: Message) => void): void;
};

/** What comes before anybody listens is kept: the first message may arrive together with the request. */
function newInbox(socket: WebSocket): Inbox {
  const waiting: Message[] = [];
  let handle = (message: Message): void => void waiting.push(message);
  socket.on("message", (data: RawData, binary: boolean) => handle({ binary, data: toBuffer(data) }));
  return {
    next: (withinMs) =>
      new Promise((resolve) => {
        const keep = handle;
        const settle = (message: Message | undefined) => {
          clearTimeout(timer);
          handle = keep;
          resolve(message);
        };
        const timer = setTimeout(() => settle(undefined), withinMs);
        const [first] = waiting.splice(0, 1);
        if (first) settle(first);
        else handle = settle;
        socket.once("close", () => settle(undefined));
      }),
    take(handler) {
      handle = handler;
      for (const message of waiting.splice(0)) handler(message);
    },
  };
}

/** @throws REQUEST_INVALID */
async function firstMessage(inbox: Inbox): Promise<ExecStartMessage> {
  const message = await inbox.next(START_WITHIN_MS);
  const parsed = ExecStart.safeParse(message && !message.binary ? parseJson(message.data) : undefined);
  if (parsed.success) return parsed.data;
  throw fail("REQUEST_INVALID", {
    message: "The first message does not say what to run.",
    hint: 'It is JSON: {"type":"start","service":"web","command":["sh"]}; docs/operating.md describes the rest.',
  });
}

function tell(socket: WebSocket, message: FromServerMessage): void {
  if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(message));
}

function toBuffer(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

function parseJson(data: Buffer): unknown {
  try {
    return JSON.parse(data.toString("utf8"));
  } catch {
    return undefined;
  }
}
