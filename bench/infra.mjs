import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import Docker from "dockerode";
import { newInstallation, run } from "./installation.mjs";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "12" },
    environments: { type: "string", default: "50" },
    json: { type: "boolean", default: false },
  },
});
const say = (text) => process.stderr.write(`${text}\n`);
const APP = "bench";
const RESOURCES = 10;
const BARE_ENV = { PATH: process.env.PATH, CHECKPOINT_DISABLE: "1", TF_IN_AUTOMATION: "1", TF_INPUT: "0" };

/** Each round changes every resource, so that there is something to plan and to apply. */
const mainTf = (text) =>
  Array.from({ length: RESOURCES }, (_, n) => `resource "terraform_data" "r${n}" { input = "${text} ${n}" }\n`).join(
    "",
  );
const environmentOf = (n) => `e${String(n).padStart(2, "0")}`;
const filesOf = (environments, text) => ({
  "shipway.yml": JSON.stringify({
    app: APP,
    services: { web: { image: "alpine:3", port: 80 } },
    environments: Object.fromEntries(
      ["main", ...Array.from({ length: environments }, (_, n) => environmentOf(n))].map((name) => [
        name,
        { branch: "none", infra: { dir: "infra", drift: "off" } },
      ]),
    ),
  }),
  "infra/main.tf": mainTf(text),
});

/** Both sides of each comparison in turn, so that a load from elsewhere meets both. */
async function main() {
  const docker = new Docker();
  const environments = Number(options.environments);
  const loadBefore = loadavg();
  const bareDir = await mkdtemp(join(tmpdir(), "shipway-bench-tf-"));
  const shipway = await newInstallation(docker);
  try {
    await shipway.up();
    const checkout = await shipway.newApp(APP, filesOf(environments, "first"));
    await push(shipway, checkout);
    const rounds = await measureShare(shipway, checkout, bareDir, environments);
    const warmth = await measureWarmth(shipway, checkout, environments);
    const drift = await measureDrift(shipway, environments);
    report({ loadBefore, loadAfter: loadavg(), rounds, warmth, drift });
  } finally {
    await rm(bareDir, { recursive: true, force: true });
    await shipway.remove();
  }
}

/** No branch deploys: what is measured are runs that are asked for. */
const push = (shipway, checkout) => shipway.push(checkout);

async function measureShare(shipway, checkout, bareDir, environments) {
  const rounds = [];
  // The first of each side finds cold caches, as nobody does twice.
  for (let round = 0; round <= Number(options.rounds); round++) {
    const text = `round ${round}`;
    await shipway.commit(checkout, filesOf(environments, text), text);
    await push(shipway, checkout);
    const sides = [() => bare(bareDir, text), () => apply(shipway, "main")];
    const first = round % 2;
    const [a, b] = [await sides[first](), await sides[1 - first]()];
    const [bareMs, { ms: shipwayMs, timings }] = first === 0 ? [a, b] : [b, a];
    if (round === 0) continue;
    rounds.push({ bareMs, shipwayMs, shareMs: shipwayMs - bareMs, timings });
    say(`round ${round}: bare ${fixed(bareMs)}, Shipway ${fixed(shipwayMs)} (${JSON.stringify(timings)})`);
  }
  return rounds;
}

/** What somebody types: a fresh checkout, and the state that is kept from the last time. */
async function bare(dir, text) {
  const code = join(dir, "code");
  await rm(code, { recursive: true, force: true });
  await mkdir(code);
  await writeFile(join(code, "main.tf"), mainTf(text));
  await writeFile(join(code, "backend.tf"), `terraform {\n  backend "local" { path = "${join(dir, "state")}" }\n}\n`);
  const terraform = (...args) => run("terraform", args, { cwd: code, env: { ...BARE_ENV, HOME: dir } });
  const startedAt = performance.now();
  await terraform("init", "-input=false");
  await terraform("plan", "-input=false", "-out=plan.tfplan");
  await terraform("apply", "-input=false", "plan.tfplan");
  return performance.now() - startedAt;
}

const start = (shipway, environment, body) =>
  shipway.api(`/api/apps/${APP}/environments/${environment}/infra/runs`, { method: "POST", body });

/** From the request to the record that it has ended. */
async function apply(shipway, environment, body = { kind: "apply" }) {
  const startedAt = performance.now();
  const { runId } = await start(shipway, environment, body);
  const ended = await ending(shipway, runId);
  return { ms: performance.now() - startedAt, timings: ended.timings, run: ended };
}

