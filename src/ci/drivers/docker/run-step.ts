import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import type { LogLine, LogSink } from "../../../shared/log-line.ts";
import { runProgram } from "../../../shared/run-program.ts";
import { sleep } from "../../../shared/until.ts";
import type { PipelineContext, StepOptions, StepOutcome, StepPlan } from "../../executor.ts";
import { renderStepScript } from "../../step-script.ts";
import { keepArtifacts, restoreArtifacts } from "./artifacts.ts";
import { isExpired, resolveCache, restoreCache, type StepCache, saveFromArchive, saveFromCheckout } from "./caches.ts";
import { checkOut } from "./checkout.ts";
import { diskFull, messageOf, statusOf, toDockerError } from "./docker-errors.ts";
import { readLogs } from "./follow-logs.ts";
import { ServiceFailure, type Services, startServices } from "./services.ts";
import type { StepContainers, StepKey } from "./step-containers.ts";
import { expandVariables, stepEnvironment, toDockerEnv } from "./step-environment.ts";
import { CLONE_DIR, SCRIPTS_DIR, type StepDirs, type StepFiles } from "./step-files.ts";
import { newStepLog, type StepLog } from "./step-log.ts";

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

/** The step's container, running or ended, and what its labels say. */
type Attached = { container: Docker.Container; nonce: string; linesBefore: number };

export async function runStep(
  parts: ExecutorParts,
  context: PipelineContext,
  step: StepPlan,
  log: LogSink,
  options: StepOptions,
): Promise<StepOutcome> {
  const known = await parts.files.readOutcome(context.runId, step.id);
  if (known) return known;
  const key = { instance: parts.instance, runId: context.runId, stepId: step.id };
  try {
    const found = await parts.containers.list(key);
    const main = found.find(({ Labels, State }) => Labels["shipway.role"] === "step" && State !== "created");
    const startedAt = Number(main?.Labels["shipway.started"] ?? parts.now());
    const run = await newStepRun(parts, key, context, step, log, options, startedAt);
    if (main) return await goOn(run, main);
    // A crash while the step was being set up: nothing of the user's has run yet.
    await parts.containers.remove(found.map(({ Id }) => Id));
    return await runFresh(run);
  } catch (error) {
    if (isNoSpace(error)) throw diskFull(`run step "${step.name}"`, error);
    throw toDockerError(error, `run step "${step.name}"`);
  }
}

