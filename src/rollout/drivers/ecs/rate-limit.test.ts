import { expect, it } from "vitest";
import { newBatcher } from "./batch.ts";
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
])("takes %s %s from the bucket %s", (service, command, bucket) => {
  expect(limitOf(service, command).name).toBe(bucket);
});

it("never takes more than AWS gives: half of one registration a second, half of five service writes", () => {
  expect(limitOf("ecs", "RegisterTaskDefinition")).toMatchObject({ burst: 10, perSecond: 0.5 });
  expect(limitOf("ecs", "CreateService")).toMatchObject({ burst: 25, perSecond: 2.5 });
});

it("answers a hundred askers of one moment with ten calls of ten, each with its own", async () => {
  const calls: string[][] = [];
  const ask = newBatcher<string>(10, async (keys) => {
    calls.push(keys);
    return new Map(keys.filter((key) => key !== "k7").map((key) => [key, `v-${key}`]));
  });
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => ask([`k${n}`])));
  expect(calls.map((keys) => keys.length)).toEqual(Array.from({ length: 10 }, () => 10));
  expect(answers[3]?.get("k3")).toBe("v-k3");
  expect(answers[7]?.size).toBe(0);
});

it("gives an error to all who asked for what it was about, and asks anew the next time", async () => {
  let fails = true;
  const ask = newBatcher<string>(10, async () => {
    if (fails) throw new Error("throttled");
    return new Map([["a", "1"]]);
  });
  await expect(Promise.all([ask(["a"]), ask(["b"])])).rejects.toThrow("throttled");
  fails = false;
  expect((await ask(["a"])).get("a")).toBe("1");
});
