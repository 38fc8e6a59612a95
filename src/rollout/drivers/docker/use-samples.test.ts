import { describe, expect, it } from "vitest";
import type { RouterAnswers } from "./router.ts";
import { compareLooks } from "./use-samples.ts";

const MIB = 1024 ** 2;
const place = { app: "shop", environment: "production" };
const WEB = "shop/production/r7/web";

type Look = Parameters<typeof compareLooks>[0];
const task = (id: string, stats: { atMs: number; cpuMs: number; memoryMiB: number } | undefined) =>
  ({
    id,
    name: `web-${id}`,
    service: "web",
    release: 7,
    state: stats === undefined ? "exited" : "running",
    place,
    isUnhealthy: false,
    stats: stats && {
      atMs: stats.atMs,
      cpuMs: stats.cpuMs,
      memoryBytes: stats.memoryMiB * MIB,
      limitBytes: 512 * MIB,
    },
  }) as const;
const look = (atMs: number, tasks: ReturnType<typeof task>[], answers?: RouterAnswers): Look => ({
  atMs,
  tasks: new Map(tasks.map((one) => [one.id, one])),
  answers,
});
const answers = (counts: Record<string, [number, number, number, number]>, unanswered = 0): RouterAnswers => ({
  tasks: new Map(
    Object.entries(counts).map(([name, [requests, answers4xx, answers5xx, meanMs]]) => [
      name,
      { requests, answers4xx, answers5xx, meanMs },
    ]),
  ),
  unanswered: new Map([["shop.production.web", unanswered]]),
});

describe("what happened between two looks", () => {
  it("is each task's own time on the processor, and the memory of all", () => {
    const before = look(0, [
      task("a", { atMs: 0, cpuMs: 1_000, memoryMiB: 0 }),
      task("b", { atMs: 0, cpuMs: 0, memoryMiB: 0 }),
    ]);
    const now = look(10_000, [
      task("a", { atMs: 10_000, cpuMs: 6_000, memoryMiB: 128 }),
      // Looked at a little later: by its own clock it is the same share.
      task("b", { atMs: 20_000, cpuMs: 2_000, memoryMiB: 384 }),
    ]);
    const sample = compareLooks(before, now).get(WEB);
    expect(sample).toMatchObject({ at: 0, spanMs: 10_000, memoryPercent: 50, requests: null, unanswered: null });
    expect(sample?.cores).toBeCloseTo(0.3);
    expect(sample?.tasks.map(({ name, cores }) => [name, cores])).toEqual([
      ["web-a", 0.5],
      ["web-b", 0.1],
    ]);
  });

  it("is not known of a task that was not there before, and begins anew for one that was started again", () => {
    const before = look(0, [task("a", { atMs: 0, cpuMs: 9_000, memoryMiB: 1 })]);
    const now = look(1_000, [
      task("a", { atMs: 1_000, cpuMs: 100, memoryMiB: 1 }),
      task("new", { atMs: 1_000, cpuMs: 500, memoryMiB: 1 }),
    ]);
    expect(
      compareLooks(before, now)
        .get(WEB)
        ?.tasks.map(({ cores }) => cores),
    ).toEqual([0.1, null]);
  });

  it("is what came to the counts of answers, their mean weighed by number, and what nobody answered", () => {
    const tasks = [task("a", undefined), task("b", undefined)];
    const before = look(0, tasks, answers({ "web-a": [100, 1, 1, 9], "web-b": [50, 0, 0, 9] }, 2));
    const now = look(5_000, tasks, answers({ "web-a": [130, 1, 4, 10], "web-b": [10, 2, 0, 50] }, 3));
    expect(compareLooks(before, now).get(WEB)).toMatchObject({
      requests: 40,
      answers4xx: 2,
      answers5xx: 3,
      meanMs: 20,
      unanswered: 1,
      memoryPercent: null,
      cores: null,
    });
  });
});
