import type Docker from "dockerode";
import { z } from "zod";
import { askingUnless } from "./docker-errors.ts";

/** What a container has used so far, and what it uses now. */
export type TaskStats = { atMs: number; cpuMs: number; memoryBytes: number; limitBytes: number };

const MemoryDetail = z.record(z.string(), z.number());
/** Of Docker Engine API, "get container stats": what we read. A container that does not run has neither figures nor a time. */
const Stats = z.object({
  read: z.string(),
  cpu_stats: z.object({ cpu_usage: z.object({ total_usage: z.number() }) }),
  memory_stats: z.object({
    usage: z.number().optional(),
    limit: z.number().optional(),
    stats: MemoryDetail.optional(),
  }),
});

/** One look, without the second that the engine would otherwise wait for a second one. Undefined when the container is gone or does not run. */
export async function readTaskStats(docker: Docker, id: string): Promise<TaskStats | undefined> {
  const answer: unknown = await askingUnless([404, 409], "Reading what a task uses", () =>
    docker.getContainer(id).stats({ stream: false, "one-shot": true }),
  );
  return parseTaskStats(answer);
}

export function parseTaskStats(answer: unknown): TaskStats | undefined {
  const parsed = Stats.safeParse(answer);
  if (!parsed.success) return undefined;
  const { read, cpu_stats: cpu, memory_stats: memory } = parsed.data;
  if (memory.usage === undefined || memory.limit === undefined) return undefined;
  // Files that the kernel would drop for anybody who asks are no use of memory; the second name is that of cgroups v1.
  const files = memory.stats?.inactive_file ?? 0;
  const filesOfAll = memory.stats?.total_inactive_file ?? files;
  return {
    atMs: Date.parse(read),
    cpuMs: cpu.cpu_usage.total_usage / 1e6,
    memoryBytes: Math.max(0, memory.usage - filesOfAll),
    limitBytes: memory.limit,
  };
}
