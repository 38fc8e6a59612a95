import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ContainerLine } from "../../step-log.ts";
import { newLineNumbers, newLineReader } from "./numbered-lines.ts";

const out = (text: string): ContainerLine => ({ stream: "out", at: 5, text });

describe("numbered lines", () => {
  it("are read back as they were written, in whatever order they come and however often", () => {
    const line = fc.record({
      stream: fc.constantFrom("out" as const, "err" as const, "meta" as const),
      at: fc.nat(),
      text: fc.string({ unit: "grapheme" }).map((text) => text.replaceAll("\n", "")),
    });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 30 }), fc.infiniteStream(fc.nat()), (lines, order) => {
        const numbers = newLineNumbers();
        const rendered = lines.flatMap(numbers.render);
        const messages = [...rendered, numbers.renderEnd({ exitCode: 3, lines: numbers.count() }, 9)];
        const shuffled = [...messages, ...messages]
          .map((message) => ({ message, place: order.next().value }))
          .sort((a, b) => a.place - b.place)
          .map(({ message }) => message);
        const reader = newLineReader();
        const read = shuffled.flatMap((message) => reader.take([message]));
        expect(read).toEqual(lines);
        expect(reader.result()).toEqual({ exitCode: 3, lines: lines.length });
        expect(reader.hasGap()).toBe(false);
      }),
    );
  });

  it("hold back what comes after a gap until the gap is filled", () => {
    const numbers = newLineNumbers();
    const [a = "", b = "", c = ""] = ["a", "", "c"].flatMap((text) => numbers.render(out(text)));
    const reader = newLineReader();
    expect(reader.take([a, c]).map(({ text }) => text)).toEqual(["a"]);
    expect(reader.hasGap()).toBe(true);
    expect(reader.take([b]).map(({ text }) => text)).toEqual(["", "c"]);
    expect(reader.hasGap()).toBe(false);
  });

  it("cut a line that no message can hold, never in a character, and join it again", () => {
    for (const text of ["x".repeat(1_000_000), "ä€😀".repeat(120_000)]) {
      const messages = newLineNumbers().render(out(text));
      expect(messages.length).toBeGreaterThan(1);
      for (const message of messages) expect(Buffer.byteLength(message)).toBeLessThan(262_144 - 26);
      expect(newLineReader().take(messages)).toEqual([out(text)]);
    }
  });

  it("leave out what they did not write", () => {
    expect(newLineReader().take(["Killed", "", "1 2 x 3", "node: bad option"])).toEqual([]);
  });
});
