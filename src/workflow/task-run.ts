import type { Sealer } from "../environment/sealing.ts";
import type { Secrets } from "../environment/secrets.ts";
import type { LogStore } from "../events/log-store.ts";
import { maskQuotes } from "../events/mask-secrets.ts";
import { withoutGiven } from "../events/without-given.ts";
import { getRelease } from "../release/releases.ts";
import { resolveRelease } from "../release/resolve-release.ts";
import { publishedRelease, runtimesOf } from "../release/runtimes.ts";
import {
  endTaskRun,
  getTaskRun,
  logOf,
  markBegun,
  markForgotten,
  rememberedTaskRuns,
  type TaskRun,
  type TaskRunResult,
} from "../release/task-runs.ts";
import type { OneOffResult, RolloutTarget, TaskVariables } from "../rollout/target.ts";
import { type ErrorCode, errorCode, hasCode, toProblem } from "../shared/errors.ts";
import type { LogLine, LogSink } from "../shared/log-line.ts";
import { sleep } from "../shared/until.ts";
import type { Store } from "../store/open-store.ts";
import { backingOf } from "./backings.ts";
import { liveVariables, maskOf } from "./deployment-stages.ts";
import type { DurableStep, Logger } from "./durable.ts";

export type TaskRunDeps = {
  store: Store;
  secrets: Secrets;
  sealer: Sealer;
  logs: LogStore;
  target: RolloutTarget;
  log: Logger;
};

/** How soon a running command notices that somebody stopped it. */
const CANCEL_POLL_MS = 300;
/** An engine that is restarted is back by then; the command goes on without it, or has ended with it. */
const AWAY_MS = 600_000;
const LOOK_AGAIN_MS = 2_000;
/** A page of a stored log. */
const PAGE = 10_000;

/** A command that somebody asked for: to its end, recorded once, then forgotten by the runtime. Never run twice. */
export async function runTask(deps: TaskRunDeps, id: string, step: DurableStep): Promise<void> {
  const result = await step("run", () => attend(deps, id));
  await step("end-run", () => endTaskRun(deps.store.db, id, result));
  await forgetEndedRuns(deps).catch((error: unknown) => deps.log.warn({ err: error, run: id }, "a run is kept"));
}

/** What could not be removed when a run ended, because the engine was away or Shipway was killed, is removed by the next call. */
export async function forgetEndedRuns({ store, target }: Pick<TaskRunDeps, "store" | "target">): Promise<void> {
  for (const { id, app, environment } of await rememberedTaskRuns(store.db)) {
    await target.forgetRun({ app, environment }, id);
    await markForgotten(store.db, id);
  }
}

/** Runs the command, or attaches to it again after a restart. */
async function attend(deps: TaskRunDeps, id: string): Promise<TaskRunResult> {
  const run = await getTaskRun(deps.store.db, id);
  const mask = await maskOf(deps, run);
  const writer = await deps.logs.open(logOf(run), mask);
  const canceling = watchCancel(deps, id);
  try {
    const sink = run.begun_at === null ? writer.sink : await afterStored(deps.logs, run, mask, writer);
    return resultOf(await runOnce(deps, run, sink, canceling.signal));
  } catch (error) {
    if (canceling.signal.aborted && error === canceling.signal.reason)
      return { status: "canceled", exitCode: null, outOfMemory: false, problem: null };
    if (errorCode(error) === undefined) deps.log.error({ err: error, run: id }, "a run broke");
    const { begun_at } = await getTaskRun(deps.store.db, id);
    const status = begun_at !== null && isUncertain(error) ? "unknown" : "failed";
    return maskQuotes({ status, exitCode: null, outOfMemory: false, problem: toProblem(error) }, mask);
  } finally {
    canceling.stop();
    await writer.close();
  }
}

/** Whether the command may have run, or may be running still. */
const isUncertain = (error: unknown): boolean =>
  errorCode(error) === undefined || hasCode(error, "RUN_OUTCOME_UNKNOWN") || isAway(error);

