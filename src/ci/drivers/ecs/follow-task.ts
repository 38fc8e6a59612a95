import { sleep } from "../../../shared/until.ts";
import { newStepLog, type StepLog } from "../../step-log.ts";
import type { Attempt } from "./attempts.ts";
import { isDown, judgeTask, type SeenTask, stopReasonOf, type Verdict } from "./judge.ts";
import { refreshAddresses, resultKeyOf } from "./make-attempt.ts";
import { logStreamOf } from "./names.ts";
import { type AgentResult, type LineReader, newLineReader } from "./numbered-lines.ts";
import type { StepRun } from "./step-run.ts";
import { COLLECT, serviceContainer } from "./task-definition.ts";

/** `gone`: ECS knows the task no more, and it left no result. */
export type TaskEnd = {
  verdict: Exclude<Verdict, { kind: "going" }> | { kind: "gone" };
  log: StepLog;
  result: AgentResult | undefined;
  /** Not all lines came that it printed. */
  isShort: boolean;
};

/** A page of lines has up to 10,000: more of them than this in one go would keep the rest of the step waiting. */
const PAGES_AT_ONCE = 10;
/** Lines that came late are in a page that was read already. */
const GAP_LOOKS = 3;
/** What a container has that was ended by SIGKILL. */
const KILLED = 137;

/**
 * Follows a task's lines and its state until it is over and every line was read. Aborting `signal` stops it and resolves as usual. What is over is not
 * running when it resolves.
 */
export async function followTask(run: StepRun, attempt: Attempt, arn: string, signal: AbortSignal): Promise<TaskEnd> {
  const { account, times, now, options, step } = run;
  const skip = Math.max(0, options.alreadyLogged - attempt.linesBefore);
  const log = newStepLog(step, attempt.nonce, { lines: skip }, run.log, options.onProgress);
  const lines = newTaskLines(run, arn, log);
  const services = newServiceWatch(run, skip > 0);
  const refresh = every(times.refreshMs, now, () => refreshAddresses(run, attempt));
  const beganAt = now();
  let stopAsked = false;
  let downSince: number | undefined;
  const stop = async (reason: string) => {
    if (!stopAsked) await account.stopTask(arn, reason);
    stopAsked = true;
  };
  for (;;) {
    if (signal.aborted) await stop("Shipway: the step was ended");
    // Looked at before its lines are read: what it printed before it was down is among them, or late.
    const seen = await account.findTask(arn);
    await lines.read();
    if (seen === undefined && now() - beganAt >= times.unseenMs) return endOfForgotten(run, attempt, log, lines);
    if (seen !== undefined) {
      const verdict = services.judge(
        seen,
        judgeTask(
          seen,
          step.services.map(({ name }) => name),
        ),
      );
      if (isDown(seen)) {
        downSince ??= now();
        // Everything it said was read, or will not come any more.
        if (lines.result() !== undefined || now() - downSince >= times.logLagMs)
          return endOfTask(run, attempt, verdict, log, lines);
      } else if (isLost(verdict)) {
        await stop(stopReasonOf(verdict));
      }
    }
    await refresh();
    await sleep(times.pollMs, stopAsked ? undefined : signal).catch(() => undefined);
  }
}

/** Does its work when so much time has passed since it did last. */
function every(ms: number, now: () => number, work: () => Promise<void>): () => Promise<void> {
  let last = now();
  return async () => {
    if (now() - last < ms) return;
    last = now();
    await work();
  };
}

/** A step that cannot begin keeps a task waiting. */
const isLost = ({ kind }: Verdict): boolean =>
  kind === "serviceFailed" || kind === "noImage" || kind === "noShell" || kind === "notSetUp";

async function endOfTask(
  run: StepRun,
  attempt: Attempt,
  verdict: Verdict,
  log: StepLog,
  lines: TaskLines,
): Promise<TaskEnd> {
  const result = lines.result() ?? (await storedResult(run, attempt));
  const isShort = result !== undefined && lines.result() === undefined;
  if (result === undefined && verdict.kind !== "going") return { verdict, log, result, isShort };
  return { verdict: endedBy(verdict, result), log, result, isShort };
}

