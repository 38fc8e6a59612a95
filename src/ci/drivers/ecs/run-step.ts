import { lowerTags } from "../../../aws/tags.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { conclude, type EndedStep, outcomeOf, tooLong } from "../../conclude-step.ts";
import type { PipelineContext, StepOptions, StepOutcome, StepPlan } from "../../executor.ts";
import { stepEnvironment } from "../../step-environment.ts";
import { type Attempt, newAttempts } from "./attempts.ts";
import { imageUnavailable, newPatience, notSetUp } from "./cannot-start.ts";
import { followTask, type TaskEnd } from "./follow-task.ts";
import { makeAttempt, orderKeyOf, stepPrefixOf } from "./make-attempt.ts";
import { STEP_TAG, startedByOf, tagsOfStep } from "./names.ts";
import { serviceFailed } from "./service-failed.ts";
import type { ExecutorParts, StepRun } from "./step-run.ts";

/** RunTask gives the same task for the same token for so long (Amazon ECS API, idempotency). */
const TOKEN_LIVES_MS = 24 * 3_600_000;
const ATTEMPT_TAG = "shipway:attempt";

/** What became of an attempt. Only one in which nothing of the user's began is followed by another. */
type AttemptEnd = { outcome: StepOutcome } | { noPlace: string };

export async function runStep(
  parts: ExecutorParts,
  context: PipelineContext,
  step: StepPlan,
  log: LogSink,
  options: StepOptions,
): Promise<StepOutcome> {
  const run = newStepRun(parts, context, step, log, options);
  const outcomeKey = `${stepPrefixOf(run)}outcome.json`;
  const known = await run.bucket.get(outcomeKey);
  if (known !== undefined) return JSON.parse(known) as StepOutcome;
  const { outcome, attempts } = await attemptStep(run);
  const stored = await run.bucket.putNew(outcomeKey, JSON.stringify(outcome));
  // Orders hold secrets, and nobody needs one any more.
  await run.bucket.remove(Array.from({ length: attempts }, (_, index) => orderKeyOf(run, index + 1)));
  return JSON.parse(stored) as StepOutcome;
}

function newStepRun(
  parts: ExecutorParts,
  context: PipelineContext,
  step: StepPlan,
  log: LogSink,
  options: StepOptions,
): StepRun {
  let logged = options.alreadyLogged;
  const counting: LogSink = (lines) => {
    logged += lines.length;
    log(lines);
  };
  return {
    ...parts,
    key: { install: parts.install, app: context.app, runId: context.runId, stepId: step.id },
    context,
    step,
    environment: stepEnvironment(context, step),
    attempts: newAttempts(parts.bucket, parts.keys, context.runId, step.id),
    options,
    log: counting,
    remark: (text) => counting([{ at: parts.now(), stream: "meta", text }]),
    logged: () => logged,
  };
}

/** From what an earlier life left, if it left anything, to an outcome. */
async function attemptStep(run: StepRun): Promise<{ outcome: StepOutcome; attempts: number }> {
  const patience = newPatience(run);
  const found = await run.attempts.find();
  let [attempt, arn] = [found.attempt, found.arn];
  for (let number = attempt?.number ?? found.before + 1; ; number++) {
    const begun: { attempt: Attempt } | { outcome: StepOutcome } = attempt ? { attempt } : await begin(run, number);
    if ("outcome" in begun) return { outcome: begun.outcome, attempts: number };
    const end = await finishAttempt(run, begun.attempt, arn);
    if ("outcome" in end) return { outcome: end.outcome, attempts: number };
    await run.attempts.giveUp(begun.attempt, end.noPlace);
    await patience.pause(end.noPlace);
    [attempt, arn] = [undefined, undefined];
  }
}

async function begin(run: StepRun, number: number): Promise<{ attempt: Attempt } | { outcome: StepOutcome }> {
  const begunAt = run.now();
  const { signal, timeOver } = limitsOf(run, begunAt);
  try {
    signal.throwIfAborted();
    const made = await makeAttempt(run, number, begunAt, signal);
    signal.throwIfAborted();
    return { attempt: await run.attempts.begin(made) };
  } catch (error) {
    if (run.options.signal?.aborted)
      return { outcome: outcomeOf({ ...run, startedAt: begunAt }, { status: "canceled", reason: "canceled" }) };
    if (timeOver.aborted)
      return { outcome: outcomeOf({ ...run, startedAt: begunAt }, { status: "failed", reason: tooLong(run.step) }) };
    throw error;
  }
}

