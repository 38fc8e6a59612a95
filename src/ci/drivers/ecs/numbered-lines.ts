import type { ContainerLine } from "../../step-log.ts";

/** How a step's task ended, as the program beside it saw it. */
export type AgentResult = {
  /** Of the script; undefined when the container was ended from outside. */
  exitCode?: number;
  /** Why its artifacts could not be kept. */
  lost?: string;
  /** How many numbered lines came before this one. */
  lines: number;
};

/**
 * CloudWatch Logs takes no empty message, swallows those that look like its metric format, may store one twice, and orders those of one millisecond as it
 * likes. So each line is written as `NUMBER TIME KIND TEXT`: what is missing, twice or late can be told, and what is read is what was printed.
 * KIND is `o`, `e` or `m` for the stream; upper case when more of the same line follows; `z` is the last, whose text is the result.
 */
const KINDS = { out: "o", err: "e", meta: "m" } as const;
const STREAMS: Record<string, ContainerLine["stream"]> = { o: "out", e: "err", m: "meta" };
const END = "z";
// The awslogs driver cuts a message at 256 KiB (Amazon CloudWatch Logs quotas, event size; less 26 bytes each).
const PART_BYTES = 200_000;

/** Numbers lines from 1 on, for standard output. */
export function newLineNumbers(): {
  render(line: ContainerLine): string[];
  renderEnd(result: AgentResult, at: number): string;
  /** So far. */
  count(): number;
} {
  let count = 0;
  return {
    render({ stream, at, text }) {
      const parts = inParts(text);
      return parts.map((part, index) => {
        const kind = index < parts.length - 1 ? KINDS[stream].toUpperCase() : KINDS[stream];
        return `${++count} ${at} ${kind} ${part}`;
      });
    },
    renderEnd: (result, at) => `${count + 1} ${at} ${END} ${JSON.stringify(result)}`,
    count: () => count,
  };
}

export type LineReader = {
  /** Messages in any order, any of them more than once. @returns the lines that are whole now and come next */
  take(messages: readonly string[]): ContainerLine[];
  /** Once the last line was read, with all before it. */
  result(): AgentResult | undefined;
  /** True when something is known to exist that was not read yet. */
  hasGap(): boolean;
};

/** Reads back what `newLineNumbers` wrote. What is not of this form was not written by it, and is left out. */
export function newLineReader(): LineReader {
  const waiting = new Map<number, { at: number; kind: string; text: string }>();
  let next = 1;
  let part = "";
  let result: AgentResult | undefined;
  return {
    take(messages) {
      for (const message of messages) {
        const [, number, at, kind = "", text = ""] = /^(\d+) (\d+) ([oemzOEM]) (.*)$/s.exec(message) ?? [];
        if (number === undefined || Number(number) < next) continue;
        waiting.set(Number(number), { at: Number(at), kind, text });
      }
      const lines: ContainerLine[] = [];
      for (let one = waiting.get(next); one !== undefined; one = waiting.get(next)) {
        waiting.delete(next++);
        const stream = STREAMS[one.kind];
        if (one.kind === END) result = JSON.parse(one.text) as AgentResult;
        else if (stream === undefined) part += one.text;
        else {
          lines.push({ stream, at: one.at, text: part + one.text });
          part = "";
        }
      }
      return lines;
    },
    result: () => result,
    hasGap: () => waiting.size > 0,
  };
}

/** Pieces of a line that each fit into a message; no character is cut. */
function inParts(text: string): string[] {
  if (text.length * 3 <= PART_BYTES) return [text];
  const bytes = Buffer.from(text);
  const parts: string[] = [];
  for (let from = 0; from < bytes.length; ) {
    let to = Math.min(bytes.length, from + PART_BYTES);
    // Bytes of the form 10xxxxxx go on with a character.
    while (to < bytes.length && ((bytes[to] ?? 0) & 0xc0) === 0x80) to--;
    parts.push(bytes.toString("utf8", from, to));
    from = to;
  }
  return parts;
}
