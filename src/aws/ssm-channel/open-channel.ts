import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { type RawData, WebSocket } from "ws";
import { newDeferred } from "../../shared/deferred.ts";
import { keepAlive } from "../../shared/keep-alive.ts";
import { type AgentMessage, decodeMessage, encodeMessage, newMessage } from "./agent-message.ts";
import { newInbox } from "./delivery.ts";
import { answerHandshake, CLIENT_VERSION } from "./handshake.ts";
import { Acknowledgement, ChannelClosed, PAYLOAD, parsePayload } from "./payloads.ts";
import { newSender } from "./sender.ts";

export type ChannelOptions = {
  url: string;
  /** What the service gave for this one session. */
  token: string;
  /** Of the request that opens the connection: its signature. */
  headers: Record<string, string>;
  /** How long the connection may take, and then the handshake. */
  openMs: number;
};

/** `closed`: by the other side, with what it said. `broken`: the connection is gone. `left`: by us. */
export type ChannelEnd = { how: "closed" | "broken" | "left"; said: string };

/** A session's data channel. */
export type SsmChannel = {
  /** What the other side prints; its end is that of the channel. A reader that is slow keeps the connection from being read. */
  output: Readable;
  /** Resolves when more can be taken. What nobody is there for any more is no error. */
  write(bytes: Buffer): Promise<void>;
  resize(size: { columns: number; rows: number }): Promise<void>;
  /** Never rejects. */
  ended: Promise<ChannelEnd>;
  leave(): void;
};

/** Why a channel could not be opened. `refused`: the service did not take the connection, `status` is its HTTP answer. */
export class ChannelFault extends Error {
  readonly kind: "unreachable" | "refused" | "silent" | "closed" | "unsupported";
  readonly status: number | undefined;

  constructor(kind: ChannelFault["kind"], message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = "ChannelFault";
    this.kind = kind;
    this.status = options.status;
  }
}

/** Far above what an agent sends. */
const LARGEST_MESSAGE_BYTES = 1024 * 1024;
const PING_EVERY_MS = 30_000;
const CLOSE_WITHIN_MS = 1_000;

/** Opens the data channel of a session that was just started. Resolves once the agent listens. @throws ChannelFault */
export async function openChannel(options: ChannelOptions): Promise<SsmChannel> {
  const socket = await connect(options);
  const { opened, ...channel } = newChannel(socket);
  const greeting = {
    MessageSchemaVersion: "1.0",
    RequestId: randomUUID(),
    TokenValue: options.token,
    ClientId: randomUUID(),
    ClientVersion: CLIENT_VERSION,
  };
  socket.send(JSON.stringify(greeting));
  const fault = await inTime(opened, options.openMs);
  if (fault === undefined) return channel;
  channel.leave();
  throw fault;
}

async function inTime(opened: Promise<ChannelFault | undefined>, ms: number): Promise<ChannelFault | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<ChannelFault>((resolve) => {
    timer = setTimeout(
      () => resolve(new ChannelFault("silent", `the agent did not answer within ${ms / 1_000} s`)),
      ms,
    );
  });
  try {
    return await Promise.race([opened, late]);
  } finally {
    clearTimeout(timer);
  }
}

function connect({ url, headers, openMs }: ChannelOptions): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, {
      headers,
      handshakeTimeout: openMs,
      maxPayload: LARGEST_MESSAGE_BYTES,
      perMessageDeflate: false,
    });
    socket.once("open", () => resolve(socket));
    // Stays: what happens to a connection later is told by its close.
    socket.on("error", (error) => reject(new ChannelFault("unreachable", error.message, { cause: error })));
    socket.once("unexpected-response", (request, response) => {
      const status = response.statusCode ?? 0;
      request.destroy();
      reject(new ChannelFault("refused", `the connection was answered with HTTP ${status}`, { status }));
    });
  });
}

