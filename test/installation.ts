import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { fetchPage, startTraffic, type Traffic } from "../src/cli/demo-traffic.ts";
import { removeInstance } from "../src/cli/remove-instance.ts";
import type { Deployment } from "../src/http/schemas.ts";
import { findFreePort } from "../src/shared/free-port.ts";
import { until } from "../src/shared/until.ts";

const MAIN = fileURLToPath(new URL("../dist/main.js", import.meta.url));
const DOCKER_SOCKET = "/var/run/docker.sock";

export type Ran = { code: number | null; stdout: string; stderr: string };

/** A Shipway of its own (data directory, ports, names in Docker), driven as a user drives it: by its commands and by git. */
export type Installation = {
  dir: string;
  apiUrl: string;
  httpPort: number;
  docker: Docker;
  /** `shipway ARGS` in `cwd`. */
  shipway(args: string[], cwd?: string, more?: { stdin?: string; env?: Record<string, string> }): Promise<Ran>;
  git(args: string[], cwd: string): Promise<Ran>;
  /** Its own environment, for a program that a test starts by itself. */
  env: NodeJS.ProcessEnv;
  api<T>(path: string, options?: { method?: string; body?: unknown }): Promise<T>;
  /** A checkout of a new app with these files, committed on main, its remote `shipway` set. */
  newApp(name: string, files: Record<string, string>): Promise<string>;
  /** Writes files and commits them. */
  commit(checkout: string, files: Record<string, string>, message: string): Promise<void>;
  /** `git push shipway main`, its `remote:` lines in `stderr`. */
  push(checkout: string, ...args: string[]): Promise<Ran>;
  page(host: string): Promise<{ status: number; body: string }>;
  traffic(host: string): Traffic;
  deployments(app: string): Promise<Deployment[]>;
  /** Names of containers of this installation, without the router's. */
  containers(filter?: Record<string, string>): Promise<string[]>;
  /** Everything it has in Docker: containers with their state, networks, volumes. */
  things(): Promise<string[]>;
  kill(signal: "SIGKILL" | "SIGINT"): Promise<void>;
  start(): Promise<void>;
  /** What the control plane printed. */
  output(): string;
  /** Ends it and removes everything it made. */
  remove(): Promise<void>;
};

