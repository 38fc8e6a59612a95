import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../shared/until.ts";
import type { Place, Release } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { RolloutTarget } from "../../target.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type AwsStage, ecsService, hasMoto, hostOf, newAwsStage, targetOptions } from "./testing.ts";

const NOTHING = { env: {}, secrets: {} };
const WITHIN = { withinMs: 30_000 };
const SPOT = { capacityProvider: "FARGATE_SPOT", weight: 1 };

describe.skipIf(!hasMoto)("tasks on Spot", { timeout: 120_000 }, () => {
  let stage: AwsStage;
  const sent: { command: string; input: Record<string, unknown> }[] = [];
  beforeAll(async () => {
    stage = await newAwsStage();
  });
  afterAll(() => stage?.cleanUp());

  const place: Place = { app: "shop", environment: "spot" };
  const release = (number: number): Release => ({
    app: place.app,
    number,
    services: [ecsService(place, "web", "web", { count: 2 }), ecsService(place, "worker", "worker")],
  });
  const open = (changes: Partial<EcsSettings>): Promise<RolloutTarget> => {
    const onCall = (call: { command: string; input: unknown }) =>
      void sent.push({ command: call.command, input: call.input as Record<string, unknown> });
    const aws = { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall };
    return openEcsTarget(targetOptions(stage, { settings: { ...stage.settings, ...changes }, aws }));
  };
  /** What was sent to make or change services. */
  async function deploy(number: number, changes: Partial<EcsSettings>) {
    const target = await open(changes);
    sent.length = 0;
    const one = release(number);
    await target.prepare(place, one);
    for (const service of one.services) await target.startService(place, one, service, NOTHING);
    const options = { deadlineMs: 30_000, onProgress: () => undefined };
    expect((await target.awaitHealthy(place, one, one.services, options)).status).toBe("healthy");
    await target.shiftTraffic(place, one);
    // The slot's tasks of before are ended a moment after ECS calls the new ones complete.
    await until(`r${number} answers`, async () => (await stage.answering(hostOf(place, "web"))) === number, WITHIN);
    return sent
      .filter(({ command }) => /^(Create|Update)Service$/.test(command))
      .map(({ command, input }) => ({
        command,
        launchType: input.launchType,
        strategy: input.capacityProviderStrategy,
        isForced: input.forceNewDeployment,
      }));
  }

  it("are asked for when a slot is made, the first of several on demand; and a slot moves there and back by its next release", async () => {
    const onDemand = { command: "CreateService", launchType: "FARGATE", strategy: undefined, isForced: undefined };
    expect(await deploy(1, {})).toEqual([onDemand, onDemand]);
    const mixed = [{ capacityProvider: "FARGATE", base: 1, weight: 0 }, SPOT];
    expect(await deploy(2, { spot: true })).toEqual([
      { ...onDemand, launchType: undefined, strategy: mixed },
      { ...onDemand, launchType: undefined, strategy: [SPOT] },
    ]);
    const moved = { command: "UpdateService", launchType: undefined, isForced: true };
    expect(await deploy(3, { spot: true })).toEqual([
      { ...moved, strategy: mixed },
      { ...moved, strategy: [SPOT] },
    ]);
    const back = { ...moved, strategy: [{ capacityProvider: "FARGATE", weight: 1 }] };
    expect(await deploy(4, {})).toEqual([back, back]);
    await (await open({})).destroy(place, "remove");
  });
});
