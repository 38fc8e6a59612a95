import pLimit from "p-limit";
import { type InfraRunKind, isApplying } from "./infra-run.ts";

export type LookSlots = <T>(
  run: { app: string; environment: string; kind: InfraRunKind },
  work: () => Promise<T>,
) => Promise<T>;

/**
 * Lets work wait that only looks: so many plans and so many drift checks at a time, and one of each per environment, since they share a folder that is
 * initialised. An apply waits for nobody here: fifty checks that are asked for at once do not stand in a deployment's way.
 */
export function newLookSlots(limits: { plans: number; drifts: number }): LookSlots {
  const slots = { plan: pLimit(limits.plans), drift: pLimit(limits.drifts) };
  const folders = new Map<string, Promise<void>>();
  return async ({ app, environment, kind }, work) => {
    if (isApplying(kind)) return work();
    const folder = [app, environment, kind].join("/");
    const mine = (folders.get(folder) ?? Promise.resolve()).then(() => slots[kind](work));
    const done = mine.then(
      () => undefined,
      () => undefined,
    );
    folders.set(folder, done);
    try {
      return await mine;
    } finally {
      if (folders.get(folder) === done) folders.delete(folder);
    }
  };
}
