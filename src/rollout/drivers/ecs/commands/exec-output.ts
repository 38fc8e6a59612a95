import { SIGN } from "./exec-script.ts";

/** What was printed, taken apart. `exit`: the exit code, after which nothing of the command comes. */
export type ExecPart =
  | { is: "out" | "err"; bytes: Buffer }
  | { is: "ended" }
  | { is: "exit"; code: number }
  | { is: "missing"; program: string };

export type ExecReader = (chunk: Buffer) => ExecPart[];

/** Reads a terminal's output: all of it is the command's, up to the exit code behind its sign. */
export function newTerminalReader(exitSign: string): ExecReader {
  const sign = Buffer.concat([Buffer.from([SIGN]), Buffer.from(exitSign)]);
  let held: Buffer = Buffer.alloc(0);
  let isOver = false;
  return (chunk) => {
    if (isOver) return [];
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const { end, code } = findExit(bytes, sign);
    held = bytes.subarray(end);
    isOver = code !== undefined;
    return [
      ...(end > 0 ? [{ is: "out" as const, bytes: bytes.subarray(0, end) }] : []),
      ...(code === undefined ? [] : [{ is: "exit" as const, code }]),
    ];
  };
}

/** Where the command's own output ends for now: before the exit code, or what may be the beginning of it. */
function findExit(bytes: Buffer, sign: Buffer): { end: number; code?: number } {
  for (let at = bytes.indexOf(sign); at >= 0; at = bytes.indexOf(sign, at + 1)) {
    const behind = bytes.toString("latin1", at + sign.length);
    const [, code] = /^(\d{1,3})\n/.exec(behind) ?? [];
    if (code !== undefined) return { end: at, code: Number(code) };
    if (/^\d{0,3}$/.test(behind)) return { end: at };
  }
  // The sign's first byte is nowhere else in it, so only the last one can begin it.
  const last = bytes.lastIndexOf(SIGN);
  const tail = bytes.subarray(last);
  const mayBegin = last >= 0 && tail.length < sign.length && tail.equals(sign.subarray(0, tail.length));
  return { end: mayBegin ? last : bytes.length };
}

/** Reads frames. What is between them comes from a program that writes to its terminal past its pipes, as for a password: it is shown as stderr. */
export function newFrameReader(): ExecReader {
  let frame: Buffer[] | undefined;
  return (chunk) => {
    const parts: ExecPart[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      if (frame === undefined) {
        const at = rest.indexOf(SIGN);
        const stray = at < 0 ? rest : rest.subarray(0, at);
        // The newline behind a frame.
        const text = stray[0] === NEWLINE ? stray.subarray(1) : stray;
        if (text.length > 0) parts.push({ is: "err", bytes: text });
        if (at >= 0) frame = [];
        rest = at < 0 ? rest.subarray(rest.length) : rest.subarray(at + 1);
        continue;
      }
      const at = rest.indexOf(".");
      frame.push(at < 0 ? rest : rest.subarray(0, at));
      rest = at < 0 ? rest.subarray(rest.length) : rest.subarray(at + 1);
      if (at < 0) continue;
      const part = readFrame(Buffer.concat(frame).toString("latin1"));
      if (part !== undefined) parts.push(part);
      frame = undefined;
    }
    return parts;
  };
}

const NEWLINE = 0x0a;

function readFrame(frame: string): ExecPart | undefined {
  const text = frame.slice(1);
  switch (frame[0]) {
    case "o":
      return { is: "out", bytes: Buffer.from(text, "base64") };
    case "e":
      return { is: "err", bytes: Buffer.from(text, "base64") };
    case "c":
      return { is: "ended" };
    case "x":
      return { is: "exit", code: Number(text) };
    case "m":
      return { is: "missing", program: text };
    default:
      return undefined;
  }
}