export async function newInstallation(
  /** `up`: what `shipway up` is given beside its own directory and ports. */
  options: { dockerSocket?: string; env?: Record<string, string>; up?: string[] } = {},
): Promise<Installation> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-e2e-"));
  await chmod(dir, 0o711);
  const [port, httpPort] = [await findFreePort(), await findFreePort()];
  const docker = new Docker({ socketPath: DOCKER_SOCKET });
  const apiUrl = `http://127.0.0.1:${port}`;
  const credentials = join(dir, "config", "shipway", "credentials.json");
  await writeFile(
    join(dir, "gitconfig"),
    "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n",
  );
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    XDG_CONFIG_HOME: join(dir, "config"),
    GIT_CONFIG_GLOBAL: join(dir, "gitconfig"),
    GIT_TERMINAL_PROMPT: "0",
    DOCKER_HOST: `unix://${options.dockerSocket ?? DOCKER_SOCKET}`,
    SHIPWAY_LOG: "warn",
    ...options.env,
  };
  let server: ChildProcess | undefined;
  let output = "";
  let instance: string | undefined;

  const shipway = (args: string[], cwd = dir, more: { stdin?: string; env?: Record<string, string> } = {}) =>
    runToEnd(process.execPath, [MAIN, ...args], { cwd, env: { ...env, ...more.env }, stdin: more.stdin ?? "" });
  const git = (args: string[], cwd: string) => runToEnd("git", args, { cwd, env, stdin: "" });

  async function api<T>(path: string, { method = "GET", body }: { method?: string; body?: unknown } = {}): Promise<T> {
    const { servers } = JSON.parse(await readFile(credentials, "utf8")) as {
      servers: Record<string, { token: string }>;
    };
    const response = await fetch(`${apiUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${servers[apiUrl]?.token ?? ""}`,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} → ${response.status} ${text}`);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }

  async function start(): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        MAIN,
        "up",
        "--data",
        join(dir, "data"),
        "--port",
        String(port),
        "--http-port",
        String(httpPort),
        ...(options.up ?? []),
      ],
      {
        env,
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    server = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    const from = output.length;
    await until(
      "Shipway being up",
      () => {
        if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${output.slice(from)}`);
        return output.slice(from).includes("Shipway is up");
      },
      { withinMs: 60_000 },
    );
    instance ??= (await api<{ instance: string }>("/api/status")).instance;
  }

  async function kill(signal: "SIGKILL" | "SIGINT"): Promise<void> {
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const gone = once(server, "exit");
    server.kill(signal);
    await gone;
  }

  async function commit(checkout: string, files: Record<string, string>, message: string): Promise<void> {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(checkout, path)), { recursive: true });
      await writeFile(join(checkout, path), text);
    }
    await git(["add", "--all"], checkout);
    await git(["commit", "--quiet", "--message", message], checkout);
  }

  return {
    dir,
    apiUrl,
    httpPort,
    docker,
    env,
    shipway,
    git,
    api,
    start,
    kill,
    commit,
    output: () => output,
    async newApp(name, files) {
      const checkout = join(dir, name);
      await mkdir(checkout);
      await git(["init", "--quiet"], checkout);
      await commit(checkout, files, "first");
      const created = await shipway(["app", "create", name], checkout);
      if (created.code !== 0) throw new Error(created.stderr);
      return checkout;
    },
    push: (checkout, ...args) => git(["push", ...args, "shipway", "main"], checkout),
    page: (host) => fetchPage({ port: httpPort, host }),
    traffic: (host) => startTraffic({ port: httpPort, host }),
    deployments: (app) => api<Deployment[]>(`/api/apps/${app}/deployments`),
    async containers(filter = {}) {
      const labels = Object.entries({ "shipway.instance": instance ?? "", ...filter }).map(
        ([name, value]) => `${name}=${value}`,
      );
      const found = await docker.listContainers({ all: true, filters: { label: labels } });
      return found
        .filter(({ Labels }) => Labels["shipway.role"] !== "router")
        .map(({ Names }) => Names[0]?.slice(1) ?? "")
        .sort();
    },
    async things() {
      const filters = { label: [`shipway.instance=${instance ?? ""}`] };
      const [containers, networks, { Volumes }] = await Promise.all([
        docker.listContainers({ all: true, filters }),
        docker.listNetworks({ filters }),
        docker.listVolumes({ filters }),
      ]);
      return [
        ...containers.map(({ Names, State }) => `container ${Names[0]?.slice(1)} ${State}`),
        ...networks.map(({ Name }) => `network ${Name}`),
        ...(Volumes ?? []).map(({ Name }) => `volume ${Name}`),
      ].sort();
    },
    async remove() {
      await kill("SIGINT");
      // Started again it would adopt its Postgres: after a kill it has to be ended by hand.
      await stopPostgres(join(dir, "data", "postgres", "data"));
      if (instance !== undefined) await removeInstance(docker, instance);
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function stopPostgres(dataDir: string): Promise<void> {
  const pid = Number((await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(() => "")).split("\n")[0]);
  if (!pid) return;
  process.kill(pid, "SIGINT");
  await until("Postgres ending", () => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  });
}

async function runToEnd(
  program: string,
  args: string[],
  { stdin, ...options }: { cwd: string; env: NodeJS.ProcessEnv; stdin: string },
): Promise<Ran> {
  const child = spawn(program, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
  // A program that does not read its input may have ended before it was written.
  child.stdin.on("error", () => undefined);
  child.stdin.end(stdin);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** A port that nobody listened on a moment ago. */
