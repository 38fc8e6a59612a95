import type Docker from "dockerode";
import { type LogLine, type LogSink, newLineSplitter } from "../../../shared/log-line.ts";
import { sleep } from "../../../shared/until.ts";
import { asking, askingUnless, statusOf } from "./docker-errors.ts";

/**
 * Cuts the engine's log stream into lines: frames of an 8-byte header (stream, length) and a payload (Docker Engine API, "attach to a
 * container"). Frames may be cut anywhere by the connection, and a line may span frames.
 */
export function newLogReader(onLine: (line: { stream: "out" | "err"; text: string }) => void) {
  let rest: Buffer = Buffer.alloc(0);
  const splitters = {
    out: newLineSplitter((text) => onLine({ stream: "out", text })),
    err: newLineSplitter((text) => onLine({ stream: "err", text })),
  };
  return {
    write(chunk: Buffer) {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (rest.length >= HEADER_BYTES) {
        const end = HEADER_BYTES + rest.readUInt32BE(4);
        if (rest.length < end) return;
        splitters[rest[0] === 2 ? "err" : "out"].write(rest.subarray(HEADER_BYTES, end));
        rest = rest.subarray(end);
      }
    },
    end() {
      splitters.out.end();
      splitters.err.end();
    },
  };
}

const HEADER_BYTES = 8;

/** A line as the engine gives it with `timestamps`: RFC 3339 with nanoseconds, a space, the text. */
export function parseTimestamped(text: string): { timestamp: string; at: number; text: string } | undefined {
  const space = text.indexOf(" ");
  const timestamp = space < 0 ? text : text.slice(0, space);
  const at = Date.parse(timestamp);
  if (Number.isNaN(at)) return undefined;
  return { timestamp, at, text: space < 0 ? "" : text.slice(space + 1) };
}

/** The last `count` lines, oldest first; none when the container is gone. */
export async function lastLines(docker: Docker, id: string, count: number): Promise<string[]> {
  const output = await askingUnless([404, 409], "Reading logs", () =>
    docker.getContainer(id).logs({ stdout: true, stderr: true, tail: count }),
  );
  const lines: string[] = [];
  const reader = newLogReader(({ text }) => lines.push(text));
  if (output !== undefined) reader.write(output as unknown as Buffer);
  reader.end();
  return lines.slice(-count);
}

/** The last `atMost` lines that a container printed since `sinceMs`; none when it is gone. */
export async function readPastLines(
  docker: Docker,
  id: string,
  options: { sinceMs: number; atMost: number; signal: AbortSignal },
  log: LogSink,
): Promise<void> {
  const output = await askingUnless([404, 409], "Reading logs", () =>
    docker.getContainer(id).logs({
      stdout: true,
      stderr: true,
      timestamps: true,
      since: options.sinceMs / 1_000,
      tail: options.atMost,
      abortSignal: options.signal,
    }),
  );
  const lines: LogLine[] = [];
  const reader = newLogReader(({ stream, text }) => {
    const parsed = parseTimestamped(text);
    if (parsed !== undefined && parsed.at >= options.sinceMs) lines.push({ at: parsed.at, stream, text: parsed.text });
  });
  if (output !== undefined) reader.write(output as unknown as Buffer);
  reader.end();
  log(lines);
}

/**
 * Gives a container's output from `sinceMs` on until it is gone or the signal aborts. The engine ends the stream when the
 * container stops; one that is restarted is followed again from the last line on. `untilExit` ends with its first exit.
 */
export async function followContainer(
  docker: Docker,
  id: string,
  options: { sinceMs: number; untilExit: boolean; signal: AbortSignal },
  log: LogSink,
): Promise<void> {
  let last: { timestamp: string; at: number } | undefined;
  /** The newest line of the streams before this one. Within a stream, lines of stdout and stderr may come a little out of the order of their times. */
  let shown = "";
  const onLine = (line: { stream: "out" | "err"; text: string }) => {
    const parsed = parseTimestamped(line.text);
    if (parsed === undefined || parsed.timestamp <= shown || parsed.at < options.sinceMs) return;
    if (last === undefined || parsed.timestamp > last.timestamp) last = parsed;
    log([{ at: parsed.at, stream: line.stream, text: parsed.text } satisfies LogLine]);
  };
  while (!options.signal.aborted) {
    shown = last?.timestamp ?? "";
    const isThere = await followOnce(docker, id, last?.at ?? options.sinceMs, onLine, options.signal);
    if (!isThere || options.untilExit) return;
    await sleep(REATTACH_MS, options.signal).catch(() => undefined);
  }
}

/** How soon a stopped container is looked at again: Docker's first restart comes after 100 ms. */
const REATTACH_MS = 250;

async function followOnce(
  docker: Docker,
  id: string,
  sinceMs: number,
  onLine: (line: { stream: "out" | "err"; text: string }) => void,
  signal: AbortSignal,
): Promise<boolean> {
  const stream = await openStream(docker, id, sinceMs, signal);
  if (stream === undefined) return false;
  const reader = newLogReader(onLine);
  await new Promise<void>((resolve) => {
    stream.on("data", (chunk: Buffer) => reader.write(chunk));
    // A connection that breaks ends like one that is closed: the next round tells which it was.
    for (const event of ["end", "close", "error"]) stream.on(event, () => resolve());
    signal.addEventListener("abort", () => resolve(), { once: true });
    if (signal.aborted) resolve();
  });
  reader.end();
  (stream as unknown as { destroy(): void }).destroy();
  return true;
}

async function openStream(docker: Docker, id: string, sinceMs: number, signal: AbortSignal) {
  try {
    return await docker.getContainer(id).logs({
      follow: true,
      stdout: true,
      stderr: true,
      timestamps: true,
      since: sinceMs / 1_000,
      abortSignal: signal,
    });
  } catch (error) {
    if (signal.aborted || statusOf(error) === 404) return undefined;
    return await asking("Following logs", () => Promise.reject(error));
  }
}
