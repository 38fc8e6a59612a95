/** CPU units → the memory sizes in MiB that Fargate allows with them, smallest first (Amazon ECS developer guide, task size). */
export const FARGATE_SIZES: Record<number, readonly number[]> = {
  256: [512, 1_024, 2_048],
  512: sizes(1_024, 4_096),
  1024: sizes(2_048, 8_192),
  2048: sizes(4_096, 16_384),
  4096: sizes(8_192, 30_720),
  8192: sizes(16_384, 61_440, 4_096),
  16384: sizes(32_768, 122_880, 8_192),
};

export type FargateSize = { cpu: number; memoryMiB: number };

function sizes(minMiB: number, maxMiB: number, stepMiB = 1_024): number[] {
  return Array.from({ length: (maxMiB - minMiB) / stepMiB + 1 }, (_, step) => minMiB + step * stepMiB);
}

/** The smallest size with at least so much of both; undefined where Fargate has none. */
export function fargateSizeOf(wanted: FargateSize): FargateSize | undefined {
  for (const [cpu, memories] of Object.entries(FARGATE_SIZES)) {
    if (Number(cpu) < wanted.cpu) continue;
    const memoryMiB = memories.find((memory) => memory >= wanted.memoryMiB);
    if (memoryMiB !== undefined) return { cpu: Number(cpu), memoryMiB };
  }
  return undefined;
}
