import { once } from "node:events";
import type { FastifyReply, FastifyRequest } from "fastify";
import { toProblem } from "../shared/errors.ts";

export type Frame = { id?: number; event: string; data: unknown };

/** Proxies cut silent connections; a comment line keeps them open. */
const HEARTBEAT_MS = 15_000;

export const wantsStream = (request: FastifyRequest): boolean =>
  (request.headers.accept ?? "").includes("text/event-stream");

/**
 * Answers with server-sent events (WHATWG HTML, section 9.2) until the source or the reader ends. A slow reader slows the source down. What keeps the source
 * from going on is told as `event: problem`.
 */
export async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  source: (signal: AbortSignal) => AsyncGenerator<Frame, void, void>,
): Promise<void> {
  const gone = new AbortController();
  const { raw } = reply;
  raw.on("close", () => gone.abort());
  // A reader that goes away in the middle of a write is no error of ours.
  raw.on("error", () => gone.abort());
  reply.hijack();
  raw.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  raw.write(": open\n\n");
  const heartbeat = setInterval(() => raw.write(": still here\n\n"), HEARTBEAT_MS);
  try {
    for await (const { id, event, data } of source(gone.signal)) {
      const head = id === undefined ? "" : `id: ${id}\n`;
      const isRoomLeft = raw.write(`${head}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
      if (!isRoomLeft) await once(raw, "drain", { signal: gone.signal }).catch(() => undefined);
      if (gone.signal.aborted) return;
    }
  } catch (error) {
    if (gone.signal.aborted) return;
    request.log.error({ err: error }, "a stream broke");
    // The reader sees the connection end without `event: end`, and comes back where that is of use.
    const problem = toProblem(error);
    if (problem.code !== "BUG") raw.write(`event: problem\ndata: ${JSON.stringify(problem)}\n\n`);
  } finally {
    clearInterval(heartbeat);
    gone.abort();
    raw.end();
  }
}
