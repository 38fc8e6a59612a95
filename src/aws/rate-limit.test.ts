import { expect, it } from "vitest";
import { limitOf, newBucket } from "./rate-limit.ts";

function newClock() {
  let at = 0;
  return {
    now: () => at,
    sleep: async (ms: number) => {
      at += ms;
    },
  };
}

it("lets a burst through at once and then as many a second as allowed, in order", async () => {
  const clock = newClock();
  const bucket = newBucket({ burst: 3, perSecond: 2 }, clock);
  const times = await Promise.all(Array.from({ length: 7 }, () => bucket.take().then(clock.now)));
  expect(times).toEqual([0, 0, 0, 500, 1_000, 1_500, 2_000]);
});

it("fills up again while nobody asks, to the burst and no more", async () => {
  const clock = newClock();
  const bucket = newBucket({ burst: 2, perSecond: 1 }, clock);
  await Promise.all([bucket.take(), bucket.take()]);
  await clock.sleep(60_000);
  await Promise.all([bucket.take(), bucket.take(), bucket.take()]);
  expect(clock.now()).toBe(61_000);
});

it.each([
  ["ecs", "RegisterTaskDefinition", "ecs:task-definition-write"],
  ["ecs", "UpdateService", "ecs:service-write"],
  ["ecs", "DescribeServices", "ecs:service-read"],
  ["elasticloadbalancing", "ModifyRule", "elasticloadbalancing:write"],
  ["logs", "GetLogEvents", "logs:read"],
  ["logs", "FilterLogEvents", "logs:search"],
])("takes %s %s from the bucket %s", (service, command, bucket) => {
  expect(limitOf(service, command).name).toBe(bucket);
});

it("never takes more than AWS gives: half of one registration a second, half of five service writes", () => {
  expect(limitOf("ecs", "RegisterTaskDefinition")).toMatchObject({ burst: 10, perSecond: 0.5 });
  expect(limitOf("ecs", "CreateService")).toMatchObject({ burst: 25, perSecond: 2.5 });
});
