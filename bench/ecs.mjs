import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { loadavg } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { newEcsDriver } from "../dist/rollout/drivers/ecs/ecs-target.js";
import { familyName, serviceName, targetGroupName } from "../dist/rollout/drivers/ecs/names.js";
import { taskDefinitionOf } from "../dist/rollout/drivers/ecs/rollout/task-definition.js";
import { newVisits } from "../dist/workflow/visits.js";
import { listenerArn, newWire, SERVICES_A_LISTENER } from "./ecs-wire.mjs";

/**
 * How often AWS is asked. Watching: the real driver and the visits of the reconcile loop, by a simulated clock over an in-process stand-in for the wire
 * (`ecs-wire.mjs`). Deploying: the real driver on moto with the scheduler of `test/aws`, at its own pace.
 */
const { values: options } = parseArgs({
  options: {
    services: { type: "string", default: "1,10,100,1000" },
    minutes: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
    /** One size, in a process of its own. */
    watch: { type: "string" },
  },
});
process.env.AWS_ACCESS_KEY_ID = "bench";
process.env.AWS_SECRET_ACCESS_KEY = "bench";
const say = (text) => process.stderr.write(`${text}\n`);
const INSTALL = "bench";
/** As the reconcile loop has them (src/workflow/reconcile-loop.ts). */
const LOOP = { everyMs: 15_000, steadyMs: 60_000, atOnce: 6, deadlineMs: 60_000 };
/** Calls a second that ECS allows an account in a Region for DescribeServices and ListServices together (Amazon ECS API reference, request throttling). */
const SERVICE_READS_A_SECOND = 20;

const names = {
  install: INSTALL,
  service: (place, slot) => serviceName(INSTALL, place, "web", slot),
  targetGroup: (place, slot) => targetGroupName(INSTALL, place, "web", slot),
  family: (place, release) => familyName(INSTALL, place, "web", release),
  definition(arn) {
    const [, app, environment] = arn.split("/").at(-1).split("_");
    const place = { app, environment };
    const release = releaseOf(place, 2);
    const input = {
      install: INSTALL,
      place,
      release: 2,
      service: release.services[0],
      settings: settingsOf(0),
      env: {},
    };
    const { tags, ...definition } = taskDefinitionOf(input);
    return { taskDefinition: { taskDefinitionArn: arn, status: "ACTIVE", ...definition }, tags };
  },
  host: ({ app, environment }) => `web.${environment}.${app}.example.com`,
};

if (options.watch !== undefined) {
  process.stdout.write(JSON.stringify(await watch(Number(options.watch), Number(options.minutes))));
} else {
  const load = loadavg()[0].toFixed(1);
  const watching = options.services.split(",").map((count) => {
    say(`watching ${count} services for ${options.minutes} simulated minutes`);
    const child = [
      "--expose-gc",
      "--no-warnings",
      import.meta.filename,
      "--watch",
      count,
      "--minutes",
      options.minutes,
    ];
    const { status, stdout, stderr } = spawnSync(process.execPath, child, { encoding: "utf8", maxBuffer: 1e9 });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  });
  const deploying = await deployAll([1, 5, 10]);
  if (options.json) process.stdout.write(`${JSON.stringify({ load, watching, deploying }, null, 2)}\n`);
  else print({ load, watching, deploying });
}

function print({ load, watching, deploying }) {
  const row = (cells) => process.stdout.write(`| ${cells.join(" | ")} |\n`);
  process.stdout.write(`load ${load}\n\nwatched, a steady minute (simulated clock, stand-in for the wire)\n`);
  row([
    "services",
    "calls",
    "DescribeServices",
    "ListServices",
    "DescribeRules",
    "of ECS's rate",
    "heap MiB",
    "RSS MiB",
  ]);
  row(Array.from({ length: 8 }, () => "---"));
  for (const { services, aMinute, share, heapMiB, rssMiB } of watching) {
    const of = (name) => (aMinute[name] ?? 0).toFixed(1);
    const all = Object.values(aMinute).reduce((sum, count) => sum + count, 0);
    row([
      services,
      all.toFixed(1),
      of("ecs:DescribeServices"),
      of("ecs:ListServices"),
      of("elasticloadbalancing:DescribeRules"),
      `${(share * 100).toFixed(1)} %`,
      heapMiB.toFixed(0),
      rssMiB.toFixed(0),
    ]);
  }
  process.stdout.write("\na deployment beside a release that serves (moto)\n");
  row(["web services", "calls", "writes", "reads", "looks until healthy"]);
  row(Array.from({ length: 5 }, () => "---"));
  for (const { services, calls, writes, looks } of deploying) row([services, calls, writes, calls - writes, looks]);
}

