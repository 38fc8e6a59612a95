import { once } from "node:events";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatDurationMs } from "../shared/duration.ts";
import { fail } from "../shared/errors.ts";
import { runProgram } from "../shared/run-program.ts";
import type { DemoOptions, ExitCode } from "./context.ts";
import { dockerScene } from "./demo-docker.ts";
import { ecsScene } from "./demo-ecs.ts";
import type { Scene } from "./demo-scene.ts";
import { fetchPage, startTraffic, type Traffic, type TrafficCounts } from "./demo-traffic.ts";
import {
  closeWorkshop,
  type DemoDeps,
  openWorkshop,
  sayCommand,
  show,
  startServer,
  type Workshop,
} from "./demo-workshop.ts";

const APP = "launches";
/** The line of the sample product that the second push changes, so that it can be seen. */
const THEME_FILE = "frontend/theme.js";
/** What the shop says first, before and after. */
const OLD_HEADLINE = "Made once.";
const NEW_HEADLINE = "Made for you.";

type Stage = { name: string; durationMs: number; requests?: number; failed?: number };
/** Runs one stage of the tour under its name, counting what flows meanwhile. */
type RunStage = (name: string, work: () => Promise<void>) => Promise<void>;

/**
 * The whole promise, in a place of its own (data directory, ports, containers): a first push, a visible second one, a rollback, and on
 * Docker something changed by hand, with requests flowing all the while. With `once` everything is removed at the end.
 */
export async function runDemo(options: DemoOptions, deps: DemoDeps): Promise<ExitCode> {
  const say = (text: string) => deps.err(`${text}\n`);
  const scene = options.runtime === "ecs" ? await ecsScene(deps, APP) : await dockerScene(deps, APP);
  for (const line of scene.intro) say(line);
  const workshop = await openWorkshop(deps, APP);
  const stages: Stage[] = [];
  let traffic: Traffic | undefined;
  const run: RunStage = async (name, work) => {
    const total = scene.byHand === undefined ? 5 : 6;
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
    await goLive(run, workshop, scene);
    traffic = startTraffic({ port: scene.port(workshop), host: scene.host });
    await changeAndReturn(run, workshop, scene);
    const counts = await traffic.stop();
    summarise(say, scene.outro(workshop), stages, counts);
    for (const line of scene.epilogue) say(line);
    if (counts.failed > 0) return 1;
    if (options.once) return 0;
    const explore = [`It is yours to explore:  ${scene.outro(workshop)}`, ...scene.explore()];
    say(
      `\n${explore.join("\n")}\nThe checkout is in ${workshop.checkout}. Ctrl-C ends the demo and removes everything.`,
    );
    if (!deps.interrupted.aborted) await once(deps.interrupted, "abort");
    return 0;
  } catch (error) {
    if (deps.interrupted.aborted) return 130;
    throw error;
  } finally {
    await traffic?.stop();
    say("\nRemoving what the demo made …");
    await closeWorkshop(workshop).finally(() => scene.close());
  }
}

async function goLive(run: RunStage, workshop: Workshop, scene: Scene): Promise<void> {
  await run(scene.names.start, async () => startServer(workshop, await scene.open(workshop)));
  await run(scene.names.firstPush, async () => {
    await makeCheckout(workshop, scene);
    await show(workshop, ["shipway", "app", "create", APP]);
    await scene.configure(workshop);
    await show(workshop, ["git", "push", "shipway", "main"]);
    await expectPage(workshop, scene, (page) => page.length > 0, "the first release");
  });
}

async function changeAndReturn(run: RunStage, workshop: Workshop, scene: Scene): Promise<void> {
  await run("A visible change, second push", async () => {
    await changeHeadline(workshop);
    await show(workshop, ["git", "commit", "--quiet", "--all", "--message", "Change the headline"]);
    await show(workshop, ["git", "push", "shipway", "main"]);
    await expectPage(workshop, scene, (page) => page.includes(NEW_HEADLINE), "the second release");
  });
  await run("Rollback", async () => {
    await show(workshop, ["shipway", "rollback"]);
    await expectPage(workshop, scene, (page) => !page.includes(NEW_HEADLINE), "the first release again");
  });
  const { byHand } = scene;
  if (byHand !== undefined) await run("Changed by hand: seen, and put back", () => byHand(workshop));
  await run("What happened", () => show(workshop, ["shipway", "releases"]));
}

async function makeCheckout(workshop: Workshop, scene: Scene): Promise<void> {
  const { deps, checkout, env } = workshop;
  const skip = /(^|\/)node_modules(\/|$)/;
  await cp(join(deps.projectDir, "examples", APP), checkout, {
    recursive: true,
    filter: (path) => !skip.test(path.slice(deps.projectDir.length)),
  });
  await scene.adapt(workshop);
  for (const args of [
    ["init", "--quiet"],
    ["add", "--all"],
    ["commit", "--quiet", "--message", "The raffle site"],
  ]) {
    await runProgram(["git", ...args], { cwd: checkout, env });
  }
}

async function changeHeadline(workshop: Workshop): Promise<void> {
  const file = join(workshop.checkout, THEME_FILE);
  const before = await readFile(file, "utf8");
  const after = before.replace(OLD_HEADLINE, NEW_HEADLINE);
  if (after === before) throw new Error(`${THEME_FILE} has no headline to change`);
  await writeFile(file, after);
  sayCommand(workshop, ["sed", "-i", `s/${OLD_HEADLINE}/${NEW_HEADLINE}/`, THEME_FILE]);
}

/** A push succeeds once it is stored; what is live is asked of the live address. */
async function expectPage(
  workshop: Workshop,
  scene: Scene,
  isRight: (page: string) => boolean,
  what: string,
): Promise<void> {
  const page = await fetchPage({ port: scene.port(workshop), host: scene.host });
  if (page.status === 200 && isRight(page.body)) return;
  throw fail("API_UNREACHABLE", {
    message: `http://${scene.host}:${scene.port(workshop)} answered ${page.status} and does not show ${what}.`,
    hint: "The lines above say where it stopped.",
  });
}

function summarise(say: (text: string) => void, address: string, stages: Stage[], counts: TrafficCounts): void {
  say("\nThe demo in short");
  const width = Math.max(44, ...stages.map(({ name }) => name.length));
  for (const { name, durationMs, requests, failed } of stages.slice(0, -1)) {
    const flowing = requests === undefined ? "" : `  ${requests} requests meanwhile, ${failed} failed`;
    say(`  ✓ ${name.padEnd(width)} ${formatDurationMs(durationMs).padStart(9)}${flowing}`);
  }
  const reasons = Object.entries(counts.reasons).map(([reason, times]) => `${times} × ${reason}`);
  const why = reasons.length === 0 ? "" : ` (${reasons.join(", ")})`;
  say(`  ${counts.total} requests in all, ${counts.failed} failed${why}.   ${address}`);
}
