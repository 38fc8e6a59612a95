import { describe, expect, it } from "vitest";
import { hasCode } from "../../../shared/errors.ts";
import { Secret } from "../../../shared/secret.ts";
import { placedTarget } from "../../placed-target.ts";
import type { RuntimeSettings } from "../../runtime.ts";
import { memoryTarget } from "../memory.ts";
import { targetWithoutEngine } from "./without-engine.ts";

const place = { app: "shop", environment: "staging" };
const cache = { name: "cache", spec: { engine: "redis" as const }, password: new Secret("cache", "swordfish") };
const release = { app: "shop", number: 1, services: [] };
const target = targetWithoutEngine();
const isRefused = (error: unknown) => hasCode(error, "DOCKER_MISSING");

describe("the runtime docker without an engine", () => {
  it("holds environments that were never deployed: there is nothing to see, to mend or to remove", async () => {
    expect(await target.observe(place)).toEqual([]);
    expect(await target.reconcile(place, { inProgress: [] })).toEqual([]);
    expect(await target.findDrift(place, { inProgress: [] })).toEqual([]);
    expect(target.backingVariables(place, [])).toEqual({});
    await target.ensureBacking(place, [], () => undefined);
    await target.destroy(place, "remove");
  });

  it("refuses to start anything, and to say of what serves there that all is well", async () => {
    const live = { release, variables: {} };
    for (const refused of [
      target.prepare(place, release),
      target.shiftTraffic(place, release),
      target.ensureBacking(place, [cache], () => undefined),
      target.observeBacking(place, [cache]),
      target.reconcile(place, { live, inProgress: [] }),
      target.findDrift(place, { live, inProgress: [] }),
    ])
      await expect(refused).rejects.toSatisfy(isRefused);
    expect(() => target.backingVariables(place, [cache])).toThrow("cache of shop staging would run on Docker");
  });

  it("is in nobody's way: a place on ECS that was once on Docker is stopped and removed", async () => {
    const ecs = memoryTarget();
    const current = {
      kind: "ecs",
      settings: { region: "eu-central-1", cluster: "c", listener: "l" },
    } as RuntimeSettings;
    const placed = placedTarget(
      ({ kind }) => (kind === "docker" ? target : ecs),
      async () => ({ current, all: [{ kind: "docker" }] }),
    );
    await placed.stop(place, 1);
    await placed.destroy(place, "remove");
    expect(await placed.observe(place)).toEqual([]);
  });
});
