import type { RolloutOutcome } from "../../rollout/outcome.ts";
import type { Place } from "../../rollout/release.ts";
import { formatDurationMs } from "../../shared/duration.ts";
import { sleep } from "../../shared/until.ts";
import { Disproved, type Found } from "./lines.ts";
import { BROKEN_EXIT, migratedLine, secretHash, upLine } from "./service.ts";
import { type Ask, newAsk, problemsIn } from "./traffic.ts";
import type { SmokeOwner, Trial } from "./trial.ts";

const SMOKE_APP = "smoke";
/** A test takes a quarter of an hour; one of another machine that began longer ago than this was cut off. */
const OVER_AFTER_MS = 3_600_000;

/** `m1a2b3c4-p4711`: of this machine and process, so that two people do not take away each other's test. */
export const smokePlace = ({ machine, pid }: SmokeOwner): Place => ({
  app: SMOKE_APP,
  environment: `m${machine}-p${pid}`,
});

/** Removes what a test left that was killed: of this machine when its process is gone, of another after an hour. */
export async function removeEarlier({ account, options }: Trial): Promise<Found> {
  const { machine, pid, isAlive } = options.owner;
  const removed: string[] = [];
  const spared: string[] = [];
  for (const { environment, at } of await account.begun(SMOKE_APP)) {
    const [, ofMachine, ofPid] = /^m([a-z0-9]+)-p(\d+)$/.exec(environment) ?? [];
    const isHere = ofMachine === machine;
    const isOver = Date.now() - at > OVER_AFTER_MS || (isHere && (Number(ofPid) === pid || !isAlive(Number(ofPid))));
    const name = `${environment}, begun ${new Date(at).toISOString()}`;
    if (!isOver) {
      spared.push(name);
      continue;
    }
    options.onProgress(`removing what an earlier smoke test left (${name})`);
    await account.target.destroy({ app: SMOKE_APP, environment }, "remove");
    removed.push(name);
  }
  if (spared.length > 0) {
    const found = `another one may be at work and was left alone: ${spared.join("; ")}`;
    return { found, status: "warn", fix: "If it was cut off, the first test that begins an hour after it removes it." };
  }
  return removed.length === 0 ? "they left nothing" : `removed what they left: ${removed.join("; ")}`;
}

export async function firstRelease(trial: Trial): Promise<Found> {
  const startedAt = Date.now();
  requireDone(await trial.rollTo("deploy", trial.release(1)));
  return `two tasks and a worker proved themselves, ${formatDurationMs(Date.now() - startedAt)} with the release command`;
}

export async function releaseCommand({ lines }: Trial): Promise<Found> {
  const said = lines.filter(({ stream }) => stream !== "meta").map(({ text }) => text);
  if (said.includes(migratedLine(1))) return "it ran in a task of its own, and its line arrived";
  throw new Disproved(`it ended with 0, and its line did not arrive (${said.length} others did)`);
}

/** Requests flow from here on to the end of the test. */
export async function loadBalancer(trial: Trial): Promise<Found> {
  const { account, host, traffic, times } = trial;
  const movedAt = trial.movedAt();
  const address = await account.balancerAddress();
  const where = `${address.host}:${address.port}`;
  const { ask, close } = newAsk(address, host);
  const problem = await problemUntilFirst(ask, times, trial.options.signal);
  if (problem !== undefined) {
    close();
    throw new Disproved(`${where} did not answer for ${host}: ${problem}`, {
      fix: "Run this where the load balancer can be reached (an internal one: inside its network); see that its security group lets you in, and that no rule before number 1000 takes every host.",
    });
  }
  const firstAnswerMs = Date.now() - movedAt;
  traffic.flow(ask, times.everyMs, close);
  return {
    found: `${where} answers for ${host}, at the latest ${formatDurationMs(firstAnswerMs)} after its rule was written`,
    figures: { firstAnswerMs },
  };
}

/** What came instead of an answer, when none came; undefined with the first that did. */
async function problemUntilFirst(
  ask: Ask,
  { followsMs }: Trial["times"],
  signal: AbortSignal,
): Promise<string | undefined> {
  const endsAt = Date.now() + followsMs;
  for (;;) {
    const problem = await ask("/").then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    if (problem === undefined || Date.now() >= endsAt) return problem;
    await sleep(100, signal);
  }
}

export async function secretArrives({ secret, traffic }: Trial): Promise<Found> {
  const { secret: hash } = await traffic.ask("/");
  if (hash === secretHash(secret)) return "its value reached the tasks from Secrets Manager, by version";
  throw new Disproved("the tasks got another value than the one that was written");
}

