import { Name } from "./name.ts";

/** Where code that is not the app's own lies: in a repository hosted here, or in one that Shipway fetches from. */
export type RepositoryAddress =
  | { kind: "hosted"; name: string }
  | { kind: "connected"; url: string; over: "http" | "ssh"; host: string };

const USER = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
const HOST = "[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?";
const SSH_URL = new RegExp(`^ssh://(?:${USER}@)?(${HOST})(?::\\d{1,5})?/[^\\s]+$`);
const SCP_LIKE = new RegExp(`^${USER}@(${HOST}):[^\\s:-][^\\s]*$`);
/** A token sent in the clear stays on this machine. */
const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** What such an address may be, for messages. */
export const ADDRESS_FORM =
  "write the name of a hosted infra repository (shop-infra) or an address: https://HOST/PATH.git, ssh://git@HOST/PATH.git or git@HOST:PATH.git";

/**
 * The address, or undefined for everything that git could take for something else: other protocols (`ext::`, `file:`), paths, options, an address with
 * a password in it. Plain http is taken from this machine alone.
 */
export function parseRepositoryAddress(text: string): RepositoryAddress | undefined {
  if (Name.safeParse(text).success) return { kind: "hosted", name: text };
  if (text.length > 1_000 || /[\x00-\x20\x7f\\"'`<>]/.test(text)) return undefined;
  const host = SSH_URL.exec(text)?.[1] ?? (text.includes("://") ? undefined : SCP_LIKE.exec(text)?.[1]);
  if (host !== undefined) return { kind: "connected", url: text, over: "ssh", host };
  return parseHttp(text);
}

function parseHttp(text: string): RepositoryAddress | undefined {
  if (!/^https?:\/\/[^/@]+\/[^?#]+$/.test(text) || !URL.canParse(text)) return undefined;
  const { protocol, hostname, host } = new URL(text);
  if (protocol !== "https:" && !LOOPBACK.has(hostname)) return undefined;
  return { kind: "connected", url: text, over: "http", host };
}
