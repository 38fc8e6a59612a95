import { readFile } from "node:fs/promises";

/**
 * git waits for this at every push, in a process of its own: nothing else of ours is imported here, since that takes five
 * times as long to load as node takes to start.
 */

/** `key=value` lines up to the first empty one (git-credential(1), INPUT/OUTPUT FORMAT). */
export function parseAttributes(text: string): Map<string, string> {
  const lines = text.split("\n\n")[0]?.split("\n") ?? [];
  return new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

/** What git reads. */
export function credentialAnswer(token: string): string {
  return `username=shipway\npassword=${token}\n`;
}

export function originOf(asked: ReadonlyMap<string, string>): string {
  return `${asked.get("protocol")}://${asked.get("host")}`;
}

/**
 * The answer for a server that the credentials file knows; undefined for everything else (no such server, a damaged file,
 * an operation other than `get`), which is for the command itself to explain.
 */
export async function findStoredAnswer(file: string, request: string): Promise<string | undefined> {
  const servers = serversIn(await readFile(file, "utf8").catch(() => "{}"));
  const origin = originOf(parseAttributes(request));
  const token = servers.find(([url]) => URL.canParse(url) && new URL(url).origin === origin)?.[1];
  return token === undefined ? undefined : credentialAnswer(token);
}

function serversIn(text: string): [string, string][] {
  try {
    const { servers } = JSON.parse(text) as { servers?: Record<string, { token?: unknown }> };
    return Object.entries(servers ?? {}).flatMap(([url, known]) =>
      typeof known?.token === "string" ? [[url, known.token]] : [],
    );
  } catch {
    return [];
  }
}
