import { readFile } from "node:fs/promises";
import type Docker from "dockerode";
import type { Evidence } from "../../target.ts";
import { execIn } from "./exec.ts";

type Listening = Evidence["listening"][number];

/** State of a socket that accepts connections (Linux, include/net/tcp_states.h: TCP_LISTEN). */
const LISTEN = "0A";

/** `/proc/net/tcp` and `tcp6` → where something listens. Addresses are hexadecimal words in the machine's (little-endian) order. */
export function parseListening(table: string): Listening[] {
  return table.split("\n").flatMap((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    const match = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(local ?? "");
    if (state !== LISTEN || match?.[1] === undefined || match[2] === undefined) return [];
    const address = match[1].length === 8 ? readIPv4(match[1]) : readIPv6(match[1]);
    const loopbackOnly = address.startsWith("127.") || address === "::1";
    return [{ port: Number.parseInt(match[2], 16), address, loopbackOnly }];
  });
}

/** What a container listens on, by the kernel's own table: read from the machine when we may, else from inside the container. */
export async function listeningIn(docker: Docker, container: { id: string; pid: number }): Promise<Listening[]> {
  const tables = await Promise.all(["tcp", "tcp6"].map((name) => readTable(docker, container, name)));
  // Docker's own resolver listens on 127.0.0.11 in every container of a network of ours.
  const listening = tables.flatMap(parseListening).filter((one) => one.address !== "127.0.0.11");
  return listening.filter(
    (one, index) => index === listening.findIndex((other) => other.port === one.port && other.address === one.address),
  );
}

async function readTable(docker: Docker, container: { id: string; pid: number }, name: string): Promise<string> {
  if (container.pid > 0) {
    const fromHost = await readFile(`/proc/${container.pid}/net/${name}`, "utf8").catch(() => undefined);
    if (fromHost !== undefined) return fromHost;
  }
  const inside = await execIn(docker, container.id, ["cat", `/proc/net/${name}`], { timeoutMs: 2_000 });
  return inside.exitCode === 0 ? inside.output : "";
}

function readIPv4(hex: string): string {
  return [...Buffer.from(hex, "hex")].reverse().join(".");
}

function readIPv6(hex: string): string {
  if (/^0{32}$/.test(hex)) return "::";
  if (hex === "00000000000000000000000001000000") return "::1";
  const words = hex.match(/.{8}/g) ?? [];
  const groups = words.flatMap((word) => {
    const bytes = Buffer.from(word, "hex").reverse();
    return [bytes.readUInt16BE(0), bytes.readUInt16BE(2)];
  });
  // An IPv4 address in IPv6 clothes, as Java sockets have.
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  return isMapped ? readIPv4(words[3] ?? "") : groups.map((group) => group.toString(16)).join(":");
}
