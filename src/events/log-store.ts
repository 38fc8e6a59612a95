import { EventEmitter } from "node:events";
import { createReadStream } from "node:fs";
import { appendFile, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { LogLine, LogSink } from "../shared/log-line.ts";
import { whenNext } from "../shared/when-next.ts";

/** A log may not eat the disk: after this many bytes lines are dropped and the drop is said. */
const LARGEST_LOG_BYTES = 64 * 1024 * 1024;
/** A line longer than this is cut. */
const LONGEST_LINE = 16_384;
/** Lines of one read of a follower. */
const PAGE = 2_000;
/** A follower looks again this often: another process may be writing. */
const RECHECK_MS = 2_000;

export type NumberedLine = LogLine & { line: number };

/** Kept output of steps, builds and tasks, one append-only log per id. Masked before it is stored. */
export type LogStore = {
  /** Opens a log for writing, going on after the lines it has. `mask` is applied to every line. */
  open(logId: string, mask?: (text: string) => string): Promise<LogWriter>;
  /** Lines from `from` (0 is the first), at most `limit`; empty for an unknown log. */
  read(logId: string, from: number, limit: number): Promise<NumberedLine[]>;
  /** Lines from `from` on, past and future, until the log is closed or the signal aborts. */
  follow(logId: string, from: number, signal: AbortSignal): AsyncGenerator<NumberedLine, void, void>;
  remove(logId: string): Promise<void>;
};

export type LogWriter = {
  sink: LogSink;
  /** Lines stored before this writer was opened. */
  linesBefore: number;
  /** All lines are on disk when it resolves. The log is marked as ended: followers stop. */
  close(): Promise<void>;
};

type Stored = LogLine | { end: true };

export function fileLogStore(dir: string): LogStore {
  const bell = new EventEmitter().setMaxListeners(0);
  const fileOf = (logId: string) => {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(logId)) throw new Error(`bad log id ${logId}`);
    return join(dir, `${logId}.ndjson`);
  };

  async function openLog(logId: string, mask: (text: string) => string = (text) => text): Promise<LogWriter> {
    const file = fileOf(logId);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const linesBefore = (await dropEnd(file)).length;
    let bytes = await stat(file).then(
      (found) => found.size,
      () => 0,
    );
    let queue: Promise<void> = Promise.resolve();
    let pending: string[] = [];

    const flush = async (): Promise<void> => {
      if (pending.length === 0) return;
      const text = pending.join("");
      pending = [];
      await appendFile(file, text, { mode: 0o600 });
      bell.emit(logId);
    };
    const push = (stored: Stored): void => {
      pending.push(`${JSON.stringify(stored)}\n`);
      queue = queue.then(flush);
    };
    const sink: LogSink = (lines) => {
      for (const { at, stream, text } of lines) {
        if (bytes > LARGEST_LOG_BYTES) continue;
        bytes += text.length + 40;
        const full = bytes > LARGEST_LOG_BYTES;
        push(
          full
            ? { at, stream: "meta", text: "the log is full: 64 MiB are kept" }
            : { at, stream, text: mask(text.slice(0, LONGEST_LINE)) },
        );
      }
    };
    return {
      sink,
      linesBefore,
      async close() {
        push({ end: true });
        await queue;
      },
    };
  }

  async function read(logId: string, from: number, limit: number): Promise<NumberedLine[]> {
    return (await readStored(fileOf(logId), from, limit)).lines;
  }

  async function* follow(logId: string, from: number, signal: AbortSignal) {
    const file = fileOf(logId);
    let next = from;
    while (!signal.aborted) {
      const ring = whenNext(bell, logId, { withinMs: RECHECK_MS, signal });
      try {
        const { lines, ended } = await readStored(file, next, PAGE);
        yield* lines;
        next += lines.length;
        if (lines.length === 0 && ended) return;
        if (lines.length === 0) await ring.promise;
      } finally {
        ring.release();
      }
    }
  }

  return { open: openLog, read, follow, remove: (logId) => rm(fileOf(logId), { force: true }) };
}

async function readStored(
  file: string,
  from: number,
  limit: number,
): Promise<{ lines: NumberedLine[]; ended: boolean }> {
  const lines: NumberedLine[] = [];
  let [line, ended] = [0, false];
  const handle = await open(file, "r").catch(() => undefined);
  if (!handle) return { lines, ended };
  const reader = createInterface({
    input: handle.createReadStream({ encoding: "utf8" }),
    crlfDelay: Number.POSITIVE_INFINITY,
  });
  for await (const text of reader) {
    const stored = parseStored(text);
    if (!stored) continue;
    if ("end" in stored) ended = true;
    else if (line++ >= from && lines.length < limit) lines.push({ ...stored, line: line - 1 });
  }
  return { lines, ended };
}

/** A line cut off by a crash is no line. */
function parseStored(text: string): Stored | undefined {
  try {
    return JSON.parse(text) as Stored;
  } catch {
    return undefined;
  }
}

/** Makes an ended (or torn) log writable again: what is left are whole lines without an end mark. */
async function dropEnd(file: string): Promise<string[]> {
  const kept: string[] = [];
  let torn = false;
  if (!(await stat(file).catch(() => undefined))) return kept;
  for await (const text of createInterface({ input: createReadStream(file, "utf8") })) {
    const stored = parseStored(text);
    if (stored && !("end" in stored)) kept.push(text);
    else torn = true;
  }
  if (!torn) return kept;
  const handle = await open(`${file}.new`, "w", 0o600);
  await handle.writeFile(kept.map((line) => `${line}\n`).join(""));
  await handle.close();
  await rename(`${file}.new`, file);
  return kept;
}
