import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { fail } from "../shared/errors.ts";
import { findFreePort } from "../shared/free-port.ts";
import { until } from "../shared/until.ts";
import { readCredentials } from "./credentials.ts";
import { removeInstance } from "./remove-instance.ts";
import type { Terminal } from "./terminal.ts";

export type DemoDeps = Terminal & {
  /** Where the project lies, with `examples/launches` in it. */
  projectDir: string;
  selfCommand: string[];
  dockerSocket: string;
  /** What the demo's own processes get: PATH, HOME and the like. */
  environment: NodeJS.ProcessEnv;
};

/** A place of the demo's own: data directory, ports, credentials, and a server once it is started. */
export type Workshop = {
  deps: DemoDeps;
  dir: string;
  checkout: string;
  port: number;
  httpPort: number;
  env: NodeJS.ProcessEnv;
  server: ChildProcess | undefined;
};

export async function openWorkshop(deps: DemoDeps, app: string): Promise<Workshop> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-demo-"));
  await chmod(dir, 0o711);
  const [port, httpPort] = [await findFreePort(), await findFreePort()];
  const [node = "", main = ""] = deps.selfCommand;
  const env = {
    ...(await launcherPath(dir, deps.environment, node, main)),
    XDG_CONFIG_HOME: join(dir, "config"),
    GIT_CONFIG_GLOBAL: join(dir, "gitconfig"),
    GIT_TERMINAL_PROMPT: "0",
  };
  await writeFile(
    join(dir, "gitconfig"),
    "[user]\n\tname = Demo\n\temail = demo@example.com\n[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n",
  );
  return { deps, dir, checkout: join(dir, app), port, httpPort, env, server: undefined };
}

/** The commands the demo shows are run as shown, so `shipway` has to be on the PATH. */
async function launcherPath(
  dir: string,
  environment: NodeJS.ProcessEnv,
  node: string,
  main: string,
): Promise<NodeJS.ProcessEnv> {
  const launcher = join(dir, "bin", "shipway");
  await mkdir(join(dir, "bin"), { recursive: true });
  await writeFile(launcher, `#!/bin/sh\nexec '${node}' '${main}' "$@"\n`, { mode: 0o755 });
  return { ...environment, PATH: `${join(dir, "bin")}:${environment.PATH ?? ""}` };
}

/** @param settings variables of the server that are shown with its command */
export async function startServer(workshop: Workshop, settings: Record<string, string>): Promise<void> {
  const { deps, dir, port, httpPort, env } = workshop;
  const [node = "", main = ""] = deps.selfCommand;
  const flags = ["--data", join(dir, "data"), "--port", String(port), "--http-port", String(httpPort)];
  const shown = Object.entries(settings).map(([name, value]) => `${name}=${value} `);
  deps.err(`$ ${shown.join("")}shipway up ${flags.join(" ")}\n`);
  const server = spawn(node, [main, "up", ...flags], {
    env: { ...env, ...settings },
    stdio: ["ignore", "ignore", "pipe"],
    // Ctrl-C is the demo's to handle: it stops the server last.
    detached: true,
  });
  workshop.server = server;
  const talk: string[] = [];
  let quiet = false;
  server.stderr.on("data", (chunk: Buffer) => {
    talk.push(chunk.toString());
    if (!quiet) deps.err(chunk.toString().replace(/shw_[\w-]+/g, "shw_…"));
  });
  const ready = async () =>
    (await fetch(`http://127.0.0.1:${port}/api/ready`)).ok && (await credentialsOf(workshop)).default !== undefined;
  await Promise.race([
    until("Shipway answering", ready, { withinMs: 60_000, everyMs: 100, signal: deps.interrupted }),
    once(server, "exit").then(() => {
      throw fail("API_UNREACHABLE", {
        message: `Shipway did not start:\n${talk.join("").trim()}`,
        hint: "`shipway doctor` looks for what is missing.",
      });
    }),
  ]);
  quiet = true;
}

export function sayCommand({ deps }: Workshop, argv: string[]): void {
  deps.err(`$ ${argv.map((word) => (word.includes(" ") ? JSON.stringify(word) : word)).join(" ")}\n`);
}

/** Runs a command as a user would, with its output shown as it comes. What it reads is not shown. */
export async function show(
  workshop: Workshop,
  argv: [string, ...string[]],
  { code: expected = 0, input }: { code?: number; input?: string } = {},
): Promise<void> {
  const { deps, checkout, env } = workshop;
  sayCommand(workshop, argv);
  const [program, ...args] = argv;
  const child = spawn(program, args, {
    cwd: checkout,
    env,
    stdio: [input === undefined ? "ignore" : "pipe", "inherit", "inherit"],
    signal: deps.interrupted,
  });
  child.stdin?.end(input);
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== expected)
    throw fail("API_UNREACHABLE", {
      message: `\`${argv.join(" ")}\` ended with ${code}.`,
      hint: "The lines above say why.",
    });
}

export const dockerOf = ({ deps }: Workshop) => new Docker({ socketPath: deps.dockerSocket });

export async function instanceOf(workshop: Workshop): Promise<string> {
  const credentials = await credentialsOf(workshop);
  const token = credentials.servers[credentials.default ?? ""]?.token ?? "";
  const response = await fetch(`http://127.0.0.1:${workshop.port}/api/status`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const { instance } = (await response.json()) as { instance?: unknown };
  if (typeof instance !== "string") throw new Error("the status names no instance");
  return instance;
}

const credentialsOf = ({ dir }: Workshop) => readCredentials(join(dir, "config", "shipway", "credentials.json"));

/** Stops the server and removes everything that was made. */
export async function closeWorkshop(workshop: Workshop): Promise<void> {
  const { server, dir } = workshop;
  const instance = server && (await instanceOf(workshop).catch(() => undefined));
  if (server !== undefined) {
    const gone = server.exitCode === null ? once(server, "exit") : Promise.resolve();
    server.kill("SIGINT");
    await gone;
  }
  if (instance !== undefined) await removeInstance(dockerOf(workshop), instance);
  await rm(dir, { recursive: true, force: true, maxRetries: 5 });
}