export async function logsArrive(trial: Trial): Promise<Found> {
  const { account, place, times, options } = trial;
  const endsAt = Date.now() + times.followsMs;
  for (;;) {
    const saying = new Set<string>();
    const how = { sinceMs: 0, follow: false, signal: options.signal };
    await account.target.readLogs(place, { release: 1, service: "web" }, how, (task, lines) => {
      if (lines.some(({ text }) => text === upLine(1))) saying.add(task);
    });
    if (saying.size === 2) return "the lines of both tasks can be read";
    if (Date.now() >= endsAt) {
      throw new Disproved(
        `two tasks printed a line, and ${formatDurationMs(times.followsMs)} later it can be read of ${saying.size}`,
      );
    }
    await sleep(1_000, options.signal);
  }
}

export async function exitCode(trial: Trial): Promise<Found> {
  const { account, place, variables, options } = trial;
  const run = {
    key: "exit",
    service: "web",
    command: ["sh", "-c", "exit 3"],
    variables: variables.web,
    deadlineMs: 300_000,
  };
  const ended = await account.target.runOnce(place, trial.live(), run, () => undefined, options.signal);
  if (ended.exitCode === 3 && !ended.timedOut) return "a command that ends with 3 is told to have ended with 3";
  throw new Disproved(`a command that ends with 3 is told to have ended with ${ended.exitCode}`);
}

/** A difference here would be put right every 15 seconds, for ever. */
export async function nothingToMend(trial: Trial): Promise<Found> {
  const { account, place, variables, options, times } = trial;
  const desired = { live: { release: trial.live(), variables }, inProgress: [] };
  const drift = await account.target.findDrift(place, desired);
  if (drift.length > 0) {
    const told = drift.map(
      ({ name, kind, attributes }) =>
        `${name} ${kind} ${attributes.map(({ path, before, after }) => `${path}: ${before} → ${after}`).join(", ")}`,
    );
    throw new Disproved(`what was just made is taken for changed: ${told.join("; ")}`);
  }
  // A place that was just changed is left alone.
  await sleep(times.quietMs + 1_000, options.signal);
  const mended = await account.target.reconcile(place, desired);
  if (mended.length > 0) throw new Disproved(`what was just made was mended: ${mended.join("; ")}`);
  return "what AWS says of it equals what was declared";
}

/** Calls that make or change a thing, as opposed to those that find it there. */
const MAKES =
  /^(RegisterTaskDefinition|CreateService|UpdateService|CreateTargetGroup|ModifyTargetGroup|CreateRule|ModifyRule)$/;

export async function repetition(trial: Trial): Promise<Found> {
  const { account, place, variables } = trial;
  const release = trial.live();
  const before = account.calls.length;
  await account.target.prepare(place, release);
  for (const service of release.services) {
    await account.target.startService(
      place,
      release,
      service,
      service.name === "web" ? variables.web : variables.worker,
    );
  }
  const made = account.calls.slice(before).filter(({ command }) => MAKES.test(command));
  if (made.length === 0) return "the same release again makes nothing twice and changes nothing";
  throw new Disproved(`the same release again called ${made.map(({ command }) => command).join(", ")}`);
}

export async function brokenRelease(trial: Trial): Promise<Found> {
  const { answers } = trial.traffic;
  const before = answers.length;
  const startedAt = Date.now();
  const outcome = await trial.rollTo("deploy", trial.release(2, true));
  if (outcome.status === "canceled") throw new Disproved("canceled");
  if (outcome.status === "done") throw new Disproved("a program that ends at once was taken for healthy");
  if (outcome.trafficMoved) throw new Disproved(`it had traffic before it failed: ${outcome.reason}`);
  const evidence = outcome.evidence.find((one) => one.exitCode === BROKEN_EXIT);
  if (evidence === undefined) throw new Disproved(`it failed, but not for its exit code: ${outcome.reason}`);
  const meanwhile = answers.slice(before);
  const wrong = meanwhile.filter((one) => !("release" in one) || one.release !== "r1");
  if (wrong.length > 0)
    throw new Disproved(
      `the old release was noticed of it: ${wrong.length} of ${meanwhile.length} requests went wrong (${problemsIn(meanwhile) || "answered by another release"})`,
    );
  const found = `told to have ended with ${BROKEN_EXIT} after ${formatDurationMs(Date.now() - startedAt)}; the old one served all ${meanwhile.length} requests`;
  return evidence.lastLines.length > 0
    ? `${found}, and its last line was there`
    : { found: `${found}; its last line was not there yet`, status: "warn" };
}

export async function secondRelease(trial: Trial): Promise<Found> {
  const startedAt = Date.now();
  requireDone(await trial.rollTo("deploy", trial.release(3)));
  return `it proved itself beside the first, ${formatDurationMs(Date.now() - startedAt)}`;
}

