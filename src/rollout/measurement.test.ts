import { describe, expect, it } from "vitest";
import { type Measurement, mergeMeasurements, nothingMeasured, toPoints } from "./measurement.ts";

const part = (at: number, spanMs: number, changes: Partial<Measurement> = {}): Measurement => ({
  ...nothingMeasured(at, spanMs),
  ...changes,
});

describe("measurements of several stretches as one", () => {
  it("weigh shares by time, and the time that answers took by their number", () => {
    const merged = mergeMeasurements([
      part(0, 10_000, { cpuPercent: 10, requests: 1, answers5xx: 1, meanMs: 100 }),
      part(10_000, 30_000, { cpuPercent: 50, requests: 9, answers5xx: 0, meanMs: 10 }),
    ]);
    expect(merged).toMatchObject({ at: 0, spanMs: 40_000, cpuPercent: 40, requests: 10, answers5xx: 1, meanMs: 19 });
  });

  it("know what one of them knows, and no more", () => {
    const merged = mergeMeasurements([part(0, 10), part(10, 10, { memoryPercent: 20, requests: 0 })]);
    expect(merged).toMatchObject({ cpuPercent: null, memoryPercent: 20, requests: 0, meanMs: null, p95Ms: null });
  });

  it("are nothing for none, and itself for one", () => {
    expect(mergeMeasurements([])).toBeUndefined();
    const one = part(0, 10, { p95Ms: 7 });
    expect(mergeMeasurements([one])).toBe(one);
  });
});

it("makes points on the clock of measurements of any length, and none where there is no measurement", () => {
  const points = toPoints(
    [part(61_000, 5_000, { requests: 1 }), part(66_000, 5_000, { requests: 2 }), part(190_000, 5_000)],
    60_000,
  );
  expect(points.map(({ at, spanMs, requests }) => [at, spanMs, requests])).toEqual([
    [60_000, 10_000, 3],
    [180_000, 5_000, null],
  ]);
});