async function ending(shipway, runId) {
  for (;;) {
    const found = await shipway.api(`/api/infra/runs/${runId}`);
    if (found.endedAt !== null && found.status !== "succeeded") throw new Error(`${runId}: ${JSON.stringify(found)}`);
    if (found.endedAt !== null) return found;
    await sleep(5);
  }
}

/** A plan whose folder is initialised, and one for which it has to be, in turn: another provider's prefix is enough to initialise anew. */
async function measureWarmth(shipway, checkout, environments) {
  const found = { cold: [], warm: [] };
  for (let round = 1; round <= 6; round++) {
    const text = `terraform {\n  required_version = ">= 1.${round % 5}"\n}\n`;
    await shipway.commit(checkout, { "infra/versions.tf": text }, `versions ${round}`);
    await push(shipway, checkout);
    for (const kind of ["cold", "warm"]) {
      const { timings } = await apply(shipway, "main", { kind: "plan" });
      if ((timings.warm === 1) !== (kind === "warm"))
        throw new Error(`it was to be ${kind}: ${JSON.stringify(timings)}`);
      found[kind].push(timings.openMs);
    }
  }
  await shipway.commit(checkout, filesOf(environments, "warm"), "Warm");
  return { coldMs: median(found.cold), warmMs: median(found.warm) };
}

/** Checks asked for all at once, and an apply in the midst of them. */
async function measureDrift(shipway, environments) {
  const names = Array.from({ length: environments }, (_, n) => environmentOf(n));
  for (const name of names) await apply(shipway, name);
  const aloneMs = median([...(await several(3, () => apply(shipway, "main")))].map(({ ms }) => ms));
  const growth = [];
  let beside;
  for (const count of [1, 10, environments].filter((one) => one <= environments)) {
    const startedAt = performance.now();
    const asked = await Promise.all(names.slice(0, count).map((name) => start(shipway, name, { kind: "drift" })));
    if (count === environments) {
      const { ms, run: one } = await apply(shipway, "main");
      beside = { ms, startedAfterMs: Date.parse(one.startedAt) - Date.parse(one.createdAt) };
    }
    await Promise.all(asked.map(({ runId }) => ending(shipway, runId)));
    const totalMs = performance.now() - startedAt;
    growth.push({ count, totalMs, eachMs: totalMs / count });
    say(`${count} checks: ${fixed(totalMs)}, ${fixed(totalMs / count)} each`);
  }
  return { growth, aloneMs, beside };
}

async function several(count, work) {
  const results = [];
  for (let n = 0; n < count; n++) results.push(await work());
  return results;
}

function report({ loadBefore, loadAfter, rounds, warmth, drift }) {
  const of = (name) => median(rounds.map((round) => round[name]));
  const summary = {
    loadBefore: loadBefore[0],
    loadAfter: loadAfter[0],
    bareMs: of("bareMs"),
    shipwayMs: of("shipwayMs"),
    shareMs: of("shareMs"),
    ratio: median(rounds.map(({ bareMs, shipwayMs }) => shipwayMs / bareMs)),
    ...warmth,
    drift,
  };
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ ...summary, rounds }, null, 2)}\n`);
    return;
  }
  const { growth, aloneMs, beside } = drift;
  const lines = [
    `load average ${summary.loadBefore.toFixed(1)} before, ${summary.loadAfter.toFixed(1)} after; ${rounds.length} rounds, ${RESOURCES} resources`,
    `terraform init, plan, apply   ${fixed(summary.bareMs)}`,
    `the same through Shipway      ${fixed(summary.shipwayMs)}  (${summary.ratio.toFixed(2)} ×)`,
    `Shipway's own share           ${fixed(summary.shareMs)}  (median of each round's own difference)`,
    `opening a run, initialised    ${fixed(warmth.warmMs)}  (to be initialised: ${fixed(warmth.coldMs)})`,
    ...growth.map(
      ({ count, totalMs, eachMs }) =>
        `${String(count).padStart(3)} drift checks at once     ${fixed(totalMs)}  (${fixed(eachMs)} each)`,
    ),
    `an apply beside the last      ${fixed(beside.ms)}, begun after ${fixed(beside.startedAfterMs)}  (alone ${fixed(aloneMs)})`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const fixed = (value) => `${Math.round(value)} ms`;

await main();
