import type Docker from "dockerode";
import { newKeyedLock } from "../../../shared/keyed-lock.ts";
import type { Place } from "../../release.ts";
import { type AddressPool, newAddressPool } from "./address-pool.ts";
import { listContainers, type SeenContainer } from "./containers.ts";
import { networkName } from "./names.ts";
import { ensureNetwork, type PlaceNetwork } from "./network.ts";
import type { Router } from "./router.ts";
import { prefixFor } from "./subnet.ts";

export type AttachedNetwork = { network: PlaceNetwork; routerAddress: string };

/** Where things are made, and with what: all that the parts of the driver share. */
export type Ground = {
  docker: Docker;
  router: Router;
  instance: string;
  addresses: AddressPool;
  /** All containers of the place. */
  seen(place: Place): Promise<SeenContainer[]>;
  tasksOf(place: Place): Promise<SeenContainer[]>;
  /** The place's network, with the router in it. `tasks`: how many it needs room for when it is made. */
  attachedNetwork(place: Place, tasks?: number): Promise<AttachedNetwork>;
  /** The router's address there is found anew. */
  forgetNetwork(place: Place): void;
  /** Notes that the place is changed in this moment. */
  touch(place: Place): void;
  /** When a place was changed last, so that a reconciliation notices that its picture is out of date; 0 when it was not. */
  changedAt(place: Place): number;
  /** Restarts that tasks had behind them when they were found healthy, so that one between two watches is not overlooked. */
  provedWith: Map<string, number | undefined>;
};

export function newGround(on: { docker: Docker; router: Router; instance: string; subnetPool: string }): Ground {
  const { docker, router, instance, subnetPool } = on;
  const routerAddresses = new Map<string, string>();
  const changes = new Map<string, number>();
  const lockNetwork = newKeyedLock();
  const keyOf = (place: Place) => networkName(instance, place);

  const seen = (place: Place) => listContainers(docker, instance, place);

  async function attachNetwork(place: Place, tasks: number): Promise<AttachedNetwork> {
    const network = await ensureNetwork(docker, { instance, place, pool: subnetPool, prefix: prefixFor(tasks) });
    const known = routerAddresses.get(network.name);
    if (known !== undefined) return { network, routerAddress: known };
    const { address } = await router.attach(network.name);
    routerAddresses.set(network.name, address);
    return { network, routerAddress: address };
  }

  return {
    docker,
    router,
    instance,
    addresses: newAddressPool(docker, instance),
    seen,
    tasksOf: async (place) => (await seen(place)).filter((one) => one.role === "task"),
    // One at a time: the engine lets two who look and find no network of that name make one each, and then refuses the name as ambiguous.
    attachedNetwork: (place, tasks = 1) => lockNetwork(keyOf(place), () => attachNetwork(place, tasks)),
    forgetNetwork: (place) => void routerAddresses.delete(keyOf(place)),
    touch: (place) => void changes.set(keyOf(place), Date.now()),
    changedAt: (place) => changes.get(keyOf(place)) ?? 0,
    provedWith: new Map(),
  };
}
