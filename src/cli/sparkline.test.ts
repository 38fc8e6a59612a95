import { describe, expect, it } from "vitest";
import { sparkline, spread } from "./sparkline.ts";

describe("a sparkline", () => {
  it.each([
    [[0, 1, 2, 3, 4, 5, 6, 7], undefined, "▁▂▃▄▅▆▇█"],
    [[0, 50, 100], 100, "▁▅█"],
    [[50, 200], 100, "▃█"],
    [[3, null, 3], undefined, "█ █"],
    [[0, 0], undefined, "▁▁"],
    [[], undefined, ""],
  ])("of %j up to %s is %s", (values, top, line) => {
    expect(sparkline(values, top)).toBe(line);
  });

  it("shows that something is not nothing", () => {
    expect(sparkline([0, 0.1, 1_000])).toBe("▁▂█");
  });
});

it("spreads points over a time: the mean where several fall together, nothing where none does", () => {
  const points = [
    { atMs: 0, value: 1 },
    { atMs: 5, value: 3 },
    { atMs: 25, value: 7 },
    { atMs: 29, value: null },
    { atMs: 40, value: 9 },
  ];
  expect(spread(points, { fromMs: 0, toMs: 40, width: 4 })).toEqual([2, null, 7, 9]);
});
