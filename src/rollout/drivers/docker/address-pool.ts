import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { Place } from "../../release.ts";
import { listContainers } from "./containers.ts";
import { addressesInUse, type PlaceNetwork } from "./network.ts";
import { formatSubnet, taskAddresses } from "./subnet.ts";

export type AddressPool = {
  /** Lends `count` free addresses of the network; when `use` is over, the containers that took them speak for themselves. */
  lend<T>(place: Place, network: PlaceNetwork, count: number, use: (addresses: string[]) => Promise<T>): Promise<T>;
};

/**
 * Gives tasks fixed addresses. The engine gives a restarted container whatever address is free, and the router would then send
 * one service's requests to another's task.
 */
export function newAddressPool(docker: Docker, instance: string): AddressPool {
  const lent = new Set<string>();
  let last: Promise<unknown> = Promise.resolve();

  async function take(place: Place, network: PlaceNetwork, count: number): Promise<string[]> {
    const [seen, running] = await Promise.all([
      listContainers(docker, instance, place),
      addressesInUse(docker, network.name),
    ]);
    const used = new Set([...seen.map((one) => one.address), ...running, ...lent]);
    const free = taskAddresses(network.subnet).filter((address) => !used.has(address));
    if (free.length < count) throw networkFull(network, count);
    const taken = free.slice(0, count);
    for (const address of taken) lent.add(address);
    return taken;
  }

  return {
    async lend(place, network, count, use) {
      if (count === 0) return await use([]);
      const taking = last.then(() => take(place, network, count));
      last = taking.catch(() => undefined);
      const addresses = await taking;
      try {
        return await use(addresses);
      } finally {
        for (const address of addresses) lent.delete(address);
      }
    },
  };
}

function networkFull({ name, subnet }: PlaceNetwork, count: number): Error {
  return fail("DOCKER_FAILED", {
    message: `Network ${name} (${formatSubnet(subnet)}) has no ${count} free addresses left.`,
    hint: "It was sized for the environment's first release. Destroy the environment and deploy it again to give it a larger one, or lower `count`.",
  });
}
