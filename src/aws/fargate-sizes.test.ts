import { describe, expect, it } from "vitest";
import { FARGATE_SIZES, fargateSizeOf } from "./fargate-sizes.ts";

describe("the size of a Fargate task", () => {
  it.each([
    [
      { cpu: 2_048, memoryMiB: 4_096 },
      { cpu: 2_048, memoryMiB: 4_096 },
    ],
    [
      { cpu: 2_048, memoryMiB: 4_097 },
      { cpu: 2_048, memoryMiB: 5_120 },
    ],
    [
      { cpu: 100, memoryMiB: 100 },
      { cpu: 256, memoryMiB: 512 },
    ],
    // More memory than these CPU units can have takes more of both.
    [
      { cpu: 256, memoryMiB: 3_000 },
      { cpu: 512, memoryMiB: 3_072 },
    ],
    [
      { cpu: 8_192, memoryMiB: 16_385 },
      { cpu: 8_192, memoryMiB: 20_480 },
    ],
    [
      { cpu: 16_384, memoryMiB: 65_536 },
      { cpu: 16_384, memoryMiB: 65_536 },
    ],
    [{ cpu: 1_024, memoryMiB: 122_881 }, undefined],
    [{ cpu: 16_385, memoryMiB: 512 }, undefined],
  ])("for %j is %j", (wanted, size) => {
    expect(fargateSizeOf(wanted)).toEqual(size);
  });

  it("is one that Fargate has, and no smaller one would do, whatever is wanted", () => {
    for (const cpu of [1, 256, 300, 1_024, 4_000, 16_384]) {
      for (let memoryMiB = 128; memoryMiB <= 122_880; memoryMiB += 997) {
        const size = fargateSizeOf({ cpu, memoryMiB });
        const fit = Object.entries(FARGATE_SIZES).flatMap(([units, all]) =>
          all.filter((one) => Number(units) >= cpu && one >= memoryMiB).map((one) => [Number(units), one]),
        );
        expect([size?.cpu, size?.memoryMiB]).toEqual(fit[0]);
      }
    }
  });
});
