import { z } from "zod";
import { type BuildTrace, decodeBuildTrace } from "../buildkit-trace.ts";
import { decodeRawJson } from "./raw-json.ts";

/** How a build ended, as `build.py` says it; nothing where the image was made and pushed. */
export type BuildEnding = { at?: "setup" | "build" | "push" | undefined; error?: string | undefined };

/** What `build.py` tells, one at a time. */
export type BuildRecord =
  | { kind: "said"; at: number; text: string }
  | { kind: "trace"; trace: BuildTrace }
  | { kind: "ended"; ending: BuildEnding };

const Told = z.union([
  z.strictObject({ say: z.string(), time: z.number() }),
  z.strictObject({ status: z.unknown() }),
  z.strictObject({ trace: z.string() }),
  z.strictObject({
    end: z.object({ at: z.enum(["setup", "build", "push"]).optional(), error: z.string().optional() }),
  }),
]);

/** Lines of CodeBuild itself that are kept, for when a build ends without a word of ours. */
const KEPT_LINES = 20;

/**
 * Puts the records of `build.py` together from the lines of a log, in their order, each once: however the log's events cut or repeat the lines, and in whatever order
 * they arrive. What is not a record is a line of CodeBuild's own.
 */
export function newRecordReader() {
  const whole = new Map<number, string>();
  const pieces = new Map<number, Map<number, string>>();
  const others: string[] = [];
  let next = 1;

  const add = (line: string): void => {
    const [, number = "", piece = "", count = "", text = ""] = /^shipway (\d+) (\d+)\/(\d+) (.*)$/s.exec(line) ?? [];
    if (number === "") {
      if (line.trim() !== "") others.push(line);
      if (others.length > KEPT_LINES) others.shift();
      return;
    }
    const record = Number(number);
    if (record < next || whole.has(record)) return;
    const known = pieces.get(record) ?? new Map<number, string>();
    pieces.set(record, known.set(Number(piece), text));
    if (known.size < Number(count)) return;
    pieces.delete(record);
    whole.set(record, Array.from({ length: Number(count) }, (_, index) => known.get(index + 1) ?? "").join(""));
  };

  const take = (text: string): BuildRecord => {
    const told = Told.parse(JSON.parse(text));
    if ("say" in told) return { kind: "said", at: told.time, text: told.say };
    if ("trace" in told) return { kind: "trace", trace: decodeBuildTrace(told.trace) };
    if ("status" in told) return { kind: "trace", trace: decodeRawJson(told.status) };
    return { kind: "ended", ending: told.end };
  };

  return {
    /** @returns what can be told now: a record waits for those before it. @throws an Error for a record that is not of our form */
    read(message: string): BuildRecord[] {
      for (const line of message.split(/\r?\n/)) add(line);
      const ready: BuildRecord[] = [];
      for (let text = whole.get(next); text !== undefined; text = whole.get(next)) {
        whole.delete(next);
        ready.push(take(text));
        next++;
      }
      return ready;
    },
    /** Whether a record is missing before one that has arrived. */
    hasGap: () => whole.size + pieces.size > 0,
    /** Gives up what is missing before the next whole record. @returns that record and what follows it, and how many were missing */
    skipGap(): { records: BuildRecord[]; missing: number } {
      if (whole.size === 0) return { records: [], missing: pieces.size };
      const first = Math.min(...whole.keys());
      const missing = first - next;
      for (const record of pieces.keys()) if (record < first) pieces.delete(record);
      next = first;
      return { records: this.read(""), missing };
    },
    /** The last lines that were no records. */
    others: (): readonly string[] => others,
  };
}
