import { z } from "zod";
import { isAws } from "../../../../aws/aws-errors.ts";
import { newLogStreamReader } from "../../../../aws/log-stream.ts";
import { fail } from "../../../../shared/errors.ts";
import type { LogSink } from "../../../../shared/log-line.ts";
import { sleep } from "../../../../shared/until.ts";
import type { Place } from "../../../release.ts";
import type { OneOffRun } from "../../../target.ts";
import { isOutOfMemory, type SeenTask, whyStopped } from "../account/judge.ts";
import type { Ground } from "../ground.ts";
import { hexHash, logGroupName, logStreamName, runFamilyName } from "../names.ts";
import { networkOf } from "../rollout/ensure.ts";
import { lowerTags, RUN_TAG, tagsFor } from "../tags.ts";
import { toLine } from "../watch/task-logs.ts";

const Result = z.object({ exitCode: z.number(), outOfMemory: z.boolean(), timedOut: z.boolean() });
type Result = z.infer<typeof Result>;

export type OneOff = {
  place: Place;
  release: number;
  service: string;
  key: string;
  taskDefinition: string;
  deadlineMs: number;
  asked: OneOffRun["asked"] | undefined;
};

/** A RunTask with the same token gives the same task for so long (Amazon ECS API, idempotency). */
const TOKEN_LIVES_MS = 24 * 3_600_000;
/** What a container has that was ended by SIGKILL. */
const KILLED = 137;

/**
 * Runs a task once for `key`, whatever happens in between. The journal is a log stream: making one is atomic, it outlives the task (which ECS
 * shows for an hour), and the result is written into it. A run that was begun and of which nothing can be found any more is never begun again.
 * @throws RUN_OUTCOME_UNKNOWN when nobody can tell whether it ran
 */
export async function runOneOff(ground: Ground, run: OneOff, log: LogSink, signal?: AbortSignal): Promise<Result> {
  const { install } = ground;
  const { place } = run;
  const id = hexHash(`${install}/${place.app}/${place.environment}/r${run.release}/${run.key}`, 32);
  const journal = newJournal(ground, place, id);
  const { begunAt, isNew } = await journal.begin();
  if (isNew && run.asked?.wasBegun) throw unknownOutcome(run);
  const before = await journal.result();
  if (before !== undefined) return before;
  const found = await findRun(ground, run, id);
  if (found === undefined) {
    signal?.throwIfAborted();
    await run.asked?.begin();
  }
  const task = found ?? (await startRun(ground, run, id, begunAt));
  const result = await attend(ground, run, task, log, signal);
  await journal.end(result);
  return result;
}

function newJournal({ aws, install }: Ground, place: Place, id: string) {
  const stream = { logGroupName: logGroupName(install, place), logStreamName: `journal/${id}` };
  return {
    /** @returns when the run was begun: now, or by an earlier attempt */
    async begin(): Promise<{ begunAt: number; isNew: boolean }> {
      try {
        await aws.logs.createLogStream(stream);
        return { begunAt: Date.now(), isNew: true };
      } catch (error) {
        if (!isAws(error, "ResourceAlreadyExists")) throw error;
      }
      const { logStreams } = await aws.logs.describeLogStreams({
        logGroupName: stream.logGroupName,
        logStreamNamePrefix: stream.logStreamName,
      });
      return { begunAt: logStreams?.[0]?.creationTime ?? 0, isNew: false };
    },
    async result(): Promise<Result | undefined> {
      const { events } = await aws.logs.getLogEvents({ ...stream, startFromHead: true });
      const text = events?.[0]?.message;
      return text === undefined ? undefined : Result.parse(JSON.parse(text));
    },
    async end(result: Result): Promise<void> {
      await aws.logs.putLogEvents({
        ...stream,
        logEvents: [{ timestamp: Date.now(), message: JSON.stringify(result) }],
      });
    },
  };
}

const startedByOf = (id: string) => `shipway/run/${id}`;

/** ListTasks shows only tasks that are to run, so one that has ended already is looked for among its family's. */
async function findRun({ reader, install }: Ground, run: OneOff, id: string): Promise<SeenTask | undefined> {
  const [alive] = await reader.startedTasks(startedByOf(id));
  if (alive !== undefined) return alive;
  const ended = await reader.stoppedTasks({ family: runFamilyName(install, run.place, run.service, run.release) });
  return ended.find((task) => task.startedBy === startedByOf(id));
}

