import { expect, it } from "vitest";
import { sleep, until } from "../shared/until.ts";
import { newVisits, type Visit } from "./visits.ts";

/** Visits of which each ends when it is told to. */
function newStage(options: { atOnce?: number; deadlineMs?: number } = {}) {
  const made: string[] = [];
  const errors: string[] = [];
  const late: string[] = [];
  const ends = new Map<string, (result: { againMs: number } | Error) => void>();
  let now = 1_000;
  const visits = newVisits({
    atOnce: options.atOnce ?? 2,
    deadlineMs: options.deadlineMs ?? 60_000,
    onError: (key, error) => void errors.push(`${key}: ${error instanceof Error ? error.message : ""}`),
    onLate: (key) => void late.push(key),
    now: () => now,
  });
  const visit = (key: string, lane = "docker"): Visit => ({
    key,
    lane,
    make: () =>
      new Promise((resolve, reject) => {
        made.push(key);
        ends.set(key, (result) => (result instanceof Error ? reject(result) : resolve(result)));
      }),
  });
  const end = (key: string, result: { againMs: number } | Error = { againMs: 0 }) => ends.get(key)?.(result);
  const pass = (ms: number) => {
    now += ms;
  };
  return { visits, visit, made, errors, late, end, pass };
}

it("makes so many at a time in each lane, and a slow lane keeps no other waiting", async () => {
  const { visits, visit, made, end } = newStage();
  const begun = visits.begin([
    ...["a", "b", "c"].map((key) => visit(key, "ecs")),
    ...["x", "y", "z"].map((key) => visit(key, "docker")),
  ]);
  await until("the first of each lane are visited", () => made.length === 4);
  expect([...made].sort()).toEqual(["a", "b", "x", "y"]);
  end("x");
  await until("the next of that lane follows", () => made.includes("z"));
  expect(made).not.toContain("c");
  end("a");
  await until("the next of the other lane follows", () => made.includes("c"));
  for (const key of ["b", "c", "y", "z"]) end(key);
  await begun;
});

it("goes on without one that takes too long, which is not made again beside itself", async () => {
  const { visits, visit, made, late, end } = newStage({ atOnce: 1, deadlineMs: 20 });
  await visits.begin([visit("hangs"), visit("after")]).catch(() => undefined);
  expect(late).toContain("hangs");
  expect(made).toEqual(["hangs", "after"]);
  await visits.begin([visit("hangs")]);
  expect(made).toEqual(["hangs", "after"]);
  end("hangs");
  await until("it is visited again once it has ended", async () => {
    void visits.begin([visit("hangs")]);
    await sleep(1);
    return made.length === 3;
  });
});

it("makes none again before it is due, and one that failed at once", async () => {
  const { visits, visit, made, errors, end, pass } = newStage();
  const whole = async (key: string, result: { againMs: number } | Error) => {
    const begun = visits.begin([visit(key), visit("other")]);
    await sleep(1);
    end(key, result);
    end("other", { againMs: 0 });
    await begun;
    return made.filter((one) => one === key).length;
  };
  expect(await whole("a", { againMs: 60_000 })).toBe(1);
  pass(59_999);
  expect(await whole("a", { againMs: 60_000 })).toBe(1);
  pass(1);
  expect(await whole("a", new Error("throttled"))).toBe(2);
  expect(await whole("a", { againMs: 0 })).toBe(3);
  expect(errors).toEqual(["a: throttled"]);
});

it("begins none once it is stopped, and waits for those under way", async () => {
  const { visits, visit, made, end } = newStage({ atOnce: 1 });
  void visits.begin([visit("a"), visit("b")]);
  await until("the first is under way", () => made.length === 1);
  let isOver = false;
  const stopped = visits.stop().then(() => {
    isOver = true;
  });
  await sleep(5);
  expect(isOver).toBe(false);
  end("a");
  await stopped;
  expect(made).toEqual(["a"]);
});
