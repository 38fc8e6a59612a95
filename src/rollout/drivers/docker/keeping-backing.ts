import { newKeyedLock } from "../../../shared/keyed-lock.ts";
import type { RolloutTarget } from "../../target.ts";
import {
  type BackingProofs,
  backingVariables,
  ensureBackingService,
  observeBackingService,
  removeBackingService,
} from "./backing.ts";
import { sideBySide } from "./containers.ts";
import type { Ground } from "./ground.ts";
import { backingName, networkName } from "./names.ts";

/** A network that is made for a backing service, before any release is known, has room for the tasks of most. */
const TASKS_TO_COME = 25;

/** Databases and caches of a place. */
export function newKeepingBacking(
  ground: Ground,
): Pick<RolloutTarget, "backingVariables" | "observeBacking" | "ensureBacking" | "removeBacking"> {
  const { docker, instance, addresses, attachedNetwork } = ground;
  const proofs: BackingProofs = new Map();
  /** The API, a rollout and a reconciliation may all want the same backing service at once. */
  const lockBacking = newKeyedLock();
  return {
    backingVariables: (place, backing) => Object.assign({}, ...backing.map((one) => backingVariables(place, one))),

    async observeBacking(place, backing) {
      const seeing = { docker, instance, place, network: networkName(instance, place), proofs };
      return Promise.all(backing.map((one) => observeBackingService(seeing, one)));
    },

    async ensureBacking(place, backing, log, signal) {
      if (backing.length === 0) return;
      const { network } = await attachedNetwork(place, TASKS_TO_COME);
      await sideBySide(backing, (one) =>
        lockBacking(backingName(instance, place, one.name), () =>
          ensureBackingService(
            {
              docker,
              instance,
              place,
              network: network.name,
              lendAddress: (use) => addresses.lend(place, network, 1, ([address = ""]) => use(address)),
              log,
              signal,
              proofs,
            },
            one,
          ),
        ),
      );
    },

    removeBacking: (place, name, data) =>
      lockBacking(backingName(instance, place, name), () =>
        removeBackingService({ docker, instance, place, proofs }, name, data),
      ),
  };
}
