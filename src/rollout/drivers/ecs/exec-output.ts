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
    const at = bytes.indexOf(sign);
    const code = at < 0 ? null : /^(\d+)\n/.exec(bytes.toString("latin1", at + sign.length));
    // What may be the beginning of the sign is kept until more has come.
    const end = at < 0 ? bytes.length - beginningAtEnd(bytes, sign) : at;
    held = code === null ? bytes.subarray(end) : Buffer.alloc(0);
    isOver = code !== null;
    return [
      ...(end > 0 ? [{ is: "out" as const, bytes: bytes.subarray(0, end) }] : []),
      ...(code === null ? [] : [{ is: "exit" as const, code: Number(code[1]) }]),
    ];
  };
}

/** How many of the last bytes are the first of the sign. */
function beginningAtEnd(bytes: Buffer, sign: Buffer): number {
  const from = Math.max(0, bytes.length - sign.length + 1);
  const at = bytes.indexOf(SIGN, from);
  if (at < 0) return 0;
  const tail = bytes.subarray(at);
  return tail.equals(sign.subarray(0, tail.length)) ? tail.length : 0;
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