async function newStepRun(
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

async function runFresh(run: StepRun): Promise<StepOutcome> {
  const { signal } = run;
  // Ends what runs side by side as soon as one part has failed.
  const failed = new AbortController();
  const setUp: StepRun = { ...run, signal: AbortSignal.any([signal, failed.signal]) };
  try {
    signal.throwIfAborted();
    const prepared = await prepare(setUp, failed);
    return await watch(run, prepared.attached, prepared.caches);
  } catch (error) {
    const ended = endOfSetUp(run, error);
    await removeContainers(run);
    if (!ended) throw error;
    return await finish(run, ended);
  }
}

/** The outcome of a step that did not come to its script, or undefined when it is an error. */
function endOfSetUp(run: StepRun, error: unknown): StepOutcome | undefined {
  if (run.options.signal?.aborted) return outcomeOf(run, { status: "canceled", reason: "canceled" });
  if (run.timeOver.aborted) return outcomeOf(run, { status: "failed", reason: tooLong(run.step) });
  if (error instanceof ServiceFailure) {
    for (const line of error.lines) run.remark(`${error.service}: ${line}`);
    return outcomeOf(run, { status: "failed", reason: error.message, lastLines: error.lines });
  }
  if (/exec: "?\/bin\/sh|\/bin\/sh: no such file/.test(messageOf(error))) {
    return outcomeOf(run, { status: "failed", reason: `the image ${run.step.image} has no /bin/sh to run the script` });
  }
  return undefined;
}

/** Everything that must be there before the script: side by side, what does not depend on another part. */
async function prepare(run: StepRun, failed: AbortController): Promise<{ attached: Attached; caches: StepCache[] }> {
  const { step, dirs } = run;
  const image = ensureImage(run, step.image, step.login);
  const checkout = prepareCheckout(run, image.then(homeOf));
  const services = startServices(
    run,
    image.then(() => undefined),
  );
  const [, caches, started] = await allSettledOrAbort([image, checkout, services] as const, failed);
  const nonce = randomBytes(12).toString("hex");
  const linesBefore = run.logged();
  await writeScripts(run, nonce);
  const container = await run.containers.create(run.key, {
    role: "step",
    image: step.image,
    entrypoint: ["/bin/sh", join(SCRIPTS_DIR, "main.sh")],
    command: [],
    env: toDockerEnv(run.environment),
    user: String(step.runAsUser ?? 0),
    workingDir: CLONE_DIR,
    memoryMiB: step.memoryMiB,
    mounts: [
      { source: dirs.build, target: CLONE_DIR },
      { source: dirs.scripts, target: SCRIPTS_DIR, readOnly: true },
      ...mountsOf(run, caches),
    ],
    ...(started ? { networkOf: started.namespace.container.id } : {}),
    labels: { "shipway.nonce": nonce, "shipway.started": String(run.startedAt), "shipway.lines": String(linesBefore) },
  });
  run.signal.throwIfAborted();
  await container.start();
  return { attached: { container, nonce, linesBefore }, caches };
}

/** As `Promise.all`, but the first failure ends the others and all are over when it rejects: nothing is started after the clean-up. */
async function allSettledOrAbort<T extends readonly Promise<unknown>[]>(
  promises: T,
  failed: AbortController,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  let first: { error: unknown } | undefined;
  for (const promise of promises) {
    promise.catch((error: unknown) => {
      first ??= { error };
      failed.abort(error);
    });
  }
  const results = await Promise.allSettled(promises);
  if (first) throw first.error;
  return results.map((result) => (result.status === "fulfilled" ? result.value : undefined)) as never;
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

/** Where `~` is for the step's user. */
function homeOf(image: Docker.ImageInspectInfo): string {
  const home = image.Config.Env?.find((entry) => entry.startsWith("HOME="));
  return home === undefined ? "/root" : home.slice("HOME=".length);
}

async function prepareCheckout(run: StepRun, home: Promise<string>): Promise<StepCache[]> {
  const { step, dirs, context, signal } = run;
  const startedAt = run.now();
  await checkOut(context, step.clone, dirs.build, run.searchPath, signal);
  if (step.clone.enabled) {
    run.remark(
      `cloned ${context.refName} at ${context.commit.slice(0, 10)} in ${formatDurationMs(run.now() - startedAt)}`,
    );
  }
  const files = await restoreArtifacts(run.files.artifactsRoot(context.runId), step, dirs.build);
  if (files > 0) run.remark(`restored ${files} artifact ${files === 1 ? "file" : "files"} of earlier steps`);
  const caches = step.caches.length === 0 ? [] : await restoreCaches(run, await home);
  if (step.runAsUser !== undefined && step.runAsUser !== 0) await runProgram(["chmod", "-R", "a+rwX", dirs.build]);
  return caches;
}

async function restoreCaches(run: StepRun, home: string): Promise<StepCache[]> {
  const { step, dirs, context } = run;
  const caches = await Promise.all(
    step.caches.map((cache) => resolveCache(cache, run.files.cachesDir(context.app), dirs.build, home, run.searchPath)),
  );
  return Promise.all(
    caches.flatMap((cache, index) => {
      const name = step.caches[index]?.name ?? "";
      if (cache) return restoreOne(run, cache);
      run.remark(`cache ${name}: none of its key files exists, so it is not used`);
      return [];
    }),
  );
}

async function restoreOne(run: StepRun, cache: StepCache): Promise<StepCache> {
  if (cache.hit && (await isExpired(cache, run.now()))) {
    await run.files.discard(cache.kept, (path) =>
      run.containers.removeAsRoot(run.step.image, dirname(path), basename(path)),
    );
    run.remark(`cache ${cache.name}: older than 7 days, made anew`);
    return { ...cache, hit: false };
  }
  if (!cache.hit) {
    run.remark(`cache ${cache.name}: nothing kept yet`);
    return cache;
  }
  const startedAt = run.now();
  await restoreCache(cache, run.dirs.build, mountOf(run, cache));
  run.remark(`cache ${cache.name}: restored in ${formatDurationMs(run.now() - startedAt)}`);
  return cache;
}

function mountOf(run: StepRun, cache: StepCache): string {
  return join(run.dirs.mounts, basename(cache.kept));
}

/** A kept cache outside of the checkout is mounted over its path; one that is not kept is not, since the image may have files there. */
function mountsOf(run: StepRun, caches: readonly StepCache[]): { source: string; target: string }[] {
  const mounted = caches.filter(({ hit, place }) => hit && place.kind === "container");
  return mounted.map((cache) => ({ source: mountOf(run, cache), target: cache.place.path }));
}

async function writeScripts(run: StepRun, nonce: string): Promise<void> {
  const owner = ownUser();
  const script = renderStepScript(run.step, {
    nonce,
    dir: SCRIPTS_DIR,
    ...(owner ? { giveTo: { owner, dir: CLONE_DIR } } : {}),
  });
  await Promise.all(
    Object.entries(script).map(([name, text]) => writeFile(join(run.dirs.scripts, name), text, { mode: 0o644 })),
  );
}

/** `uid:gid` when Shipway is not root: then it could neither keep nor remove what a step wrote as root. */
function ownUser(): string | undefined {
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? undefined : `${uid}:${process.getgid?.() ?? uid}`;
}

/** After a crash: the container runs or has ended. The caches it was given are resolved again from the checkout it left. */
async function goOn(run: StepRun, main: Docker.ContainerInfo): Promise<StepOutcome> {
  const { Labels, Id } = main;
  const attached = {
    container: run.docker.getContainer(Id),
    nonce: Labels["shipway.nonce"] ?? "",
    linesBefore: Number(Labels["shipway.lines"] ?? 0),
  };
  const { info } = await run.containers.ensureImage(run.step.image);
  const { dirs, context, step } = run;
  const caches = await Promise.all(
    step.caches.map((cache) =>
      resolveCache(cache, run.files.cachesDir(context.app), dirs.build, homeOf(info), run.searchPath),
    ),
  );
  return watch(
    run,
    attached,
    caches.filter((cache) => cache !== undefined),
  );
}

/** From the started container to the stored outcome. */
async function watch(
  run: StepRun,
  { container, nonce, linesBefore }: Attached,
  caches: StepCache[],
): Promise<StepOutcome> {
  const { step, signal, options } = run;
  const skip = Math.max(0, options.alreadyLogged - linesBefore);
  const log = newStepLog(step, nonce, skip, run.log, options.onProgress);
  const stop = () => {
    // Whatever goes wrong here is seen by the wait below, or tried again at the end.
    removeContainers(run).catch(() => undefined);
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    const state = await followToEnd(container, log);
    const outcome = conclude(run, log, state);
    if (state && !signal.aborted) await collect(run, container, outcome, caches);
    if (outcome.status === "failed" && !signal.aborted) await remarkStoppedServices(run);
    return await finish(run, outcome);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

type EndState = { exitCode: number; outOfMemory: boolean; endedAt: number };

/** Reads the container's output until it has ended. Undefined when it was removed meanwhile. */
async function followToEnd(container: Docker.Container, log: StepLog): Promise<EndState | undefined> {
  const reading = readLogs(container, true, log.take);
  reading.catch(() => undefined);
  try {
    await container.wait();
    // The engine ends the stream when the container ends; it must not keep us if it does not.
    await Promise.race([reading, sleep(5_000)]);
    const { State } = await container.inspect();
    if (!log.isComplete()) await readMissing(container, log);
    const endedAt = Date.parse(State.FinishedAt);
    return { exitCode: State.ExitCode, outOfMemory: State.OOMKilled, endedAt };
  } catch (error) {
    if (statusOf(error) === 404 || statusOf(error) === 409) return undefined;
    throw error;
  }
}

/** A stream that was cut, or a script that was killed: what the engine kept tells which. */
async function readMissing(container: Docker.Container, log: StepLog): Promise<void> {
  let seen = 0;
  const known = log.lines();
  await readLogs(container, false, (lines) => {
    const fresh = lines.filter((line) => line.text.startsWith("\u001d") || seen++ >= known);
    log.take(fresh);
  });
}

function conclude(run: StepRun, log: StepLog, state: EndState | undefined): StepOutcome {
  const { step, options, timeOver } = run;
  const exitCode = log.scriptExit()?.exitCode ?? state?.exitCode ?? 137;
  const endedAt = state && Number.isFinite(state.endedAt) ? state.endedAt : run.now();
  const commands = log.commands(endedAt, exitCode);
  const common = { endedAt, commands, lastLines: log.lastLines() };
  if (options.signal?.aborted) return outcomeOf(run, { ...common, status: "canceled", reason: "canceled" });
  if (timeOver.aborted) return outcomeOf(run, { ...common, status: "failed", exitCode, reason: tooLong(step) });
  if (!state) {
    const reason = "the step's container was removed while it ran: start the pipeline again";
    return outcomeOf(run, { ...common, status: "failed", reason });
  }
  if (log.scriptExit() && exitCode === 0) return outcomeOf(run, { ...common, status: "passed", exitCode });
  const failedCommand = commands.at(-1)?.command;
  return outcomeOf(run, {
    ...common,
    status: "failed",
    exitCode,
    ...(failedCommand === undefined ? {} : { failedCommand }),
    reason: whyFailed(step, log, exitCode, state, failedCommand),
  });
}

function whyFailed(
  step: StepPlan,
  log: StepLog,
  exitCode: number,
  state: EndState,
  failedCommand: string | undefined,
): string {
  const what = failedCommand === undefined ? "the script" : `\`${firstLine(failedCommand)}\``;
  if (state.outOfMemory) {
    return `${what} ran out of memory (the step has ${step.memoryMiB} MB): give the step a larger \`size\` in its definition`;
  }
  return log.scriptExit()
    ? `${what} exited with ${exitCode}`
    : `the step's container was stopped during ${what} (exit code ${exitCode})`;
}

function firstLine(command: string): string {
  const [first = "", ...rest] = command.trim().split("\n");
  return rest.length > 0 ? `${first} …` : first;
}

function tooLong(step: StepPlan): string {
  return `ran longer than ${formatDurationMs(step.maxTimeMs)} (max-time)`;
}

/** What the step leaves for later ones. A cache that cannot be kept costs time later, not the step. */
async function collect(
  run: StepRun,
  container: Docker.Container,
  outcome: StepOutcome,
  caches: readonly StepCache[],
): Promise<void> {
  const { step, dirs } = run;
  const { files, notes } = await keepArtifacts(dirs.build, step.artifacts, dirs.artifacts);
  if (files > 0) run.remark(`kept ${files} artifact ${files === 1 ? "file" : "files"}`);
  for (const note of notes) run.remark(note);
  if (outcome.status !== "passed") return;
  for (const cache of caches.filter(({ hit }) => !hit)) {
    const startedAt = run.now();
    try {
      const saved = await saveCache(run, container, cache);
      if (saved) run.remark(`cache ${cache.name}: kept in ${formatDurationMs(run.now() - startedAt)}`);
    } catch (error) {
      run.remark(`cache ${cache.name} was not kept: ${messageOf(error)}`);
    }
  }
}

async function saveCache(run: StepRun, container: Docker.Container, cache: StepCache): Promise<boolean> {
  if (cache.place.kind === "checkout") return saveFromCheckout(cache, run.dirs.build);
  try {
    const archive = await container.getArchive({ path: cache.place.path });
    return await saveFromArchive(cache, archive, extractTar);
  } catch (error) {
    // The step never made the directory.
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** The system's tar, which refuses names and links that lead out of the directory. */
function extractTar(dir: string): NodeJS.WritableStream & { done: Promise<void> } {
  const child = spawn("tar", ["-x", "-p", "--numeric-owner", "--strip-components=1", "-C", dir], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000);
  });
  const done = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`tar exited with ${code}: ${complaint.trim()}`)),
    );
  });
  done.catch(() => undefined);
  return Object.assign(child.stdin, { done });
}