/** The program that relayed the lines says how the script ended. ECS knows more of an end by force, and of a script that never began. */
function endedBy(verdict: Verdict, result: AgentResult | undefined): TaskEnd["verdict"] {
  const exitCode = result?.exitCode;
  if (verdict.kind === "ended") return { ...verdict, exitCode: verdict.exitCode ?? exitCode };
  if (exitCode === undefined && verdict.kind !== "going") return verdict;
  return { kind: "ended", exitCode: exitCode ?? KILLED, outOfMemory: false, endedAt: undefined };
}

/** ECS shows a stopped task for an hour. What it left in the bucket stays until the run is cleaned up. */
async function endOfForgotten(run: StepRun, attempt: Attempt, log: StepLog, lines: TaskLines): Promise<TaskEnd> {
  const result = lines.result() ?? (await storedResult(run, attempt));
  const isShort = result !== undefined && lines.result() === undefined;
  const verdict = result === undefined ? ({ kind: "gone" } as const) : endedBy({ kind: "going" }, result);
  return { verdict, log, result, isShort };
}

async function storedResult(run: StepRun, { number }: Attempt): Promise<AgentResult | undefined> {
  const text = await run.bucket.get(resultKeyOf(run, number));
  return text === undefined ? undefined : (JSON.parse(text) as AgentResult);
}

type TaskLines = { read(): Promise<void>; result(): AgentResult | undefined };

/** The numbered lines of a task's last container, from CloudWatch Logs, each once and in order. */
function newTaskLines({ account, key }: StepRun, arn: string, log: StepLog): TaskLines {
  const reader: LineReader = newLineReader();
  const stream = logStreamOf(COLLECT, arn);
  let token: string | undefined;
  let gaps = 0;
  return {
    result: reader.result,
    async read() {
      for (let page = 0; page < PAGES_AT_ONCE; page++) {
        const { messages, token: next } = await account.readLog(key.app, stream, token);
        const fresh = reader.take(messages);
        if (fresh.length > 0) log.take(fresh);
        // The same token twice is the end (Amazon CloudWatch Logs API, GetLogEvents).
        const isEnd = next === token || messages.length === 0;
        token = next;
        if (isEnd) break;
      }
      gaps = reader.hasGap() ? gaps + 1 : 0;
      if (gaps < GAP_LOOKS) return;
      gaps = 0;
      token = undefined;
    },
  };
}

/** Sees services become ready, and gives up those that do not in time. */
function newServiceWatch(run: StepRun, toldBefore: boolean) {
  const { options, step, times, now } = run;
  const runningSince = new Map<string, number>();
  const ready = new Set<string>();
  return {
    judge(seen: SeenTask, verdict: Verdict): Verdict {
      for (const { name } of step.services) {
        const container = seen.containers[serviceContainer(name)];
        if (container?.status === "RUNNING" && !runningSince.has(name)) runningSince.set(name, now());
        if (container?.health !== "HEALTHY" || ready.has(name)) continue;
        ready.add(name);
        const durationMs = now() - (runningSince.get(name) ?? now());
        if (!toldBefore) options.onProgress?.({ kind: "serviceReady", service: name, durationMs });
      }
      if (verdict.kind !== "going" || seen.containers.step?.status === "RUNNING") return verdict;
      const late = step.services.find(({ name }) => {
        const { status, health } = seen.containers[serviceContainer(name)] ?? {};
        const since = runningSince.get(name);
        const isSilent = status === "RUNNING" && health !== undefined && health !== "HEALTHY";
        return isSilent && since !== undefined && now() - since > times.serviceMs;
      });
      return late === undefined ? verdict : { kind: "serviceFailed", service: late.name, exitCode: undefined };
    },
  };
}
