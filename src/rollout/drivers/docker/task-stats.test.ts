import { describe, expect, it } from "vitest";
import { parseTaskStats } from "./task-stats.ts";

const MIB = 1024 ** 2;
const answer = (stats: Record<string, number>) => ({
  read: "2026-11-26T08:53:21.006558527Z",
  cpu_stats: { cpu_usage: { total_usage: 269_174_736 }, online_cpus: 2 },
  memory_stats: { usage: 100 * MIB, limit: 512 * MIB, stats },
});

describe("the engine's figures of a container", () => {
  it.each([
    ["cgroups v1", { inactive_file: 1 * MIB, total_inactive_file: 30 * MIB }],
    ["cgroups v2", { inactive_file: 30 * MIB }],
  ])("leave out files that the kernel would drop, under %s", (_, stats) => {
    expect(parseTaskStats(answer(stats))).toEqual({
      atMs: Date.parse("2026-11-26T08:53:21.006Z"),
      cpuMs: 269.174736,
      memoryBytes: 70 * MIB,
      limitBytes: 512 * MIB,
    });
  });

  it("are none of a container that does not run, and of an answer of another form", () => {
    const stopped = { read: "0001-01-01T00:00:00Z", cpu_stats: { cpu_usage: { total_usage: 0 } }, memory_stats: {} };
    expect(parseTaskStats(stopped)).toBeUndefined();
    expect(parseTaskStats({ message: "no" })).toBeUndefined();
  });
});