/** A service that stopped in the middle is the likely reason of a failure that looks like another. */
async function remarkStoppedServices(run: StepRun): Promise<void> {
  const found = await run.containers.list(run.key);
  const stopped = found.filter(({ Labels, State }) => Labels["shipway.role"] === "service" && State === "exited");
  for (const { Labels, Status } of stopped)
    run.remark(`service ${Labels["shipway.service"]} stopped while the step ran: ${Status}`);
}

/** Stored before the containers go: a crash in between finds either. */
async function finish(run: StepRun, outcome: StepOutcome): Promise<StepOutcome> {
  const { files, dirs, containers, context, step } = run;
  await files.writeOutcome(context.runId, outcome);
  await removeContainers(run);
  const asRoot = (path: string) => containers.removeAsRoot(step.image, dirname(path), basename(path));
  for (const dir of [dirs.build, dirs.mounts, dirs.scripts]) await files.discard(dir, asRoot);
  return outcome;
}

async function removeContainers(run: StepRun): Promise<void> {
  const found = await run.containers.list(run.key);
  await run.containers.remove(found.map(({ Id }) => Id));
}

function outcomeOf(run: StepRun, rest: Partial<StepOutcome> & Pick<StepOutcome, "status">): StepOutcome {
  const { step, startedAt } = run;
  return { id: step.id, name: step.name, startedAt, endedAt: run.now(), commands: [], lastLines: [], ...rest };
}

function isNoSpace(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "ENOSPC";
}

export type { Services };
