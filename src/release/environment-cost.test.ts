import { describe, expect, it } from "vitest";
import { type CostInput, costOfEnvironment } from "./environment-cost.ts";

const MINUTE_MS = 60_000;
const onEcs = {
  kind: "ecs" as const,
  region: "us-east-1",
  architecture: "x86_64" as const,
  storageGiB: 20,
  publicIp: false,
};
const web = { name: "web", cpu: 256, memoryMiB: 512, count: 2, port: 3_000 };
const worker = { name: "worker", cpu: 1024, memoryMiB: 2_048, count: 1 };
const shop: CostInput = {
  app: "shop",
  environment: "production",
  release: { number: 7, services: [web, worker], standbyMs: 30 * MINUTE_MS },
  standbyRelease: undefined,
  runtime: onEcs,
  asIfIn: undefined,
};

describe("costOfEnvironment", () => {
  it("adds up what the declared tasks cost an hour and a month of 730 hours", () => {
    const cost = costOfEnvironment(shop);
    expect(cost.services.map(({ name, hourUsd }) => [name, hourUsd])).toEqual([
      ["web", 0.024685],
      ["worker", 0.04937],
    ]);
    expect(cost).toMatchObject({ release: 7, hourUsd: 0.074055, monthUsd: 54.06015 });
    expect(cost.prices).toEqual({ region: "us-east-1", asOf: "2026-06", confirmed: true, architecture: "x86_64" });
  });

  it("lets only what had traffic stand by, for as long as is declared", () => {
    const { standby } = costOfEnvironment({ ...shop, standbyRelease: 6 });
    expect(standby).toEqual({ release: 6, forMs: 30 * MINUTE_MS, hourUsd: 0.024685, deploymentUsd: 0.012343 });
  });

  it("costs nothing with no tasks, and says when nothing is live", () => {
    const release = { number: 7, services: [{ ...web, count: 0 }], standbyMs: 0 };
    expect(costOfEnvironment({ ...shop, release })).toMatchObject({ hourUsd: 0, monthUsd: 0 });
    const none = costOfEnvironment({ ...shop, release: undefined });
    expect(none).toMatchObject({ release: null, services: [], hourUsd: 0, standby: null });
    expect(none.notes[0]).toBe("Nothing is live in production of shop.");
  });

  it("guesses no price for a Region that it has none for, and names those it has", () => {
    const cost = costOfEnvironment({ ...shop, runtime: { ...onEcs, region: "ap-south-2" } });
    expect(cost).toMatchObject({ prices: null, hourUsd: null, monthUsd: null });
    expect(cost.services).toMatchObject([{ cpu: 256, count: 2, hourUsd: null }, { hourUsd: null }]);
    expect(cost.notes.join(" ")).toMatch(/no prices for ap-south-2, and none are guessed.*us-east-1.*eu-central-1/);
  });

  it("says that a Region comes from outputs that are not there yet", () => {
    const { hourUsd, notes } = costOfEnvironment({ ...shop, runtime: { ...onEcs, region: undefined } });
    expect(hourUsd).toBeNull();
    expect(notes.join(" ")).toMatch(/Terraform outputs that are not there yet/);
  });

  it("has no dollars for what runs on this machine, but its sizes", () => {
    const cost = costOfEnvironment({ ...shop, runtime: { kind: "docker" }, standbyRelease: 6 });
    expect(cost).toMatchObject({ runtime: "docker", prices: null, hourUsd: null, standby: null });
    expect(cost.services).toMatchObject([{ name: "web", memoryMiB: 512 }, { name: "worker" }]);
    expect(cost.notes).toEqual([expect.stringMatching(/this server's Docker Engine.*--region us-east-1/)]);
  });

  it("prices what runs on Docker as if it ran in a Region, and says so", () => {
    const cost = costOfEnvironment({ ...shop, runtime: { kind: "docker" }, standbyRelease: 6, asIfIn: "us-east-1" });
    expect(cost).toMatchObject({ hourUsd: 0.074055, standby: { release: null, hourUsd: 0.024685 } });
    expect(cost.notes[0]).toMatch(/runs on Docker: these are figures for the same sizes on AWS/);
  });

  it("names the Region it really is in when asked for another", () => {
    expect(costOfEnvironment({ ...shop, asIfIn: "eu-central-1" }).notes[0]).toBe(
      "production runs in us-east-1: these are figures for eu-central-1.",
    );
  });

  it.each([
    ["us-east-1", /On-demand list prices of us-east-1, 2026-06/],
    ["eu-west-1", /as we know them from 2024-06, not confirmed since/],
  ])("says from when the prices of %s are and whether they are confirmed", (region, text) => {
    expect(costOfEnvironment({ ...shop, runtime: { ...onEcs, region } }).notes.join(" ")).toMatch(text);
  });

  it("counts disk and addresses of every task, and says which disk it cannot price", () => {
    const there = { ...onEcs, storageGiB: 30, publicIp: true };
    // (0.0123425 + 10 × 0.000111 + 0.005) × 2 and (0.04937 + the same)
    expect(costOfEnvironment({ ...shop, runtime: there }).hourUsd).toBe(0.092385);
    const inFrankfurt = costOfEnvironment({ ...shop, runtime: { ...there, region: "eu-central-1" } });
    expect(inFrankfurt.notes.join(" ")).toMatch(/Disk beyond 20 GiB a task \(30 GiB here\) is not included/);
  });

  it("gives the price on demand for tasks on Spot, and says that it is the most they can cost", () => {
    const cost = costOfEnvironment({ ...shop, runtime: { ...onEcs, spot: true } });
    expect(cost.hourUsd).toBe(costOfEnvironment(shop).hourUsd);
    expect(cost.notes.join(" ")).toMatch(/run on Spot.*the most they can cost/);
  });

  it("names what the figures leave out", () => {
    expect(costOfEnvironment(shop).notes.at(-1)).toMatch(/^Not included: the load balancer.*NAT.*databases.*traffic/);
  });
});
