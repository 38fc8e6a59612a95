import { WebSocket } from "ws";
import {
  EXEC_PROTOCOL,
  type ExecStartMessage,
  type FromClientMessage,
  FromServer,
  STDERR,
} from "../http/exec-messages.ts";
import { ERRORS, type ErrorCode, fail, ShipwayError } from "../shared/errors.ts";
import { endSilence } from "../shared/keep-alive.ts";
import type { RawIo } from "./context.ts";
import { readError, type Server, ServerFailure, unreachable } from "./request.ts";

export type ExecAsk = Omit<ExecStartMessage, "type" | "terminal">;
/** `terminalType` where the command gets a terminal, as this process has one. */
export type ExecIo = { raw: RawIo; terminalType: string | undefined; interrupted: AbortSignal };

/** As long as a request of the API may take to be answered. */
const CONNECT_WITHIN_MS = 60_000;
const CLOSE_WITHIN_MS = 1_000;
/** The server asks every 15 s whether we are there. */
const SILENCE_MS = 40_000;
/** Input that is not sent yet; what gives it waits above that. */
const MOST_UNSENT_BYTES = 1024 * 1024;

/**
 * Runs a command inside a task, with this process's input and outputs. Its exit code; undefined when it was left by Ctrl-C, which ends it.
 * @throws API_UNREACHABLE when the connection is lost, what the API refuses
 */
export async function exec(server: Server, path: string, start: ExecAsk, io: ExecIo): Promise<number | undefined> {
  const { raw, terminalType } = io;
  const socket = await connect(server, path);
  const say = (message: FromClientMessage) => socket.send(JSON.stringify(message));
  const terminal = terminalType === undefined ? undefined : { ...raw.size(), type: terminalType };
  const stops: (() => void)[] = [];
  try {
    const ended = outcome(server, socket, io, () => {
      // Not before the command is there: until then Ctrl-C is ours.
      if (terminal !== undefined) {
        raw.setRaw(true);
        stops.push(() => raw.setRaw(false));
        stops.push(raw.onResize(() => say({ type: "resize", ...raw.size() })));
      }
      stops.push(sendInput(socket, raw, say));
    });
    say({ type: "start", ...start, terminal });
    return await ended;
  } finally {
    for (const stop of stops) stop();
    socket.close();
    // One that does not answer any more would keep this process for half a minute.
    setTimeout(() => socket.terminate(), CLOSE_WITHIN_MS).unref();
  }
}

function connect(server: Server, path: string): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${server.baseUrl.replace(/^http/, "ws")}${path}`, EXEC_PROTOCOL, {
      headers: { authorization: `Bearer ${server.token}` },
      handshakeTimeout: CONNECT_WITHIN_MS,
    });
    socket.once("open", () => resolve(socket));
    socket.on("error", (error) => reject(unreachable(server, error)));
    socket.once("unexpected-response", (request, response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.once("close", () => {
        request.destroy();
        reject(readError(server, response.statusCode ?? 0, body));
      });
    });
  });
}

/** Writes what comes, until the end of the command, or of the connection. */
function outcome(
  server: Server,
  socket: WebSocket,
  { raw, interrupted }: ExecIo,
  onStarted: () => void,
): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    if (interrupted.aborted) resolve(undefined);
    interrupted.addEventListener("abort", () => resolve(undefined), { once: true });
    socket.on("message", (data: Buffer, binary) => {
      if (binary) {
        const to = data[0] === STDERR ? raw.err : raw.out;
        if (to.write(data.subarray(1))) return;
        socket.pause();
        to.once("drain", () => socket.resume());
        return;
      }
      const { data: message } = FromServer.safeParse(JSON.parse(data.toString("utf8")));
      // A newer server may say more than we know.
      if (message === undefined) return;
      if (message.type === "started") onStarted();
      if (message.type === "exit") resolve(message.exitCode);
      if (message.type === "error") reject(toError(message.problem));
    });
    socket.once("close", () => reject(lost(server)));
    endSilence(socket, SILENCE_MS);
  });
}

function toError({
  code,
  message,
  hint,
  requestId,
}: {
  code: string;
  message: string;
  hint?: string | undefined;
  requestId?: string | undefined;
}): Error {
  if (Object.hasOwn(ERRORS, code)) return new ShipwayError(code as ErrorCode, { message, hint });
  return new ServerFailure(message, requestId);
}

function lost({ baseUrl }: Server) {
  return fail("API_UNREACHABLE", {
    message: `The connection to ${baseUrl} was lost, and the command was ended with it.`,
    hint: "Look whether Shipway runs, and what stands in between. What must not be cut off runs with `shipway run`.",
  });
}

/** Hands stdin on, no faster than it is taken. Returns what stops that. */
function sendInput(socket: WebSocket, { stdin }: RawIo, say: (message: FromClientMessage) => void): () => void {
  const onData = (chunk: Buffer | string) => {
    socket.send(Buffer.from(chunk), () => {
      if (socket.bufferedAmount < MOST_UNSENT_BYTES && stdin.isPaused()) stdin.resume();
    });
    if (socket.bufferedAmount >= MOST_UNSENT_BYTES) stdin.pause();
  };
  const onEnd = () => {
    if (socket.readyState === socket.OPEN) say({ type: "stdin-end" });
  };
  stdin.on("data", onData);
  stdin.once("end", onEnd);
  return () => {
    stdin.off("data", onData);
    stdin.off("end", onEnd);
    stdin.pause();
    // An input that stays open must not keep this process alive.
    (stdin as { unref?: () => void }).unref?.();
  };
}
