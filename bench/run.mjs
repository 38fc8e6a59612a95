import { readFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import Docker from "dockerode";
import { newFloor } from "./floor.mjs";
import { newInstallation } from "./installation.mjs";
import { startProber, untilAnswers } from "./probe.mjs";
import { sampleFiles } from "./sample.mjs";

const APP = "bench";
const HOST = `web.production.${APP}.localhost`;
/** USER_HZ: 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "6" },
    "idle-seconds": { type: "string", default: "30" },
    json: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
  },
});
const say = (text) => process.stderr.write(`${text}\n`);

/** Everything in one run, the two sides of a ratio in turn, so that both see the same load of the machine. */
async function main() {
  const docker = new Docker();
  const loadBefore = loadavg();
  const floor = newFloor(docker);
  const shipway = await newInstallation(docker);
  try {
    const firstUpMs = await shipway.up();
    const rounds = await measureRounds(shipway, floor, Number(options.rounds));
    const starts = await measureStarts(shipway, 3);
    const idle = await measureIdle(shipway, Number(options["idle-seconds"]));
    print({ loadBefore, loadAfter: loadavg(), firstUpMs, rounds, starts, idle });
  } finally {
    await floor.remove();
    await shipway.remove();
  }
}

async function measureRounds(shipway, floor, count) {
  const router = { port: shipway.httpPort, host: HOST };
  const checkout = await shipway.newApp(APP, sampleFiles(APP, "round 0"));
  await shipway.push(checkout);
  // Layers and caches of both sides are warm, as they are at everybody's second deployment.
  await floor.measure(sampleFiles("floor", "warm"), "warm");
  const rounds = [];
  for (let round = 1; round <= count; round++) {
    const floorSide = () => floor.measure(sampleFiles("floor", `floor ${round}`), `floor ${round}`);
    const pushSide = () => measurePush(shipway, checkout, router, `round ${round}`);
    // Each goes first in turn: whatever the first one warms up then favours both alike.
    const [base, push] =
      round % 2 === 0
        ? [await floorSide(), await pushSide()]
        : await pushSide().then(async (p) => [await floorSide(), p]);
    const rollback = await measureRollback(shipway, router, `round ${round}`);
    rounds.push({ floor: base, push, rollback });
    say(
      `round ${round}: floor ${ms(base.totalMs)}, push ${ms(push.firstAnswerMs)} (live event ${ms(push.liveEventMs)}), rollback ${ms(rollback.lastNewMs)}`,
    );
  }
  return rounds;
}

/** A one-line change: from the start of `git push` to the first answer of the new release through the router. */
async function measurePush(shipway, checkout, router, text) {
  await shipway.commit(checkout, { "server.js": sampleFiles(APP, text)["server.js"] }, text);
  const lastId = (await shipway.api(`/api/events?app=${APP}&limit=1000`)).at(-1)?.id ?? 0;
  const startedAt = performance.now();
  const startedAtDate = Date.now();
  const pushing = shipway.push(checkout).then(() => performance.now());
  const answeredAt = await untilAnswers(router, text);
  const pushedAt = await pushing;
  const events = await untilDelivered(shipway, lastId);
  const offsets = events.map(({ at, kind, data }) => ({ atMs: Date.parse(at) - startedAtDate, kind, data }));
  if (options.verbose)
    for (const { atMs, kind, data } of offsets)
      say(`  ${String(atMs).padStart(6)}  ${kind}  ${JSON.stringify(data).slice(0, 150)}`);
  return {
    firstAnswerMs: answeredAt - startedAt,
    liveEventMs: offsets.find(({ kind }) => kind === "rollout.live").atMs,
    pushEndedMs: pushedAt - startedAt,
  };
}

async function untilDelivered(shipway, after) {
  for (;;) {
    const events = await shipway.api(`/api/events?app=${APP}&after=${after}&limit=1000`);
    const end = events.find(({ kind }) => kind === "delivery.ended");
    if (end !== undefined && end.data.status !== "live")
      throw new Error(`it did not go live: ${JSON.stringify(end.data)}`);
    if (end !== undefined) return events;
    await sleep(50);
  }
}

/** To the standby: from the request until the last answer that the newer release gave. */
async function measureRollback(shipway, router, newer) {
  const lastId = (await shipway.api(`/api/events?app=${APP}&limit=1000`)).at(-1)?.id ?? 0;
  const stopProber = startProber(router);
  await sleep(300);
  const startedAt = performance.now();
  const startedAtDate = Date.now();
  await shipway.api(`/api/apps/${APP}/environments/production/rollback`, { method: "POST", body: {} });
  const acceptedAt = performance.now();
  const events = await untilDelivered(shipway, lastId);
  await sleep(300);
  const answers = await stopProber();
  await shipway.api(`/api/apps/${APP}/environments/production/resume`, { method: "POST" });
  if (options.verbose)
    for (const { at, kind, data } of events)
      say(`  ${String(Date.parse(at) - startedAtDate).padStart(6)}  ${kind}  ${JSON.stringify(data).slice(0, 150)}`);
  const fromNewer = answers.filter(({ body }) => body === newer);
  return {
    acceptedMs: acceptedAt - startedAt,
    lastNewMs: Math.max(...fromNewer.map(({ answeredAt }) => answeredAt)) - startedAt,
    requests: answers.length,
    failed: answers.filter(({ status }) => status !== 200).length,
  };
}

/** `shipway up` on a data directory that has an app in service, with its router and its tasks running. */
async function measureStarts(shipway, count) {
  const starts = [];
  for (let n = 0; n < count; n++) {
    await shipway.down();
    starts.push(await shipway.up());
  }
  return starts;
}

async function measureIdle(shipway, seconds) {
  // What the start left to do in the background has ended by then.
  await sleep(5_000);
  const pids = await shipway.processes();
  const before = await cpuSeconds(pids);
  const startedAt = performance.now();
  await sleep(seconds * 1_000);
  const passed = (performance.now() - startedAt) / 1_000;
  const cpu = (await cpuSeconds(pids)) - before;
  return { memoryMiB: await pssMiB(await shipway.processes()), cpuPercent: (cpu / passed) * 100, seconds: passed };
}

async function cpuSeconds(pids) {
  let ticks = 0;
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
    const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Proportional: what processes share counts once. */
async function pssMiB(pids) {
  let [total, node] = [0, 0];
  for (const [index, pid] of pids.entries()) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
    const kib = Number(/^Pss: +(\d+)/m.exec(rollup)?.[1] ?? 0);
    total += kib;
    if (index === 0) node = kib;
  }
  return { total: total / 1_024, node: node / 1_024, postgres: (total - node) / 1_024 };
}

function print(measured) {
  const { rounds, starts, idle } = measured;
  const floorMs = median(rounds.map(({ floor }) => floor.totalMs));
  const pushMs = median(rounds.map(({ push }) => push.firstAnswerMs));
  const summary = {
    rounds: rounds.length,
    floorMs,
    pushToFirstAnswerMs: pushMs,
    pushToLiveEventMs: median(rounds.map(({ push }) => push.liveEventMs)),
    pushToFirstAnswerRatio: pushMs / floorMs,
    // Round by round, then the median: less moved by a load that comes and goes.
    pushToFirstAnswerRatioPaired: median(rounds.map(({ floor, push }) => push.firstAnswerMs / floor.totalMs)),
    rollbackMs: median(rounds.map(({ rollback }) => rollback.lastNewMs)),
    rollbackWorstMs: Math.max(...rounds.map(({ rollback }) => rollback.lastNewMs)),
    rollbackRequests: rounds.reduce((total, { rollback }) => total + rollback.requests, 0),
    rollbackFailedRequests: rounds.reduce((total, { rollback }) => total + rollback.failed, 0),
    upMs: median(starts),
    idleMemoryMiB: idle.memoryMiB.total,
    idleCpuPercent: idle.cpuPercent,
  };
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ summary, ...measured }, null, 2)}\n`);
    return;
  }
  const floors = (key) => ms(median(rounds.map(({ floor }) => floor[key])));
  process.stdout.write(
    [
      `Medians of ${summary.rounds} rounds; load average ${measured.loadBefore[0].toFixed(1)} before, ${measured.loadAfter[0].toFixed(1)} after.`,
      `floor                     ${ms(floorMs)}  (build ${floors("buildMs")}, docker run ${floors("runMs")}, first answer ${floors("answerMs")})`,
      `git push → first answer   ${ms(pushMs)}  ${summary.pushToFirstAnswerRatio.toFixed(2)} × the floor (round by round ${summary.pushToFirstAnswerRatioPaired.toFixed(2)} ×)`,
      `git push → live event     ${ms(summary.pushToLiveEventMs)}  ${(summary.pushToLiveEventMs / floorMs).toFixed(2)} × the floor`,
      `rollback to the standby   ${ms(summary.rollbackMs)}  (worst ${ms(summary.rollbackWorstMs)}; ${summary.rollbackFailedRequests} of ${summary.rollbackRequests} requests failed)`,
      `shipway up, data there    ${ms(summary.upMs)}  (first start ${ms(measured.firstUpMs)})`,
      `idle memory (PSS)         ${summary.idleMemoryMiB.toFixed(0)} MiB  (node ${idle.memoryMiB.node.toFixed(0)}, Postgres ${idle.memoryMiB.postgres.toFixed(0)})`,
      `idle CPU                  ${summary.idleCpuPercent.toFixed(1)} % of one core over ${idle.seconds.toFixed(0)} s`,
      "",
    ].join("\n"),
  );
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const ms = (value) => `${Math.round(value)} ms`;

await main();