export const flip = (trial: Trial): Promise<Found> => moveTo(trial, "r3");

/** How the last move of traffic was seen from outside; a request that failed disproves it. */
async function moveTo(trial: Trial, release: string): Promise<{ found: string; figures: Record<string, number> }> {
  const movedAt = trial.movedAt();
  const seen = await trial.settledMove(movedAt, release);
  const { isOver, requests, failed, firstNewMs, lastOldMs, lastOldSentMs } = seen;
  const figures = {
    requests,
    failed,
    ...(firstNewMs !== undefined && { firstNewMs }),
    ...(lastOldMs !== undefined && { lastOldMs }),
    ...(lastOldSentMs !== undefined && { lastOldSentMs }),
  };
  const old =
    lastOldMs === undefined
      ? "the old one never again"
      : `the old one until ${lastOldMs} ms (asked at ${lastOldSentMs ?? 0} ms)`;
  const found = `after the call the new release answered from ${firstNewMs ?? "never"} ms on, ${old}; ${failed} of ${requests} requests failed`;
  if (failed > 0)
    throw new Disproved(`${found}: ${problemsIn(trial.traffic.answers.filter(({ endedAt }) => endedAt >= movedAt))}`, {
      figures,
    });
  if (!isOver)
    throw new Disproved(`${found}; and it was not over after ${formatDurationMs(trial.times.followsMs)}`, { figures });
  return { found, figures };
}

export async function rollback(trial: Trial): Promise<Found> {
  const { calls } = trial.account;
  const before = calls.length;
  requireDone(await trial.rollTo("rollback", trial.release(1)));
  const movedAt = trial.movedAt();
  const until = calls.slice(before).filter(({ at }) => at <= movedAt);
  const writes = until.filter(({ command }) => !/^(Describe|List|Get)/.test(command)).length;
  const { found, figures } = await moveTo(trial, "r1");
  return {
    found: `${found}; ${until.length} calls, ${writes} of them writes`,
    figures: { ...figures, calls: until.length, writes },
  };
}

/** A request that the old release still works on when traffic moves away from it and its tasks are ended. */
export async function requestInFlight(trial: Trial): Promise<Found> {
  const { account, place, times, traffic } = trial;
  await account.target.shiftTraffic(place, trial.release(3));
  await sleep(times.quietMs, trial.options.signal);
  const asked = traffic.ask(`/?ms=${times.slowMs}`).then(
    ({ release }) => release,
    (error: unknown) => `nobody (${error instanceof Error ? error.message : String(error)})`,
  );
  // It has to be there before the rule changes.
  await sleep(Math.min(1_000, times.slowMs / 4), trial.options.signal);
  await account.target.shiftTraffic(place, trial.release(1));
  await account.target.stop(place, 3);
  const by = await asked;
  if (by === "r3")
    return `one of ${formatDurationMs(times.slowMs)} was answered in full although its tasks were ended meanwhile`;
  throw new Disproved(`one of ${formatDurationMs(times.slowMs)} that r3 worked on was answered by ${by}`);
}

export async function allRequests({ traffic }: Trial): Promise<Found> {
  const { answers } = traffic;
  await traffic.stop();
  const failed = answers.filter((one) => "problem" in one).length;
  const figures = { requests: answers.length, failed };
  if (failed === 0) return { found: `none of ${answers.length} failed`, figures };
  throw new Disproved(`${failed} of ${answers.length} failed: ${problemsIn(answers)}`, { figures });
}

export async function removal({ account, place }: Trial): Promise<Found> {
  const startedAt = Date.now();
  const remarks = await account.target.destroy(place, "remove");
  const found = `everything was removed in ${formatDurationMs(Date.now() - startedAt)}`;
  return remarks.length === 0 ? found : { found: `${found}; ${remarks.join(" ")}`, status: "warn" };
}

export async function sweep({ account, place }: Trial): Promise<Found> {
  const left = await account.left(place);
  if (left.length === 0) return "nothing in the Region carries the test's tags any more";
  throw new Disproved(`left: ${left.join(", ")}`, {
    fix: "Run the test again: it begins with removing what is left. What stays then, remove by hand.",
  });
}

function requireDone(outcome: RolloutOutcome): void {
  if (outcome.status === "done") return;
  if (outcome.status === "canceled") throw new Disproved("canceled");
  const lines = outcome.evidence.flatMap(({ lastLines }) => lastLines).slice(-5);
  throw new Disproved(`${outcome.reason}${lines.length === 0 ? "" : ` Last lines: ${lines.join(" | ")}`}`, {
    fix: "The reason names what to mend; when it is the image, give one that tasks can fetch and that has Node.js: `--image`.",
  });
}
