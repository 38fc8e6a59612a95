import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import { findFreePort } from "../shared/free-port.ts";
import { runProgram } from "../shared/run-program.ts";
import { until } from "../shared/until.ts";
import type { DemoOptions, ExitCode } from "./context.ts";
import { readCredentials } from "./credentials.ts";
import { declareInfra, findTerraform, removeCacheByHand } from "./demo-infra.ts";
import { fetchPage, startTraffic, type Traffic, type TrafficCounts } from "./demo-traffic.ts";
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

const APP = "launches";
const HOST = `frontend.production.${APP}.localhost`;
/** The line of the sample product that the second push changes, so that it can be seen. */
const THEME_FILE = "frontend/theme.js";

type Demo = {
  deps: DemoDeps;
  /** Its version; undefined where infrastructure as code cannot be shown. */
  terraform: string | undefined;
  dir: string;
  checkout: string;
  port: number;
  httpPort: number;
  env: NodeJS.ProcessEnv;
  server: ChildProcess;
};
type Stage = { name: string; durationMs: number; requests?: number; failed?: number };

/**
 * The whole promise on real parts, in a place of its own (data directory, ports, containers): a first push, a visible second
 * one, a rollback, and something changed by hand, with requests flowing all the while. With `once` everything is removed at the end.
 */
export async function runDemo(options: DemoOptions, deps: DemoDeps): Promise<ExitCode> {
  const say = (text: string) => deps.err(`${text}\n`);
  const stages: Stage[] = [];
  const demo = await prepare(deps);
  const total = demo.terraform === undefined ? 5 : 6;
  let traffic: Traffic | undefined;
  const run = async (name: string, work: () => Promise<void>): Promise<void> => {
    say(`\n── ${stages.length + 1}/${total}  ${name} ${"─".repeat(Math.max(0, 70 - name.length))}`);
    const before = traffic?.counts();
    const startedAt = deps.now();
    await work();
    const after = traffic?.counts();
    const counted =
      before && after ? { requests: after.total - before.total, failed: after.failed - before.failed } : {};
    stages.push({ name, durationMs: deps.now() - startedAt, ...counted });
  };
  try {
    await run("Start Shipway", () => startServer(demo));
    await run("First push: tests, images, release, live", async () => {
      await makeCheckout(demo);
      await show(demo, ["shipway", "app", "create", APP]);
      await show(demo, ["git", "push", "shipway", "main"]);
      await expectPage(demo, (page) => page.length > 0, "the first release");
    });
    traffic = startTraffic({ port: demo.httpPort, host: HOST });
    await run("A visible change, second push", async () => {
      const headline = await changeHeadline(demo);
      await show(demo, ["git", "commit", "--quiet", "--all", "--message", "Change the headline"]);
      await show(demo, ["git", "push", "shipway", "main"]);
      await expectPage(demo, (page) => page.includes(headline), "the second release");
    });
    await run("Rollback", async () => {
      await show(demo, ["shipway", "rollback"]);
      await expectPage(demo, (page) => !page.includes(NEW_HEADLINE), "the first release again");
    });
    if (demo.terraform !== undefined)
      await run("Changed by hand: seen, and put back", async () => {
        deps.err(`$ ${await removeCacheByHand(dockerOf(demo), APP, await instanceOf(demo))}\n`);
        await show(demo, ["shipway", "infra", "drift", "--now"], 1);
        await show(demo, ["shipway", "infra", "drift", "--revert"]);
        await show(demo, ["shipway", "infra", "drift", "--now"]);
      });
    await run("What happened", () => show(demo, ["shipway", "releases"]));
    const counts = await traffic.stop();
    summarise(say, demo, stages, counts);
    if (counts.failed > 0) return 1;
    if (options.once) return 0;
    say(
      `\nIt is yours to explore:  http://${HOST}:${demo.httpPort}\nThe checkout is in ${demo.checkout}. Ctrl-C ends the demo and removes everything.`,
    );
    if (!deps.interrupted.aborted) await once(deps.interrupted, "abort");
    return 0;
  } catch (error) {
    if (deps.interrupted.aborted) return 130;
    throw error;
  } finally {
    await traffic?.stop();
    say("\nRemoving what the demo made …");
    await cleanUp(demo);
  }
}

