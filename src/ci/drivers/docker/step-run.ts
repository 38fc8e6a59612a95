import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import type { LogLine, LogSink } from "../../../shared/log-line.ts";
import type { PipelineContext, StepOptions, StepPlan } from "../../executor.ts";
import { expandVariables, stepEnvironment } from "../../step-environment.ts";
import type { StepContainers, StepKey } from "./step-containers.ts";
import type { StepDirs, StepFiles } from "./step-files.ts";

export type ExecutorParts = {
  docker: Docker;
  instance: string;
  searchPath: string;
  serviceDeadlineMs: number;
  now: () => number;
  containers: StepContainers;
  files: StepFiles;
};

/** One call of `runStep`: what every phase needs. */
export type StepRun = ExecutorParts & {
  key: StepKey;
  context: PipelineContext;
  step: StepPlan;
  dirs: StepDirs;
  environment: Record<string, string>;
  options: StepOptions;
  log: LogSink;
  /** A remark of ours in the step's log. */
  remark: (text: string) => void;
  /** Lines logged so far, those from before a crash included. */
  logged: () => number;
  startedAt: number;
  /** Aborts when the step is canceled or its time is over. */
  signal: AbortSignal;
  timeOver: AbortSignal;
};

export async function newStepRun(
  parts: ExecutorParts,
  key: StepKey,
  context: PipelineContext,
  step: StepPlan,
  log: LogSink,
  options: StepOptions,
  startedAt: number,
): Promise<StepRun> {
  let logged = options.alreadyLogged;
  const counting: LogSink = (lines) => {
    logged += lines.length;
    log(lines);
  };
  const timeOver = AbortSignal.timeout(Math.max(0, startedAt + step.maxTimeMs - parts.now()));
  return {
    ...parts,
    key,
    context,
    step,
    dirs: await parts.files.makeStepDirs(context.runId, step),
    environment: stepEnvironment(context, step),
    options,
    log: counting,
    remark: (text) => counting([{ at: parts.now(), stream: "meta", text } satisfies LogLine]),
    logged: () => logged,
    startedAt,
    timeOver,
    signal: options.signal ? AbortSignal.any([options.signal, timeOver]) : timeOver,
  };
}

/** A pull cannot be taken back, but nobody has to wait for it. */
export async function ensureImage(
  run: StepRun,
  image: string,
  login: StepPlan["login"],
): Promise<Docker.ImageInspectInfo> {
  const startedAt = run.now();
  const expanded = login && {
    username: expandVariables(login.username, run.environment),
    password: expandVariables(login.password, run.environment),
  };
  const ensured = run.containers.ensureImage(image, expanded);
  ensured.catch(() => undefined);
  const { info, pulled } = await Promise.race([ensured, aborted(run.signal)]);
  if (pulled) run.remark(`pulled ${image} in ${formatDurationMs(run.now() - startedAt)}`);
  return info;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Removes all containers of the step. */
export async function removeContainers(run: StepRun): Promise<void> {
  const found = await run.containers.list(run.key);
  await run.containers.remove(found.map(({ Id }) => Id));
}