/** `opened` resolves once the handshake is over, with what went wrong if something did. */
function newChannel(socket: WebSocket): SsmChannel & { opened: Promise<ChannelFault | undefined> } {
  const opened = newDeferred<ChannelFault | undefined>();
  const ended = newDeferred<ChannelEnd>();
  const output = new Readable({ read: () => socket.resume() });
  const transmit = (message: AgentMessage) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(encodeMessage(message));
  };
  const sender = newSender(transmit);
  const stopPings = keepAlive(socket, PING_EVERY_MS);
  let isOver = false;

  function end(how: ChannelEnd): void {
    if (isOver) return;
    isOver = true;
    stopPings();
    sender.stop();
    output.push(null);
    opened.resolve(new ChannelFault("closed", how.said || "the session was closed before it began"));
    ended.resolve(how);
    socket.close();
    // One whose other side does not answer would keep this process alive.
    setTimeout(() => socket.terminate(), CLOSE_WITHIN_MS).unref();
  }

  /** One message of the agent's stream, in order. */
  function handle({ payloadType, payload }: AgentMessage): void {
    if (payloadType === PAYLOAD.handshakeRequest) {
      const { response, unsupported } = answerHandshake(payload);
      sender.post(PAYLOAD.handshakeResponse, response);
      if (unsupported.length > 0) opened.resolve(new ChannelFault("unsupported", unsupported.join(", ")));
    }
    if (payloadType === PAYLOAD.handshakeComplete) opened.resolve(undefined);
    if (payloadType !== PAYLOAD.output || isOver) return;
    // An agent that is too old for a handshake prints at once.
    opened.resolve(undefined);
    if (!output.push(payload)) socket.pause();
  }

  receive(socket, {
    stream: newStreamReader(transmit, handle),
    acknowledged: sender.acknowledge,
    closed: (said) => end({ how: "closed", said }),
  });
  socket.once("close", (_code: number, reason: Buffer) => end({ how: "broken", said: reason.toString() }));
  return {
    opened: opened.promise,
    output,
    ended: ended.promise,
    write: (bytes) => sender.write(PAYLOAD.output, bytes),
    resize: ({ columns, rows }) => sender.write(PAYLOAD.size, Buffer.from(JSON.stringify({ cols: columns, rows }))),
    leave: () => end({ how: "left", said: "" }),
  };
}

type Receivers = {
  stream(message: AgentMessage): void;
  acknowledged(sequenceNumber: number): void;
  closed(said: string): void;
};

function receive(socket: WebSocket, { stream, acknowledged, closed }: Receivers): void {
  socket.on("message", (data: RawData) => {
    const message = decodeMessage(toBuffer(data));
    if (message?.messageType === "output_stream_data") stream(message);
    if (message?.messageType === "channel_closed")
      closed(parsePayload(ChannelClosed, message.payload)?.Output?.trim() ?? "");
    if (message?.messageType !== "acknowledge") return;
    const of = parsePayload(Acknowledgement, message.payload);
    if (of?.AcknowledgedMessageType === "input_stream_data") acknowledged(of.AcknowledgedMessageSequenceNumber);
    // start_publication and pause_publication, by which the service tells whether the agent is there, need no answer: what is lost is sent again.
  });
}

/** Acknowledges what comes, and gives it on in order. */
function newStreamReader(transmit: (message: AgentMessage) => void, handle: (message: AgentMessage) => void) {
  const inbox = newInbox();
  return (message: AgentMessage): void => {
    const { acknowledge, inOrder } = inbox.take(message);
    if (acknowledge) transmit(acknowledgementOf(message));
    inOrder.forEach(handle);
  };
}

/** First and last of its stream: it stands alone. */
const ALONE = 3;

function acknowledgementOf({ messageType, messageId, sequenceNumber }: AgentMessage): AgentMessage {
  const content = {
    AcknowledgedMessageType: messageType,
    AcknowledgedMessageId: messageId,
    AcknowledgedMessageSequenceNumber: sequenceNumber,
    IsSequentialMessage: true,
  };
  const payload = Buffer.from(JSON.stringify(content));
  return newMessage({ messageType: "acknowledge", flags: ALONE, payloadType: 0, payload }, Date.now());
}

function toBuffer(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}