async function startRun(
  { aws, install, settings }: Ground,
  run: OneOff,
  id: string,
  begunAt: number,
): Promise<SeenTask> {
  // Within a day the same token gives the task of the earlier attempt, if there was one. After that nobody can tell.
  if (Date.now() - begunAt > TOKEN_LIVES_MS) throw unknownOutcome(run);
  const { tasks, failures } = await aws.ecs.runTask({
    cluster: settings.cluster,
    taskDefinition: run.taskDefinition,
    count: 1,
    launchType: "FARGATE",
    platformVersion: "LATEST",
    networkConfiguration: networkOf(settings),
    startedBy: startedByOf(id),
    clientToken: hexHash(id),
    enableECSManagedTags: true,
    tags: lowerTags(tagsFor(install, run.place, { [RUN_TAG]: id })),
  });
  const arn = tasks?.[0]?.taskArn;
  if (arn !== undefined) return { ...UNSEEN, arn };
  const why = failures?.[0]?.reason ?? "no reason was given";
  throw fail("AWS_CAPACITY", {
    message: `Fargate did not start the task for ${run.service}: ${why}.`,
    hint: "Wait a few minutes, or add subnets in other zones.",
  });
}

const UNSEEN: SeenTask = {
  arn: "",
  startedBy: "",
  status: "PROVISIONING",
  createdAt: 0,
  startedAt: undefined,
  ip: undefined,
  stopCode: undefined,
  stoppedReason: undefined,
  exitCode: undefined,
  containerReason: undefined,
  health: undefined,
};

/** Follows the task's output to its end. Over is what ECS calls STOPPED, nothing before. */
async function attend(
  ground: Ground,
  run: OneOff,
  task: SeenTask,
  log: LogSink,
  signal: AbortSignal | undefined,
): Promise<Result> {
  const { aws, reader, install, settings, times } = ground;
  const stream = { group: logGroupName(install, run.place), stream: logStreamName("run", run.service, task.arn) };
  const output = newLogStreamReader(aws, stream);
  const endsAt = Date.now() + run.deadlineMs;
  const seenBy = Date.now() + times.unseenMs;
  const stopTask = (reason: string) => aws.ecs.stopTask({ cluster: settings.cluster, task: task.arn, reason });
  const pass = async () => {
    const some = (await output.next()).map(toLine);
    if (some.length > 0) log(some);
  };
  let timedOut = false;
  let printedAt: number | undefined;
  for (;;) {
    if (signal?.aborted) {
      await stopTask("Shipway: canceled");
      throw signal.reason;
    }
    const [seen] = await reader.tasksByArn([task.arn]);
    if (seen === undefined && Date.now() >= seenBy) throw unknownOutcome(run);
    await pass();
    if (isBehindItsProgram(seen)) printedAt ??= Date.now();
    if (seen?.status === "STOPPED") {
      const settledAt = (printedAt ?? 0) + times.logLagMs;
      while (Date.now() < settledAt) {
        await sleep(Math.min(times.pollMs, times.logLagMs));
        await pass();
      }
      return resultOf(run, seen, timedOut);
    }
    if (!timedOut && Date.now() >= endsAt) {
      timedOut = true;
      await stopTask("Shipway: took too long");
    }
    await sleep(times.pollMs, signal).catch(() => undefined);
  }
}

/** Its program has printed what it will: what follows is AWS taking away the network, for ten seconds and more (Amazon ECS developer guide, task lifecycle). */
const isBehindItsProgram = (task: SeenTask | undefined): boolean =>
  task?.status === "DEPROVISIONING" || task?.status === "STOPPED";

/** @throws AWS_TASK_FAILED when the program never ran, so that there is no result of it */
function resultOf(run: OneOff, task: SeenTask, timedOut: boolean): Result {
  const outOfMemory = isOutOfMemory(task);
  if (timedOut || outOfMemory) return { exitCode: task.exitCode ?? KILLED, outOfMemory, timedOut };
  if (task.exitCode !== undefined) return { exitCode: task.exitCode, outOfMemory, timedOut };
  throw fail("AWS_TASK_FAILED", {
    message: `The task for the command of ${run.service} did not run: ${whyStopped(task)}`,
    hint: "Mend what the message names, then deploy again: the command has not begun.",
  });
}

function unknownOutcome(run: OneOff) {
  return fail("RUN_OUTCOME_UNKNOWN", {
    message: `Whether the command of ${run.service} for r${run.release} ran to its end cannot be found out: its task was begun, and ECS shows it no more.`,
    hint: "Look whether its work is done (its lines are in the log group of the environment), then deploy again: a new deployment runs it anew.",
  });
}
