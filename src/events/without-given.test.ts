import { describe, expect, it } from "vitest";
import type { LogLine } from "../shared/log-line.ts";
import { withoutGiven } from "./without-given.ts";

describe("output that is given again", () => {
  const line = (at: number, text: string, stream: LogLine["stream"] = "out"): LogLine => ({ at, stream, text });

  it("is left out where it is stored, each line as often as it is there, and what is new is not", () => {
    const stored = [line(1_000, "a"), line(5_000, "b"), line(5_000, "b"), line(5_000, "c", "err")];
    const given: LogLine[] = [];
    const sink = withoutGiven(
      (lines) => void given.push(...lines),
      stored,
      (text) => text.replace("secret", "****"),
    );
    sink([line(1_000, "a"), line(5_000, "b"), line(5_000, "b"), line(5_000, "c", "err")]);
    expect(given).toEqual([]);
    sink([line(5_000, "b"), line(4_900, "late"), line(6_000, "d")]);
    expect(given.map(({ text }) => text)).toEqual(["b", "late", "d"]);
  });

  it("is compared as it is stored, masked", () => {
    const given: LogLine[] = [];
    const mask = (text: string) => text.replace("secret", "****");
    withoutGiven((lines) => void given.push(...lines), [line(5_000, "key ****")], mask)([line(5_000, "key secret")]);
    expect(given).toEqual([]);
  });
});
