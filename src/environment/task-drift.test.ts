import { describe, expect, it } from "vitest";
import type { TaskDrift } from "../rollout/target.ts";
import { newTaskDrift } from "./task-drift.ts";

const WEB = "shop.production.web.r2-1";

describe("newTaskDrift", () => {
  const changed: TaskDrift = {
    ...{ name: WEB, what: "task", kind: "changed", mendsItself: false },
    attributes: [{ path: "memory", before: "512 MiB", after: "64 MiB" }],
  };
  const further = { ...changed, attributes: [{ path: "memory", before: "512 MiB", after: "32 MiB" }] };
  const missing: TaskDrift = { name: WEB, what: "task", kind: "missing", attributes: [], mendsItself: true };
  const outdated: TaskDrift = { ...missing, kind: "outdated", mendsItself: false };
  it.each<[string, TaskDrift[], TaskDrift[], TaskDrift[]]>([
    ["the first of it", [], [changed], [changed]],
    ["nothing twice", [changed], [changed], []],
    ["what goes further", [changed], [further], [further]],
    ["nothing that mends itself or comes with the next deployment", [], [missing, outdated], []],
  ])("is %s", (_, before, now, expected) => {
    expect(newTaskDrift(before, now)).toEqual(expected);
  });
});
