import { BlockList, isIP } from "node:net";
import { fail } from "../shared/errors.ts";

const MOST_URL_CHARACTERS = 2_000;

/**
 * Addresses that give credentials to whatever asks from this machine, and nothing else that a message could be meant for: link-local ones, among them
 * the metadata service of AWS, Google and Azure (169.254.169.254, fd00:ec2::254), and Alibaba's. Other internal hosts are allowed: a chat server in
 * the same network is the ordinary case, and who may add hooks is an operator.
 */
const BLOCKED = new BlockList();
BLOCKED.addSubnet("169.254.0.0", 16, "ipv4");
BLOCKED.addSubnet("fe80::", 10, "ipv6");
BLOCKED.addAddress("fd00:ec2::254", "ipv6");
BLOCKED.addAddress("100.100.100.200", "ipv4");

export function isBlockedAddress(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && BLOCKED.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** The host of a URL as an address or name: `[::1]` → `::1`. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[|\]$/g, "");

/** @throws REQUEST_INVALID; its message does not repeat the URL, which may be a secret */
export function parseHookUrl(text: string): URL {
  const url = text.length <= MOST_URL_CHARACTERS && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw fail("REQUEST_INVALID", {
      message: "This is no address that messages can be sent to: it must be an https:// or http:// URL.",
      hint: "Copy it whole from the receiver, such as https://hooks.slack.com/services/T…/B…/…",
    });
  }
  if (isBlockedAddress(hostOf(url))) {
    throw fail("REQUEST_INVALID", {
      message: `Nothing is sent to ${hostOf(url)}: link-local addresses hold the machine's own credentials.`,
      hint: "Give the address of the receiver.",
    });
  }
  return url;
}

/** What may be shown of it: of a Slack URL the rest is a password. */
export function shortenUrl(url: URL): string {
  return url.pathname === "/" && url.search === "" ? `${url.origin}/` : `${url.origin}/…`;
}
