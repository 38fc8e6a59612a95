import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ExecPart, type ExecReader, newFrameReader, newTerminalReader } from "./exec-output.ts";
import { exitSignOf } from "./exec-script.ts";

const SIGN = "\u001e";
const EXIT_SIGN = exitSignOf("x_0123456789ab");

/** What comes out when the text arrives in pieces that end at these places. */
function readIn(reader: ExecReader, text: string, cuts: number[]): ExecPart[] {
  const bytes = Buffer.from(text);
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).flatMap((end, index) => reader(bytes.subarray(places[index], end)));
}
const printed = (parts: ExecPart[], is: "out" | "err") =>
  Buffer.concat(parts.flatMap((part) => (part.is === is ? [part.bytes] : []))).toString();
const others = (parts: ExecPart[]) => parts.filter(({ is }) => is !== "out" && is !== "err");
const cuts = fc.array(fc.nat(), { maxLength: 20 });
/** Texts with beginnings of what is looked for. */
const near = fc
  .array(fc.constantFrom(SIGN, EXIT_SIGN, `${SIGN}${EXIT_SIGN.slice(0, 5)}`, "x", "0\n", "ä", ".", "\n"), {
    maxLength: 12,
  })
  .map((words) => words.join(""))
  .filter((text) => !text.includes(`${SIGN}${EXIT_SIGN}`));

describe("what a terminal printed", () => {
  it("is the command's output, whatever is in it, up to the exit code, in whatever pieces it comes", () => {
    fc.assert(
      fc.property(near, fc.nat(255), cuts, (text, code, at) => {
        const parts = readIn(newTerminalReader(EXIT_SIGN), `${text}${SIGN}${EXIT_SIGN}${code}\nlate`, at);
        expect(printed(parts, "out")).toBe(text);
        expect(others(parts)).toEqual([{ is: "exit", code }]);
      }),
    );
  });

  it("is given at once, save what may be the beginning of the sign", () => {
    const read = newTerminalReader(EXIT_SIGN);
    expect(read(Buffer.from("one"))).toEqual([{ is: "out", bytes: Buffer.from("one") }]);
    expect(read(Buffer.from(`two${SIGN}x_0`))).toEqual([{ is: "out", bytes: Buffer.from("two") }]);
    expect(printed(read(Buffer.from("no")), "out")).toBe(`${SIGN}x_0no`);
    expect(printed(read(Buffer.from(`${SIGN}${EXIT_SIGN}of the story\n`)), "out")).toBe(
      `${SIGN}${EXIT_SIGN}of the story\n`,
    );
  });
});

describe("frames", () => {
  const frame = (type: string, text = "") => `${SIGN}${type}${text}.\n`;
  const base64 = (text: string) =>
    (
      Buffer.from(text)
        .toString("base64")
        .match(/.{1,76}/g) ?? []
    ).join("\n");

  it("come apart into both outputs, the end and the exit code, in whatever pieces they come", () => {
    const pieces = fc.array(
      fc.tuple(fc.constantFrom("o" as const, "e" as const), fc.string({ maxLength: 200, unit: "grapheme" })),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(pieces, fc.nat(255), cuts, (some, code, at) => {
        const text = some.map(([type, content]) => frame(type, base64(content))).join("");
        const parts = readIn(newFrameReader(), `${text}${frame("c")}${frame("x", String(code))}`, at);
        const all = (wanted: string) => some.flatMap(([type, content]) => (type === wanted ? [content] : [])).join("");
        expect([printed(parts, "out"), printed(parts, "err")]).toEqual(
          [all("o"), all("e")].map((one) => Buffer.from(one).toString()),
        );
        expect(others(parts)).toEqual([{ is: "ended" }, { is: "exit", code }]);
      }),
    );
  });

  it("leave what is between them to be shown as stderr", () => {
    const parts = readIn(newFrameReader(), `Password: ${frame("o", base64("out"))}wrong\n${frame("x", "1")}`, []);
    expect([printed(parts, "out"), printed(parts, "err")]).toEqual(["out", "Password: wrong\n"]);
  });

  it("name a program that is missing, and others do not matter", () => {
    expect(readIn(newFrameReader(), `${frame("z", "later")}${frame("m", "base64")}`, [])).toEqual([
      { is: "missing", program: "base64" },
    ]);
  });
});