const AWAY: readonly ErrorCode[] = ["DOCKER_UNREACHABLE", "AWS_UNREACHABLE", "AWS_THROTTLED"];
const isAway = (error: unknown): boolean => AWAY.some((code) => hasCode(error, code));

/** An engine that goes away while the command runs is waited for: only it knows how the command ended. */
async function runOnce(deps: TaskRunDeps, run: TaskRun, sink: LogSink, signal: AbortSignal): Promise<OneOffResult> {
  const { db } = deps.store;
  const { release, variables } = await preparedFor(deps, run);
  const command = JSON.parse(deps.sealer.open(run.sealed ?? Buffer.alloc(0), run.id)) as string[];
  const wanted = { key: run.id, service: run.service, command, variables, deadlineMs: Number(run.deadline_ms) };
  const place = { app: run.app, environment: run.environment };
  let awaySince: number | undefined;
  let attached = sink;
  for (;;) {
    const { begun_at } = await getTaskRun(db, run.id);
    const asked = { wasBegun: begun_at !== null, begin: () => markBegun(db, run.id) };
    const seen: LogLine[] = [];
    try {
      return await deps.target.runOnce(place, release, { ...wanted, asked }, remember(attached, seen), signal);
    } catch (error) {
      const hasBegun = (await getTaskRun(db, run.id)).begun_at !== null;
      if (!isAway(error) || !hasBegun) throw error;
      awaySince ??= Date.now();
      if (Date.now() - awaySince > AWAY_MS) throw error;
      attached = withoutGiven(attached, seen, (text) => text);
      await sleep(LOOK_AGAIN_MS, signal);
    }
  }
}

/** The release with the variables that its tasks in this environment have. */
async function preparedFor(deps: TaskRunDeps, { app, environment, release: number, service }: TaskRun) {
  const place = { app, environment };
  const { db } = deps.store;
  const { release: resolved, environmentSpec } = resolveRelease(await getRelease(db, app, number), environment);
  const release = await publishedRelease(db, resolved, (await runtimesOf(db, place)).current);
  const backing = await backingOf({ ...deps, db }, place, environmentSpec);
  const addresses = deps.target.backingVariables(place, backing.all);
  const variables: TaskVariables | undefined = (await liveVariables(deps, { ...place, release: number }, addresses))[
    service
  ];
  return { release, variables: variables ?? { env: {}, secrets: {} } };
}

function watchCancel({ store }: TaskRunDeps, id: string): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController();
  const look = async () => {
    const row = await store.db
      .selectFrom("task_runs")
      .select("canceled_by")
      .where("id", "=", id)
      .executeTakeFirst()
      .catch(() => undefined);
    if (row?.canceled_by) controller.abort(new Error("the run was canceled"));
  };
  const timer = setInterval(() => void look(), CANCEL_POLL_MS);
  void look();
  return { signal: controller.signal, stop: () => clearInterval(timer) };
}

function resultOf({ exitCode, outOfMemory, timedOut }: OneOffResult): TaskRunResult {
  const status = timedOut ? "timed-out" : exitCode === 0 ? "succeeded" : "failed";
  return { status, exitCode, outOfMemory, problem: null };
}

/** After a restart the runtime gives the whole output again: what is stored is left out. */
async function afterStored(
  logs: LogStore,
  run: TaskRun,
  mask: (text: string) => string,
  { sink, linesBefore }: { sink: LogSink; linesBefore: number },
): Promise<LogSink> {
  const stored = await logs.read(logOf(run), Math.max(0, linesBefore - PAGE), PAGE);
  sink([{ at: Date.now(), stream: "meta", text: "Shipway was restarted; the command went on meanwhile." }]);
  return withoutGiven(sink, stored, mask);
}

const remember =
  (sink: LogSink, seen: LogLine[]): LogSink =>
  (lines) => {
    seen.push(...lines);
    seen.splice(0, seen.length - PAGE);
    sink(lines);
  };
