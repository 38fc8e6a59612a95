import { type FargateSize, fargateSizeOf } from "../aws/fargate-sizes.ts";
import type { StepPlan } from "./executor.ts";

/** Bitbucket gives two processors with 4 GB, and steps are written for it. */
const UNITS_PER_MIB = 0.5;
const MOST_UNITS = 16_384;

/** What a step and its services reserve together as a task of Fargate; undefined where that has nothing so large. */
export function taskSizeOf(step: {
  memoryMiB: number;
  services: readonly Pick<StepPlan["services"][number], "memoryMiB">[];
}): FargateSize | undefined {
  const memoryMiB = step.services.reduce((sum, service) => sum + service.memoryMiB, step.memoryMiB);
  return fargateSizeOf({ cpu: Math.min(MOST_UNITS, memoryMiB * UNITS_PER_MIB), memoryMiB });
}
