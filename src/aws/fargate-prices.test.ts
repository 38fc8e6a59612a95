import { describe, expect, it } from "vitest";
import { FARGATE_PRICES, isStorageUnpriced, type TaskSize, taskHourUsd } from "./fargate-prices.ts";

const pricesIn = (region: string) => {
  const found = FARGATE_PRICES.find((one) => one.region === region);
  if (found === undefined) throw new Error(`no prices for ${region}`);
  return found;
};
const small: TaskSize = { cpu: 256, memoryMiB: 512, storageGiB: 20, architecture: "x86_64", publicIp: false };

describe("taskHourUsd", () => {
  // Each sum is done by hand: vCPUs × price + GiB × price + GiB of disk beyond 20 × price + an address.
  it.each<{ name: string; region: string; changes: Partial<TaskSize>; usd: number }>([
    { name: "the smallest task", region: "us-east-1", changes: {}, usd: 0.0123425 },
    { name: "the smallest task on ARM", region: "us-east-1", changes: { architecture: "arm64" }, usd: 0.009875 },
    { name: "one vCPU and 2 GiB", region: "us-east-1", changes: { cpu: 1024, memoryMiB: 2_048 }, usd: 0.04937 },
    { name: "the largest task", region: "us-east-1", changes: { cpu: 4096, memoryMiB: 30_720 }, usd: 0.29527 },
    { name: "10 GiB of disk more", region: "us-east-1", changes: { storageGiB: 30 }, usd: 0.0134525 },
    { name: "a public address", region: "us-east-1", changes: { publicIp: true }, usd: 0.0173425 },
    { name: "the smallest task in Frankfurt", region: "eu-central-1", changes: {}, usd: 0.014195 },
    {
      name: "the smallest task on ARM in Frankfurt",
      region: "eu-central-1",
      changes: { architecture: "arm64" },
      usd: 0.0113575,
    },
  ])("prices $name", ({ region, changes, usd }) => {
    expect(taskHourUsd({ ...small, ...changes }, pricesIn(region))).toBeCloseTo(usd, 9);
  });

  it("agrees with a month of the smallest task as guides have it, about $9", () => {
    expect(taskHourUsd(small, pricesIn("us-east-1")) * 730).toBeCloseTo(9.01, 2);
  });
});

it("says which disk it has no price for", () => {
  expect(isStorageUnpriced({ storageGiB: 21 }, pricesIn("eu-central-1"))).toBe(true);
  expect(isStorageUnpriced({ storageGiB: 20 }, pricesIn("eu-central-1"))).toBe(false);
  expect(isStorageUnpriced({ storageGiB: 200 }, pricesIn("us-east-1"))).toBe(false);
});

it("has each Region once, with a month, and ARM for less than x86 everywhere", () => {
  const regions = FARGATE_PRICES.map(({ region }) => region);
  expect(new Set(regions).size).toBe(regions.length);
  for (const { asOf, x86_64, arm64 } of FARGATE_PRICES) {
    expect(asOf).toMatch(/^20\d\d-(0[1-9]|1[0-2])$/);
    expect(arm64.vcpuHourUsd).toBeLessThan(x86_64.vcpuHourUsd);
    expect(arm64.gibHourUsd).toBeLessThan(x86_64.gibHourUsd);
  }
});
