import type { Place } from "./release.ts";
import { type RuntimeSettings, runtimeKey } from "./runtime.ts";
import type { RolloutTarget } from "./target.ts";

/** Where releases can run. */
export type TargetOf = (runtime: RuntimeSettings) => RolloutTarget;

/**
 * Each place on the runtime that it is on now, behind the one port. Stopping a release and removing a place concern every runtime it was ever on:
 * what moved away leaves tasks behind that serve until then.
 */
export function placedTarget(
  targetOf: TargetOf,
  runtimesOf: (place: Place) => Promise<{ current: RuntimeSettings; all: RuntimeSettings[] }>,
): RolloutTarget {
  const docker = targetOf({ kind: "docker" });
  const at = async (place: Place): Promise<RolloutTarget> => targetOf((await runtimesOf(place)).current);
  const everywhere = async (place: Place): Promise<RolloutTarget[]> => {
    const { current, all } = await runtimesOf(place);
    const byKey = new Map([current, ...all].map((runtime) => [runtimeKey(runtime), runtime]));
    return [...byKey.values()].map(targetOf);
  };
  return {
    // These two are Docker's own matters: elsewhere there are no backing services, and a rollout asks its own target.
    backingVariables: (place, backing) => docker.backingVariables(place, backing),
    addressOf: (place, service) => docker.addressOf(place, service),
    observe: async (place, only) => (await at(place)).observe(place, only),
    prepare: async (place, release) => (await at(place)).prepare(place, release),
    observeBacking: async (place, backing) => (await at(place)).observeBacking(place, backing),
    ensureBacking: async (place, backing, log, signal) => (await at(place)).ensureBacking(place, backing, log, signal),
    removeBacking: async (place, name, data) => (await at(place)).removeBacking(place, name, data),
    runOnce: async (place, release, run, log, signal) => (await at(place)).runOnce(place, release, run, log, signal),
    exec: async (place, task, request) => (await at(place)).exec(place, task, request),
    endExec: async (place, task, id) => (await at(place)).endExec(place, task, id),
    async forgetRun(place, key) {
      for (const target of await everywhere(place)) await target.forgetRun(place, key);
    },
    startService: async (place, release, service, variables) =>
      (await at(place)).startService(place, release, service, variables),
    awaitHealthy: async (place, release, services, options) =>
      (await at(place)).awaitHealthy(place, release, services, options),
    watchHealth: async (place, release, services, options) =>
      (await at(place)).watchHealth(place, release, services, options),
    shiftTraffic: async (place, release) => (await at(place)).shiftTraffic(place, release),
    awaitDrained: async (place, serving, deadlineMs) => (await at(place)).awaitDrained(place, serving, deadlineMs),
    park: async (place, release) => (await at(place)).park(place, release),
    wake: async (place, release) => (await at(place)).wake(place, release),
    async stop(place, release, services) {
      for (const target of await everywhere(place)) await target.stop(place, release, services);
    },
    findDrift: async (place, desired, options) => (await at(place)).findDrift(place, desired, options),
    reconcile: async (place, desired) => (await at(place)).reconcile(place, desired),
    readLogs: async (place, source, options, log) => (await at(place)).readLogs(place, source, options, log),
    async tidy(place, kept, signal) {
      for (const target of await everywhere(place)) await target.tidy(place, kept, signal);
    },
    measure: async (place, releases, options) => (await at(place)).measure(place, releases, options),
    async halt(place, spared) {
      for (const target of await everywhere(place)) await target.halt(place, spared);
    },
    async destroy(place, data) {
      const remarks: string[] = [];
      for (const target of await everywhere(place)) remarks.push(...(await target.destroy(place, data)));
      return remarks;
    },
  };
}
