import { formatAddress, parseSubnet } from "../subnet.ts";

/**
 * The router's address in a network, always the same one: an address the engine gives to nobody else. It hands out the
 * lowest free addresses of its range, so that is the highest usable one; or, where the network keeps the engine to a range
 * of its own, the one after the gateway. Undefined when the network has no IPv4 subnet.
 */
export function routerAddress(ipam: { Subnet?: string | undefined; IPRange?: string | undefined }): string | undefined {
  const subnet = ipam.Subnet === undefined ? undefined : parseSubnet(ipam.Subnet);
  if (subnet === undefined || subnet.prefix > 29) return undefined;
  const highest = subnet.base + 2 ** (32 - subnet.prefix) - 2;
  return formatAddress(ipam.IPRange ? subnet.base + 2 : highest);
}
