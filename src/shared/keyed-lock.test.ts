import { expect, it } from "vitest";
import { newDeferred } from "./deferred.ts";
import { newKeyedLock } from "./keyed-lock.ts";

it("does work of one key in its order, each after the one before has ended, also when that failed", async () => {
  const lock = newKeyedLock();
  const done: string[] = [];
  const first = newDeferred<void>();
  const failing = lock("a", async () => {
    done.push("first begins");
    await first.promise;
    done.push("first fails");
    throw new Error("no");
  });
  const second = lock("a", async () => void done.push("second"));
  await lock("b", async () => void done.push("other key"));
  expect(done).toEqual(["first begins", "other key"]);
  first.resolve();
  await expect(failing).rejects.toThrow("no");
  await second;
  expect(done).toEqual(["first begins", "other key", "first fails", "second"]);
});
