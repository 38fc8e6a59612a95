import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { runProgram } from "../../../shared/run-program.ts";
import { sleep } from "../../../shared/until.ts";
import { checkOut } from "../../checkout.ts";
import { conclude, type EndState, outcomeOf, tooLong } from "../../conclude-step.ts";
import { diskFull } from "../../disk-full.ts";
import type { PipelineContext, StepOptions, StepOutcome, StepPlan } from "../../executor.ts";
import { restoreArtifacts } from "../../place-artifacts.ts";
import { type LogPlace, newStepLog, type StepLog } from "../../step-log.ts";
import { CLONE_DIR, SCRIPTS_DIR } from "../../step-places.ts";
import { renderStepScript } from "../../step-script.ts";
import { keepArtifacts } from "./artifacts.ts";
import type { StepCache } from "./caches.ts";
import { messageOf, statusOf, toDockerError } from "./docker-errors.ts";
import { readLogs } from "./follow-logs.ts";
import { ServiceFailure, startServices } from "./services.ts";
import { mountsOf, resolveCaches, restoreCaches, saveCaches } from "./step-caches.ts";
import { toDockerEnv } from "./step-containers.ts";
import { type ExecutorParts, ensureImage, newStepRun, removeContainers, type StepRun } from "./step-run.ts";

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
  const checkout = prepareCheckout(run, image);
  const services = startServices(run, image);
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

async function prepareCheckout(run: StepRun, image: Promise<Docker.ImageInspectInfo>): Promise<StepCache[]> {
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
  const caches = step.caches.length === 0 ? [] : await restoreCaches(run, await image);
  if (step.runAsUser !== undefined && step.runAsUser !== 0) await runProgram(["chmod", "-R", "a+rwX", dirs.build]);
  return caches;
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
  const caches = await resolveCaches(run, info);
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
  const newLog = (from: LogPlace) => newStepLog(step, nonce, from, run.log, options.onProgress);
  const stop = () => {
    // Whatever goes wrong here is seen by the wait below, or tried again at the end.
    removeContainers(run).catch(() => undefined);
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    const { log, state } = await followToEnd(container, { lines: skip }, newLog);
    const ended = { ...run, canceled: options.signal?.aborted === true, timedOut: run.timeOver.aborted };
    const outcome = conclude(ended, log, state);
    if (state && !signal.aborted) await collect(run, container, outcome, caches);
    if (outcome.status === "failed" && !signal.aborted) await remarkStoppedServices(run);
    return await finish(run, outcome);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Reads the container's output until it has ended. There is no state when it was removed meanwhile. */
async function followToEnd(
  container: Docker.Container,
  from: LogPlace,
  newLog: (from: LogPlace) => StepLog,
): Promise<{ log: StepLog; state?: EndState }> {
  const log = newLog(from);
  // A connection that breaks makes the reading fail; the client's own wait would then never return, so it is not waited for alone.
  const reading = readLogs(container, true, log.take).then(() => "read" as const);
  const ended = container.wait().then(() => "ended" as const);
  for (const promise of [reading, ended]) promise.catch(() => undefined);
  try {
    const first = await Promise.race([reading, ended]);
    // The engine closes the output and reports the end at almost the same moment; neither may keep us if it does not.
    const patience = sleep(5_000).then(() => "neither" as const);
    const second = await Promise.race([first === "read" ? ended : reading, patience]);
    if (first === "read" && second === "neither") await ended;
    const { State } = await container.inspect();
    const state = { exitCode: State.ExitCode, outOfMemory: State.OOMKilled, endedAt: Date.parse(State.FinishedAt) };
    if (log.isComplete()) return { log, state };
    // The engine's stream can end before a last unfinished line, and a killed script says nothing: what the engine stored is the whole.
    const whole = newLog(log.place());
    await readLogs(container, false, whole.take);
    return { log: whole, state };
  } catch (error) {
    if (statusOf(error) === 404 || statusOf(error) === 409) return { log };
    throw error;
  }
}

/** What the step leaves for later ones. */
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
  if (outcome.status === "passed") await saveCaches(run, container, caches);
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

function isNoSpace(error: unknown): boolean {
  return typeof error === "object" && error !== null && "code" in error && error.code === "ENOSPC";
}
