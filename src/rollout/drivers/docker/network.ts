import { readFile } from "node:fs/promises";
import type Docker from "dockerode";
import { fail } from "../../../shared/errors.ts";
import type { Place } from "../../release.ts";
import { asking, askingUnless, isSubnetOverlap, statusOf, toDockerError } from "./docker-errors.ts";
import { networkName, placeLabels } from "./names.ts";
import { dynamicRange, formatSubnet, freeSubnet, parseSubnet, type Subnet } from "./subnet.ts";

export type PlaceNetwork = { name: string; subnet: Subnet };

/** Other tools make networks at the same time; this often in a row is a pool that is not ours alone. */
const OVERLAP_RETRIES = 8;

/** The place's network, made with a free subnet of the pool when it is not there. */
export async function ensureNetwork(
  docker: Docker,
  options: { instance: string; place: Place; pool: string; prefix: number },
): Promise<PlaceNetwork> {
  const name = networkName(options.instance, options.place);
  const found = await findNetwork(docker, name);
  if (found !== undefined) return found;
  const pool = parseSubnet(options.pool);
  if (pool === undefined) throw new Error(`the subnet pool ${options.pool} is not an IPv4 block`);
  const taken = await takenSubnets(docker);
  for (let attempt = 1; ; attempt++) {
    const subnet = freeSubnet(pool, options.prefix, taken);
    if (subnet === undefined) throw poolUsedUp(options.pool);
    try {
      await createNetwork(docker, name, subnet, placeLabels(options.instance, options.place));
      return { name, subnet };
    } catch (error) {
      // 409: somebody made it meanwhile.
      const theirs = statusOf(error) === 409 ? await findNetwork(docker, name) : undefined;
      if (theirs !== undefined) return theirs;
      if (!isSubnetOverlap(error) || attempt === OVERLAP_RETRIES)
        throw toDockerError(error, `Creating network ${name}`);
      taken.push(subnet);
    }
  }
}

export async function findNetwork(docker: Docker, name: string): Promise<PlaceNetwork | undefined> {
  const info = await askingUnless([404], `Looking at network ${name}`, () => docker.getNetwork(name).inspect());
  const block = info?.IPAM?.Config?.[0]?.Subnet;
  const subnet = block === undefined ? undefined : parseSubnet(block);
  return subnet === undefined ? undefined : { name, subnet };
}

/** Addresses in the network that belong to running containers, the router's among them. */
export async function addressesInUse(docker: Docker, name: string): Promise<string[]> {
  const info = await asking(`Looking at network ${name}`, () => docker.getNetwork(name).inspect());
  return Object.values(info.Containers ?? {}).flatMap((one) => one.IPv4Address.split("/")[0] ?? []);
}

export async function removeNetwork(docker: Docker, name: string): Promise<void> {
  await askingUnless([404], `Removing network ${name}`, () => docker.getNetwork(name).remove());
}

async function createNetwork(docker: Docker, name: string, subnet: Subnet, labels: Record<string, string>) {
  await docker.createNetwork({
    Name: name,
    Driver: "bridge",
    CheckDuplicate: true,
    Labels: labels,
    IPAM: {
      Driver: "default",
      Config: [{ Subnet: formatSubnet(subnet), IPRange: formatSubnet(dynamicRange(subnet)) }],
    },
  });
}

/** What the engine's networks and the machine's own routes cover. */
async function takenSubnets(docker: Docker): Promise<Subnet[]> {
  const networks = await asking("Listing networks", () => docker.listNetworks());
  const blocks = networks.flatMap((network) => (network.IPAM?.Config ?? []).map((config) => config.Subnet ?? ""));
  return [...blocks.flatMap((block) => parseSubnet(block) ?? []), ...(await hostRoutes())];
}

/** Routes of this machine (a VPN, a second network card); none where the kernel does not say (macOS). */
async function hostRoutes(): Promise<Subnet[]> {
  const table = await readFile("/proc/net/route", "utf8").catch(() => "");
  return parseRoutes(table);
}

/** `/proc/net/route`: destination and mask are little-endian hexadecimal. The default route covers everything and says nothing. */
function parseRoutes(table: string): Subnet[] {
  return table
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const [, destination, , , , , , mask] = line.split("\t");
      if (destination === undefined || mask === undefined) return [];
      const prefix = bitsSet(Number.parseInt(mask, 16));
      const base = Buffer.from(destination, "hex").reverse().readUInt32BE(0);
      return prefix === 0 ? [] : [{ base, prefix }];
    });
}

function bitsSet(value: number): number {
  return value.toString(2).replaceAll("0", "").length;
}

function poolUsedUp(pool: string): Error {
  return fail("DOCKER_FAILED", {
    message: `No subnet is left in ${pool} for another environment.`,
    hint: "Remove environments that nobody uses, or give Shipway a larger pool.",
  });
}
