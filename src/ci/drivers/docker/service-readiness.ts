import { readFile } from "node:fs/promises";
import type Docker from "dockerode";
import { sleep } from "../../../shared/until.ts";
import type { ReadyCheck } from "../../ready-check.ts";

/** The container whose network a step and its services share, and its main process on the engine's machine. */
export type Namespace = { container: Docker.Container; pid: number };

const EVERY_MS = 50;

/**
 * Asks again and again until the service answers. Resolves with the last answer once `signal` aborts, and with undefined when it is ready.
 */
export async function awaitReady(
  check: ReadyCheck,
  service: Docker.Container,
  namespace: Namespace,
  signal: AbortSignal,
): Promise<string | undefined> {
  let last = "it gave no answer";
  while (!signal.aborted) {
    const answer = await ask(check, service, namespace).catch((error: unknown) => String(error));
    if (answer === undefined) return undefined;
    last = answer;
    await sleep(EVERY_MS, signal).catch(() => undefined);
  }
  return last;
}

async function ask(check: ReadyCheck, service: Docker.Container, namespace: Namespace): Promise<string | undefined> {
  if (check.kind === "none") return undefined;
  if (check.kind === "ports") {
    const listening = await listeningPorts(namespace);
    return check.ports.some((port) => listening.has(port))
      ? undefined
      : `nothing listens on port ${check.ports.join(" or ")}`;
  }
  const { exitCode, output } = await execute(service, check.argv);
  return exitCode === 0 ? undefined : (output.trim().split("\n").at(-1) ?? `its query exited with ${exitCode}`);
}

/** TCP ports on which something listens in a network namespace, on any address: from the kernel's own table, so no tool and no connection is needed. */
async function listeningPorts(namespace: Namespace): Promise<Set<number>> {
  const tables = await readTables(namespace).catch(async () => {
    // The engine runs on another machine, or its processes are hidden from us.
    const { output } = await execute(namespace.container, ["cat", "/proc/net/tcp", "/proc/net/tcp6"]);
    return output;
  });
  return parseListening(tables);
}

async function readTables({ container, pid }: Namespace): Promise<string> {
  // The number may belong to any process when the engine is not on this machine.
  if (!(await readFile(`/proc/${pid}/cgroup`, "utf8")).includes(container.id)) throw new Error("not our process");
  const files = await Promise.all(["tcp", "tcp6"].map((table) => readFile(`/proc/${pid}/net/${table}`, "utf8")));
  return files.join("\n");
}

/** Lines such as `0: 0100007F:0CEA 00000000:0000 0A …`: state 0A is LISTEN (proc(5), /proc/net/tcp). */
export function parseListening(tables: string): Set<number> {
  const matches = tables.matchAll(/^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:0000 0A /gm);
  return new Set([...matches].map((match) => Number.parseInt(match[1] ?? "0", 16)));
}

/** Runs a command in a running container. */
async function execute(container: Docker.Container, argv: string[]): Promise<{ exitCode: number; output: string }> {
  const exec = await container.exec({ Cmd: argv, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: false, stdin: false });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const { ExitCode } = await exec.inspect();
  return { exitCode: ExitCode ?? -1, output: withoutFrames(Buffer.concat(chunks)) };
}

function withoutFrames(multiplexed: Buffer): string {
  let text = "";
  for (let at = 0; at + 8 <= multiplexed.length; ) {
    const length = multiplexed.readUInt32BE(at + 4);
    text += multiplexed.toString("utf8", at + 8, at + 8 + length);
    at += 8 + length;
  }
  return text;
}
