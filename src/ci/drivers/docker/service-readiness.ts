import { readFile } from "node:fs/promises";
import type Docker from "dockerode";
import { sleep } from "../../../shared/until.ts";

/**
 * How a service tells that it can be used. `query`: a command in its own container that succeeds then, which says more than an open port (databases open
 * theirs, or a private one, while they still set themselves up). `ports`: one of the ports that its image declares listens. `none`: nothing is known.
 */
export type ReadyCheck =
  | { kind: "query"; argv: string[]; env: string[] }
  | { kind: "ports"; ports: number[] }
  | { kind: "none" };

/** The container whose network a step and its services share, and its main process on the engine's machine. */
export type Namespace = { container: Docker.Container; pid: number };

const EVERY_MS = 50;

/** The check for a service, from its image's name, its variables and the ports its image declares. */
export function readyCheckOf(image: string, variables: Record<string, string>, exposed: readonly number[]): ReadyCheck {
  const name = image.slice(image.lastIndexOf("/") + 1).split(/[:@]/)[0] ?? "";
  if (/^(mysql|mariadb|percona)/.test(name)) return mysqlCheck(variables);
  if (/^(postgres|postgis|timescaledb|pgvector)/.test(name)) return postgresCheck(variables);
  if (/^(redis|valkey)/.test(name)) {
    // An answer that asks for a password is an answer.
    return shellQuery(
      '"$(command -v redis-cli || command -v valkey-cli)" -h 127.0.0.1 ping | grep -E "PONG|NOAUTH"',
      [],
      [],
    );
  }
  return exposed.length > 0 ? { kind: "ports", ports: [...exposed] } : { kind: "none" };
}

/** Both as root and as the declared user on the declared database: the user is made last, after the server answers root. */
function mysqlCheck(variables: Record<string, string>): ReadyCheck {
  const of = (key: string) => variables[`MARIADB_${key}`] ?? variables[`MYSQL_${key}`];
  const client = '"$(command -v mariadb || command -v mysql)" --protocol=tcp -h127.0.0.1';
  const select = "-e 'select 1'";
  const [root, user, password, database] = ["ROOT_PASSWORD", "USER", "PASSWORD", "DATABASE"].map(of);
  const rootKnown =
    root !== undefined || of("ALLOW_EMPTY_PASSWORD") !== undefined || of("ALLOW_EMPTY_ROOT_PASSWORD") !== undefined;
  const asRoot = rootKnown ? `MYSQL_PWD="$ROOT_PASSWORD" ${client} -uroot ${select}` : ":";
  const asUser = user && user !== "root" ? `MYSQL_PWD="$USER_PASSWORD" ${client} -u"$1" ${select} "$2"` : ":";
  const asDatabase = user
    ? asUser
    : rootKnown && database
      ? `MYSQL_PWD="$ROOT_PASSWORD" ${client} -uroot ${select} "$2"`
      : ":";
  if (asRoot === ":" && asUser === ":") return { kind: "ports", ports: [3306] };
  const env = [`ROOT_PASSWORD=${root ?? ""}`, `USER_PASSWORD=${password ?? ""}`];
  return shellQuery(`${asRoot} && ${asDatabase}`, [user ?? "root", database ?? ""], env);
}

function postgresCheck(variables: Record<string, string>): ReadyCheck {
  const user = variables.POSTGRES_USER ?? "postgres";
  const env = [`PGPASSWORD=${variables.POSTGRES_PASSWORD ?? ""}`];
  return shellQuery('psql -h 127.0.0.1 -U "$1" -d "$2" -c \'select 1\'', [user, variables.POSTGRES_DB ?? user], env);
}

function shellQuery(script: string, args: string[], env: string[]): ReadyCheck {
  return { kind: "query", argv: ["/bin/sh", "-c", script, "sh", ...args], env };
}

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
  const { exitCode, output } = await execute(service, check.argv, check.env);
  return exitCode === 0 ? undefined : (output.trim().split("\n").at(-1) ?? `its query exited with ${exitCode}`);
}

/** TCP ports on which something listens in a network namespace, on any address: from the kernel's own table, so no tool and no connection is needed. */
async function listeningPorts(namespace: Namespace): Promise<Set<number>> {
  const tables = await readTables(namespace).catch(async () => {
    // The engine runs on another machine, or its processes are hidden from us.
    const { output } = await execute(namespace.container, ["cat", "/proc/net/tcp", "/proc/net/tcp6"], []);
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
async function execute(
  container: Docker.Container,
  argv: string[],
  env: string[],
): Promise<{ exitCode: number; output: string }> {
  const exec = await container.exec({ Cmd: argv, Env: env, AttachStdout: true, AttachStderr: true });
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
