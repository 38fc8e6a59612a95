import { expect, it } from "vitest";
import { newBatcher } from "./batch.ts";

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