function limitsOf({ options, step, now }: StepRun, begunAt: number) {
  const timeOver = AbortSignal.timeout(Math.max(0, begunAt + step.maxTimeMs - now()));
  return { timeOver, signal: options.signal ? AbortSignal.any([options.signal, timeOver]) : timeOver };
}

/** From the journal to the end of its task, which is started when there is none. */
async function finishAttempt(run: StepRun, attempt: Attempt, known: string | undefined): Promise<AttemptEnd> {
  const { signal, timeOver } = limitsOf(run, attempt.begunAt);
  const task = known === undefined ? await startTask(run, attempt) : { arn: known };
  if ("failure" in task) return { noPlace: task.failure };
  const end: TaskEnd | undefined =
    task.arn === undefined ? undefined : await followTask(run, attempt, task.arn, signal);
  const { step, now, options } = run;
  const canceled = options.signal?.aborted === true;
  const ended: EndedStep = { step, now, startedAt: attempt.begunAt, canceled, timedOut: timeOver.aborted };
  return end === undefined ? { outcome: outcomeOf(ended, GONE) } : judgeEnd(run, attempt, ended, task.arn ?? "", end);
}

const GONE = {
  status: "failed",
  reason: "ECS shows the step's task no more, and it left no result: start the pipeline again",
} as const;

/** The task of an attempt, started once. Without an ARN it was started once, and can no longer be found. */
async function startTask(run: StepRun, attempt: Attempt): Promise<{ arn: string | undefined } | { failure: string }> {
  const { account, attempts, install, key, now } = run;
  const startedBy = startedByOf(install, key.runId);
  const own = { [STEP_TAG]: key.stepId, [ATTEMPT_TAG]: String(attempt.number) };
  const [running] = await account.startedTasks(startedBy, own);
  // One that has ended is not listed. Within a day the same token gives it; after that nobody can tell.
  if (running === undefined && now() - attempt.begunAt > TOKEN_LIVES_MS) return { arn: undefined };
  const task =
    running !== undefined
      ? { arn: running }
      : await account.runTask({
          taskDefinition: attempt.taskDefinition,
          startedBy,
          clientToken: attempt.token,
          overrides: {
            containerOverrides: [
              { name: "setup", environment: [{ name: "SHIPWAY_ORDER", value: attempt.orderAddress }] },
            ],
          },
          tags: lowerTags({ ...tagsOfStep(key), ...own }),
        });
  if ("arn" in task) await attempts.started(attempt, task.arn);
  return task;
}

async function judgeEnd(
  run: StepRun,
  attempt: Attempt,
  ended: EndedStep,
  arn: string,
  { verdict, log, result, isShort }: TaskEnd,
): Promise<AttemptEnd> {
  if (isShort) run.remark("the last lines of the output did not come from CloudWatch Logs in time");
  if (ended.canceled || ended.timedOut) return { outcome: conclude(ended, log, undefined) };
  switch (verdict.kind) {
    case "ended": {
      const { outOfMemory } = verdict;
      const endedAt = log.scriptExit()?.at ?? verdict.endedAt ?? run.now();
      const scriptEnded = result?.exitCode !== undefined;
      const state = { exitCode: verdict.exitCode ?? KILLED, outOfMemory, endedAt, scriptEnded };
      const outcome = conclude(ended, log, state);
      if (outcome.status !== "passed" || result?.lost === undefined) return { outcome };
      return { outcome: { ...outcome, status: "failed", reason: `its artifacts could not be kept: ${result.lost}` } };
    }
    case "gone":
      return { outcome: { ...outcomeOf(ended, GONE), lastLines: log.lastLines() } };
    case "serviceFailed":
      return { outcome: await serviceFailed(run, ended, arn, verdict) };
    case "noShell": {
      const reason = `the image ${run.step.image} has no /bin/sh to run the script`;
      return { outcome: outcomeOf(ended, { status: "failed", reason }) };
    }
    case "noCapacity":
      return { noPlace: verdict.why };
    case "noImage":
      await run.attempts.giveUp(attempt, verdict.why);
      throw imageUnavailable(run, verdict);
    case "notSetUp":
      await run.attempts.giveUp(attempt, verdict.why);
      throw await notSetUp(run, arn, verdict.why);
  }
}

/** What a container has that was ended by SIGKILL. */
const KILLED = 137;
