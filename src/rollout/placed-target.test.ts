import { expect, it } from "vitest";
import { memoryTarget } from "./drivers/memory.ts";
import { placedTarget } from "./placed-target.ts";
import type { RuntimeSettings } from "./runtime.ts";
import { newRelease } from "./testing.ts";

const place = { app: "shop", environment: "production" };
const docker: RuntimeSettings = { kind: "docker" };
const ecs: RuntimeSettings = {
  kind: "ecs",
  settings: {
    region: "eu-central-1",
    cluster: "c",
    listener: "l",
    subnets: [],
    securityGroups: [],
    executionRole: "r",
    publicIp: false,
    exec: false,
    scheme: "https",
    architecture: "x86_64",
    storageGiB: 20,
    logRetentionDays: 30,
  },
};

it("asks the runtime that a place is on, and ends what a release left on any it was on", async () => {
  const [onDocker, onEcs] = [memoryTarget(), memoryTarget()];
  let current: RuntimeSettings = docker as RuntimeSettings;
  const target = placedTarget(
    (runtime) => (runtime.kind === "docker" ? onDocker : onEcs),
    async () => ({ current, all: [docker, ecs] }),
  );
  const release = newRelease(1);
  const start = async () => {
    for (const service of release.services)
      await target.startService(place, release, service, { env: {}, secrets: {} });
  };
  await start();
  current = ecs;
  expect(await target.observe(place)).toEqual([]);
  await start();
  expect(await onDocker.observe(place)).toEqual(await onEcs.observe(place));
  await target.stop(place, 1);
  expect([await onDocker.observe(place), await onEcs.observe(place)]).toEqual([[], []]);
  await target.destroy(place, "remove");
});
