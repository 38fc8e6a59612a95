/** IPv4 arithmetic for the networks of environments: each gets a small subnet from a pool of our own. */

/** A block of addresses; `base` is its first address as a number. */
export type Subnet = { base: number; prefix: number };

/** 64 addresses: about 40 tasks over the live, the new and the standby release. */
const SMALLEST = 26;
const LARGEST = 20;

/** `10.1.2.0/24` → the block that contains it; undefined for anything else (an IPv6 block, garbage). */
export function parseSubnet(text: string): Subnet | undefined {
  const match = /^(\d+\.\d+\.\d+\.\d+)\/(\d+)$/.exec(text);
  const address = match?.[1] === undefined ? undefined : parseAddress(match[1]);
  const prefix = Number(match?.[2]);
  if (address === undefined || !(prefix >= 0 && prefix <= 32)) return undefined;
  return { base: address - (address % sizeOf(prefix)), prefix };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatAddress(subnet.base)}/${subnet.prefix}`;
}

function parseAddress(text: string): number | undefined {
  const parts = text.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255)) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** How large a network must be for three sets of `tasks` (new, live, standby), its backing services and one-off runs. */
export function prefixFor(tasks: number): number {
  const wanted = tasks * 3;
  for (let prefix = SMALLEST; prefix > LARGEST; prefix--) {
    if (taskAddresses({ base: 0, prefix }).length >= wanted) return prefix;
  }
  return LARGEST;
}

/** The first block of the pool that overlaps nothing taken; undefined when the pool is used up. */
export function freeSubnet(pool: Subnet, prefix: number, taken: Subnet[]): Subnet | undefined {
  const size = sizeOf(prefix);
  const end = pool.base + sizeOf(pool.prefix);
  for (let base = pool.base; base + size <= end; base += size) {
    const candidate = { base, prefix };
    if (!taken.some((one) => overlaps(one, candidate))) return candidate;
  }
  return undefined;
}

/**
 * The last quarter is the engine's to give out (one-off runs, the user's own `docker network connect`), so that it never gives out
 * an address of ours: a task keeps its address over restarts, and the router must never find another task there.
 */
export function dynamicRange(subnet: Subnet): Subnet {
  return { base: subnet.base + (sizeOf(subnet.prefix) / 4) * 3, prefix: subnet.prefix + 2 };
}

/** Addresses that tasks may have: after the gateway and the router's, before the engine's range. */
export function taskAddresses(subnet: Subnet): string[] {
  const firstFree = subnet.base + 4;
  const end = dynamicRange(subnet).base;
  return Array.from({ length: end - firstFree }, (_, index) => formatAddress(firstFree + index));
}

function overlaps(one: Subnet, other: Subnet): boolean {
  return one.base < other.base + sizeOf(other.prefix) && other.base < one.base + sizeOf(one.prefix);
}

function sizeOf(prefix: number): number {
  return 2 ** (32 - prefix);
}