/** @returns calls a steady minute, after the first walk, and what the process holds then */
async function watch(count, minutes) {
  const places = Array.from({ length: count }, (_, index) => ({ app: `app-${index}`, environment: "production" }));
  const requestHandler = newWire(places, names);
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse("2026-11-26T00:00:00Z") });
  global.gc();
  const before = process.memoryUsage();
  let calls = new Map();
  const onCall = ({ service, command }) => {
    const name = `${service}:${command}`;
    calls.set(name, (calls.get(name) ?? 0) + 1);
  };
  const driver = newEcsDriver({ install: INSTALL, fingerprint: (text) => text, aws: { requestHandler, onCall } });
  const targets = new Map();
  const targetOf = async (index) => {
    const key = settingsOf(index).listener;
    const target = targets.get(key) ?? driver.open(settingsOf(index));
    targets.set(key, target);
    return await target;
  };
  const problems = [];
  const visits = newVisits({
    ...LOOP,
    onError: (key, error) => problems.push(`${key}: ${error.message}`),
    onLate: () => undefined,
    now: () => Date.now(),
  });
  const round = () =>
    visits.begin(
      places.map((place, index) => ({
        key: place.app,
        lane: "ecs",
        async make() {
          const target = await targetOf(index);
          const desired = { live: { release: releaseOf(place, 2), variables: {} }, inProgress: [] };
          problems.push(...(await target.reconcile(place, desired)));
          const drift = await target.findDrift(place, desired, { mayBeOldMs: LOOP.steadyMs });
          problems.push(...drift.map((one) => `${one.name} ${one.kind}`));
          return { againMs: LOOP.steadyMs };
        },
      })),
    );
  const passed = async (ms) => {
    for (let at = 0; at < ms; at += 50) {
      mock.timers.tick(50);
      // Everything that can go on goes on before the clock does.
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const WARM_MINUTES = 3;
  for (let tick = 0; tick < (minutes + WARM_MINUTES) * 4; tick++) {
    if (tick === WARM_MINUTES * 4) calls = new Map();
    void round();
    await passed(LOOP.everyMs);
  }
  if (problems.length > 0) throw new Error(`nothing differs, and yet: ${problems.slice(0, 5).join("; ")}`);
  global.gc();
  const after = process.memoryUsage();
  const aMinute = Object.fromEntries([...calls].map(([name, number]) => [name, number / minutes]));
  const reads = (aMinute["ecs:DescribeServices"] ?? 0) + (aMinute["ecs:ListServices"] ?? 0);
  return {
    services: count,
    aMinute,
    share: reads / 60 / SERVICE_READS_A_SECOND,
    heapMiB: (after.heapUsed - before.heapUsed) / 2 ** 20,
    rssMiB: after.rss / 2 ** 20,
  };
}

function settingsOf(index) {
  return {
    region: "eu-central-1",
    cluster: "bench",
    listener: listenerArn(Math.floor(index / SERVICES_A_LISTENER)),
    subnets: ["subnet-1"],
    securityGroups: ["sg-1"],
    executionRole: "arn:aws:iam::123456789012:role/bench",
    publicIp: false,
    scheme: "https",
    architecture: "x86_64",
    storageGiB: 20,
    logRetentionDays: 30,
    exec: false,
  };
}

function releaseOf({ app, environment }, number, count = 1) {
  const services = Array.from({ length: count }, (_, index) => {
    const name = index === 0 ? "web" : `web-${index}`;
    return {
      name,
      image: "shop:1",
      port: 3000,
      health: { interval: 5_000, timeout: 2_000, healthy: 2, unhealthy: 2, grace: 60_000 },
      cpu: 256,
      memoryMiB: 512,
      count: 1,
      env: {},
      secrets: [],
      hosts: [`${name}.${environment}.${app}.example.com`],
      stopTimeoutMs: 10_000,
      volumes: [],
      acceptsDowntime: false,
    };
  });
  return { app, number, services };
}

/** Calls of a deployment of r2 beside r1, with a secret in each service, until traffic has moved and r1 stands by. */
async function deployAll(sizes) {
  const stage = await newStage();
  try {
    const results = [];
    for (const size of sizes) {
      say(`deploying ${size} web services on moto`);
      results.push(await deploy(stage, size));
    }
    return results;
  } finally {
    stage.end();
  }
}

async function deploy({ endpoint, settings }, size) {
  let calls = [];
  const onCall = ({ service, command }) => void calls.push(`${service}:${command}`);
  const aws = { endpoint, attempts: 3, speed: 1_000, onCall };
  const driver = newEcsDriver({
    install: INSTALL,
    fingerprint: (text) => Buffer.from(text).toString("hex").padEnd(64, "0"),
    aws,
  });
  const target = await driver.open(settings);
  const place = { app: "shop", environment: `size-${size}` };
  const variables = { env: {}, secrets: { KEY: { reveal: () => "secret" } } };
  let looks = 0;
  for (const number of [1, 2]) {
    calls = [];
    looks = 0;
    const release = releaseOf(place, number, size);
    await target.prepare(place, release);
    await Promise.all(release.services.map((service) => target.startService(place, release, service, variables)));
    const onProgress = ({ service }) => {
      if (service === "web") looks++;
    };
    const { status } = await target.awaitHealthy(place, release, release.services, { deadlineMs: 120_000, onProgress });
    if (status !== "healthy") throw new Error(`r${number} is ${status}`);
    await target.shiftTraffic(place, release);
    if (number === 2) await target.park(place, releaseOf(place, 1, size));
  }
  const writes = calls.filter((call) => !/:(Describe|List|Get)/.test(call)).length;
  return { services: size, calls: calls.length, writes, looks };
}

async function newStage() {
  const [port, control] = [await freePort(), await freePort()];
  const scheduler = join(import.meta.dirname, "../test/aws/scheduler.py");
  const server = spawn("python3", [scheduler, String(port), String(control)], { stdio: "ignore" });
  const endpoint = `http://127.0.0.1:${port}`;
  for (;;) {
    const isUp = await fetch(`${endpoint}/moto-api/`).then(
      (answer) => answer.ok,
      () => false,
    );
    if (isUp) break;
    if (server.exitCode !== null) throw new Error("moto did not start: pip install 'moto[server]==5.2.1'");
    await sleep(100);
  }
  const settings = await (await fetch(`http://127.0.0.1:${control}/ground`)).json();
  return { endpoint, settings: { exec: false, ...settings }, end: () => server.kill("SIGKILL") };
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