async function prepare(deps: DemoDeps): Promise<Demo> {
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
  const server = spawn(
    node,
    [main, "up", "--data", join(dir, "data"), "--port", String(port), "--http-port", String(httpPort)],
    {
      env,
      stdio: ["ignore", "ignore", "pipe"],
      // Ctrl-C is the demo's to handle: it stops the server last.
      detached: true,
    },
  );
  const terraform = await findTerraform(deps.environment.SHIPWAY_TERRAFORM ?? "terraform");
  return { deps, terraform, dir, checkout: join(dir, APP), port, httpPort, env, server };
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

async function startServer(demo: Demo): Promise<void> {
  const { deps, server } = demo;
  deps.err(`$ shipway up --data ${join(demo.dir, "data")} --port ${demo.port} --http-port ${demo.httpPort}\n`);
  const talk: string[] = [];
  let quiet = false;
  server.stderr?.on("data", (chunk: Buffer) => {
    talk.push(chunk.toString());
    if (!quiet) deps.err(chunk.toString().replace(/shw_[\w-]+/g, "shw_…"));
  });
  const ready = async () =>
    (await fetch(`http://127.0.0.1:${demo.port}/api/ready`)).ok &&
    (await readCredentials(join(demo.dir, "config", "shipway", "credentials.json"))).default !== undefined;
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

async function makeCheckout(demo: Demo): Promise<void> {
  const skip = /(^|\/)node_modules(\/|$)/;
  await cp(join(demo.deps.projectDir, "examples", APP), demo.checkout, {
    recursive: true,
    filter: (path) => !skip.test(path.slice(demo.deps.projectDir.length)),
  });
  if (demo.terraform === undefined) {
    demo.deps.err(
      "No Terraform here: database and cache come from `backing:` in shipway.yml. With it, the demo shows drift, too.\n",
    );
  } else {
    const example = join(demo.deps.projectDir, "examples", "launches-infra");
    demo.deps.err(`${await declareInfra(example, demo.checkout, APP)} (Terraform ${demo.terraform})\n`);
  }
  for (const args of [
    ["init", "--quiet"],
    ["add", "--all"],
    ["commit", "--quiet", "--message", "The raffle site"],
  ]) {
    await runProgram(["git", ...args], { cwd: demo.checkout, env: demo.env });
  }
}

/** What the shop says first, before and after. */
const OLD_HEADLINE = "Made once.";
const NEW_HEADLINE = "Made for you.";

async function changeHeadline(demo: Demo): Promise<string> {
  const file = join(demo.checkout, THEME_FILE);
  const before = await readFile(file, "utf8");
  const after = before.replace(OLD_HEADLINE, NEW_HEADLINE);
  if (after === before) throw new Error(`${THEME_FILE} has no headline to change`);
  await writeFile(file, after);
  demo.deps.err(`$ sed -i "s/${OLD_HEADLINE}/${NEW_HEADLINE}/" ${THEME_FILE}
`);
  return NEW_HEADLINE;
}

/** Runs a command as a user would, with its output shown as it comes. */
async function show(demo: Demo, argv: [string, ...string[]], expected = 0): Promise<void> {
  const { deps } = demo;
  deps.err(`$ ${argv.map((word) => (word.includes(" ") ? JSON.stringify(word) : word)).join(" ")}\n`);
  const [program, ...args] = argv;
  const child = spawn(program, args, {
    cwd: demo.checkout,
    env: demo.env,
    stdio: ["ignore", "inherit", "inherit"],
    signal: deps.interrupted,
  });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== expected)
    throw fail("API_UNREACHABLE", {
      message: `\`${argv.join(" ")}\` ended with ${code}.`,
      hint: "The lines above say why.",
    });
}

/** A push succeeds once it is stored; what is live is asked of the live address. */
async function expectPage(demo: Demo, isRight: (page: string) => boolean, what: string): Promise<void> {
  const page = await fetchPage({ port: demo.httpPort, host: HOST });
  if (page.status === 200 && isRight(page.body)) return;
  throw fail("API_UNREACHABLE", {
    message: `http://${HOST}:${demo.httpPort} answered ${page.status} and does not show ${what}.`,
    hint: "The lines above say where it stopped.",
  });
}

function summarise(say: (text: string) => void, demo: Demo, stages: Stage[], counts: TrafficCounts): void {
  say("\nThe demo in short");
  for (const { name, durationMs, requests, failed } of stages.slice(0, -1)) {
    const flowing = requests === undefined ? "" : `  ${requests} requests meanwhile, ${failed} failed`;
    say(`  ✓ ${name.padEnd(44)} ${formatDurationMs(durationMs).padStart(9)}${flowing}`);
  }
  const reasons = Object.entries(counts.reasons).map(([reason, times]) => `${times} × ${reason}`);
  const why = reasons.length === 0 ? "" : ` (${reasons.join(", ")})`;
  say(`  ${counts.total} requests in all, ${counts.failed} failed${why}.   http://${HOST}:${demo.httpPort}`);
}

async function cleanUp(demo: Demo): Promise<void> {
  const gone = demo.server.exitCode === null ? once(demo.server, "exit") : Promise.resolve();
  const instance = await instanceOf(demo).catch(() => undefined);
  demo.server.kill("SIGINT");
  await gone;
  if (instance !== undefined) await removeInstance(dockerOf(demo), instance);
  await rm(demo.dir, { recursive: true, force: true, maxRetries: 5 });
}

const dockerOf = ({ deps }: Demo) => new Docker({ socketPath: deps.dockerSocket });

async function instanceOf(demo: Demo): Promise<string> {
  const credentials = await readCredentials(join(demo.dir, "config", "shipway", "credentials.json"));
  const token = credentials.servers[credentials.default ?? ""]?.token ?? "";
  const response = await fetch(`http://127.0.0.1:${demo.port}/api/status`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const { instance } = (await response.json()) as { instance?: unknown };
  if (typeof instance !== "string") throw new Error("the status names no instance");
  return instance;
}
