import { dockerMissing } from "../../../shared/docker-missing.ts";
import type { Place } from "../../release.ts";
import type { Backing, RolloutTarget } from "../../target.ts";

/**
 * The runtime `docker` of a Shipway that has no engine. Nothing runs there, so looking finds nothing and removing has nothing to do: an environment that
 * was never deployed is here too, and can be made, looked at and removed. Whatever would start something is refused.
 * @throws DOCKER_MISSING
 */
export function targetWithoutEngine(): RolloutTarget {
  const refuse = async ({ app, environment }: Place): Promise<never> => {
    throw dockerMissing(`${app} ${environment} is on the runtime docker`);
  };
  const refuseBacking = (place: Place, backing: readonly Backing[]): void => {
    if (backing.length === 0) return;
    const names = backing.map(({ name }) => name).join(", ");
    throw dockerMissing(`${names} of ${place.app} ${place.environment} would run on Docker`);
  };
  return {
    observe: async () => [],
    prepare: refuse,
    addressOf: (_place, { name }) => `http://${name}`,
    backingVariables(place, backing) {
      refuseBacking(place, backing);
      return {};
    },
    async observeBacking(place, backing) {
      refuseBacking(place, backing);
      return [];
    },
    ensureBacking: async (place, backing) => refuseBacking(place, backing),
    removeBacking: async () => false,
    runOnce: refuse,
    exec: refuse,
    endExec: async () => undefined,
    forgetRun: async () => undefined,
    startService: refuse,
    awaitHealthy: refuse,
    watchHealth: refuse,
    shiftTraffic: refuse,
    awaitDrained: refuse,
    park: refuse,
    wake: refuse,
    stop: async () => undefined,
    findDrift: async (place, { live }) => (live === undefined ? [] : refuse(place)),
    reconcile: async (place, { live }) => (live === undefined ? [] : refuse(place)),
    readLogs: refuse,
    tidy: async () => undefined,
    measure: async (place, releases, { sinceMs }) =>
      releases.length === 0 ? { everyMs: 60_000, sinceMs, services: [], notes: [] } : refuse(place),
    halt: async () => undefined,
    destroy: async () => [],
  };
}
