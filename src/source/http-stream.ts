import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline, type Readable, type Writable } from "node:stream";
import { createGunzip } from "node:zlib";

/**
 * The bytes of a request as they arrive, unpacked when they came gzipped. Ends by throwing when the client breaks off,
 * or sends nothing for `idleMs` while we wait for it. Not taking all of it leaves the connection open.
 */
export async function* requestBody(request: IncomingMessage, idleMs: number): AsyncGenerator<Buffer, void> {
  const source: Readable = isGzipped(request) ? pipeline(request, createGunzip(), () => {}) : request;
  const chunks: AsyncIterator<Buffer> = source.iterator({ destroyOnReturn: false });
  for (;;) {
    const timer = setTimeout(() => request.destroy(new Error(`the client sent nothing for ${idleMs} ms`)), idleMs);
    try {
      const next = await chunks.next();
      if (next.done) return;
      clearTimeout(timer);
      yield next.value;
    } finally {
      clearTimeout(timer);
    }
  }
}

function isGzipped(request: IncomingMessage): boolean {
  return ["gzip", "x-gzip"].includes(contentEncoding(request));
}

/** Whether `requestBody` can unpack the request. */
export function isReadable(request: IncomingMessage): boolean {
  return isGzipped(request) || contentEncoding(request) === "identity";
}

function contentEncoding(request: IncomingMessage): string {
  return request.headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
}

/** Writes and waits until there is room for more, so that memory stays small. False when the other side is closed. */
async function writeTo(stream: Writable, bytes: Uint8Array): Promise<boolean> {
  if (stream.destroyed || stream.writableEnded) return false;
  if (bytes.length === 0 || stream.write(bytes)) return true;
  await new Promise<void>((resolve) => {
    const settle = () => {
      stream.off("drain", settle).off("close", settle).off("error", settle);
      resolve();
    };
    stream.on("drain", settle).on("close", settle).on("error", settle);
  });
  return !stream.destroyed;
}

// A client looks at an early answer only between its own writes, so what nobody wants is read on for a while.
const DRAIN_BYTES = 32 * 1024 * 1024;

export type Feeding = { received(): number; done: Promise<void> };

/**
 * Writes all of `chunks` to `input` and ends it, also when the client breaks off: the reader finds out by the end of it.
 * When the reader has closed `input`, up to 32 MiB more are dropped, then `cut` is called.
 */
export function feed(input: Writable, chunks: AsyncIterable<Buffer>, cut: () => void): Feeding {
  let received = 0;
  let dropped = 0;
  const run = async () => {
    for await (const chunk of chunks) {
      received += chunk.length;
      if (!(await writeTo(input, chunk))) dropped += chunk.length;
      if (dropped > DRAIN_BYTES) return cut();
    }
  };
  const done = run()
    .catch(() => {})
    .finally(() => input.end());
  return { received: () => received, done };
}

/** The way back to the client. Once the client is gone nothing is sent any more and nothing fails. */
export type Outlet = {
  /** Aborts when the client has broken the connection. */
  gone: AbortSignal;
  start(status: number, headers: Record<string, string>): void;
  started(): boolean;
  /** Waits until there is room for more. */
  send(bytes: Uint8Array): Promise<void>;
  end(): void;
  /** Breaks the connection: the only way to say "failed" once the answer has begun. */
  cut(): void;
};

/** A client that takes nothing for `idleMs` counts as gone. */
export function newOutlet(request: IncomingMessage, response: ServerResponse, idleMs: number): Outlet {
  const gone = new AbortController();
  response.on("close", () => {
    if (!response.writableFinished) gone.abort(new Error("the client broke the connection"));
  });
  response.on("error", () => {});
  return {
    gone: gone.signal,
    start(status, headers) {
      if (gone.signal.aborted) return;
      response.writeHead(status, headers);
      response.flushHeaders();
    },
    started: () => response.headersSent,
    async send(bytes) {
      const timer = setTimeout(() => response.destroy(), idleMs);
      await writeTo(response, bytes).finally(() => clearTimeout(timer));
    },
    end() {
      if (!response.writableEnded) response.end();
    },
    // Not the response: once that is complete it has let go of the connection.
    cut: () => void request.destroy(),
  };
}
