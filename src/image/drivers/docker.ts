import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type Docker from "dockerode";
import { fail, ShipwayError } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { GitCommand } from "../../source/git-command.ts";
import type { BuildOutcome, ImageBuilder, ImagePlan } from "../builder.ts";
import { openContextTar } from "../context-tar.ts";
import { readDockerfile } from "../read-dockerfile.ts";
import { diskFull, judgeBuildEnd } from "./build-failure.ts";
import { newBuildProgress } from "./build-progress.ts";
import { decodeBuildTrace } from "./buildkit-trace.ts";
import { shareInFlight } from "./share-in-flight.ts";

/** Below this a build is refused: an engine whose disk is full can neither build nor keep logs for what runs. */
const MIN_FREE_BYTES = 1024 ** 3;

type Options = {
  docker: Docker;
  git: GitCommand;
  /** First part of the names of this installation's images; only those are pruned. */
  namespace?: string;
  /** Free bytes where the engine keeps its images; undefined when it is not on this machine. */
  freeBytes?: () => Promise<number | undefined>;
  now?: () => number;
};

/**
 * Builds with the engine's own BuildKit, through its API (1.39 and later): no buildx plugin, no session. So base images are those the engine has or can pull without a login,
 * and `RUN --mount=type=secret` or `ssh` is not available.
 */
export function dockerBuilder({
  docker,
  git,
  namespace = "shipway",
  freeBytes,
  now = Date.now,
}: Options): ImageBuilder {
  const share = shareInFlight<BuildOutcome>();
  const find = (name: string) => findImage(docker, name);

  const buildNow = async (plan: ImagePlan, log: LogSink, signal: AbortSignal): Promise<BuildOutcome> => {
    const beganAt = now();
    const existing = await find(plan.name);
    if (existing) return built(plan, existing, { reused: true, durationMs: now() - beganAt });
    await refuseFullDisk(freeBytes);
    const ended = await runBuild(docker, git, plan, { log, signal, now });
    if (ended.error !== undefined) {
      const verdict = judgeBuildEnd({
        plan,
        error: ended.error,
        step: ended.step,
        dockerfile: await readDockerfile(plan, git),
      });
      if (verdict instanceof ShipwayError) throw verdict;
      return { status: "failed", failure: verdict };
    }
    const image = await find(plan.name);
    if (!image)
      throw fail("DOCKER_FAILED", { message: `The engine ended the build of ${plan.name} without an image.` });
    return built(plan, image, { reused: false, durationMs: now() - beganAt });
  };

  return {
    build: (plan, log, signal) => share(plan.name, log, signal, (all, stop) => buildNow(plan, all, stop)),
    async fetch(reference, log, signal) {
      const existing = await find(reference);
      if (existing) return { digest: existing.Id };
      await pull(docker, reference, { log, now, ...(signal ? { signal } : {}) });
      const image = await find(reference);
      if (!image)
        throw fail("IMAGE_UNAVAILABLE", { message: `The engine pulled ${reference} and yet does not have it.` });
      return { digest: image.Id };
    },
    async prune(app, keep) {
      const images = await docker.listImages({ filters: { label: [`shipway.app=${app}`] } }).catch(rethrow);
      const names = images
        .flatMap(({ RepoTags }) => RepoTags ?? [])
        .filter((name) => name.startsWith(`${namespace}/${app}/`));
      const removed: string[] = [];
      for (const name of names.filter((name) => !keep.includes(name)))
        if (await removeUnused(docker, name)) removed.push(name);
      return removed;
    },
  };
}

type Inspected = Docker.ImageInspectInfo;

async function findImage(docker: Docker, name: string): Promise<Inspected | undefined> {
  try {
    return await docker.getImage(name).inspect();
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw toDockerError(error);
  }
}

function built(plan: ImagePlan, image: Inspected, how: { reused: boolean; durationMs: number }): BuildOutcome {
  const exposedPorts = Object.keys(image.Config.ExposedPorts ?? {}).map((port) => Number.parseInt(port, 10));
  return {
    status: "built",
    image: {
      service: plan.service,
      name: plan.name,
      digest: image.Id,
      ...how,
      exposedPorts: exposedPorts.sort((a, b) => a - b),
    },
  };
}

async function refuseFullDisk(freeBytes: Options["freeBytes"]): Promise<void> {
  const free = await freeBytes?.();
  if (free === undefined || free >= MIN_FREE_BYTES) return;
  const mib = (bytes: number) => `${Math.floor(bytes / 1024 ** 2)} MiB`;
  throw diskFull(
    `Nothing was built: the engine's disk has ${mib(free)} left, a build needs at least ${mib(MIN_FREE_BYTES)}.`,
  );
}

type BuildRun = { log: LogSink; signal: AbortSignal; now: () => number };
type BuildResult = { error?: string; step: ReturnType<ReturnType<typeof newBuildProgress>["failedStep"]> };

async function runBuild(
  docker: Docker,
  git: GitCommand,
  plan: ImagePlan,
  { log, signal, now }: BuildRun,
): Promise<BuildResult> {
  // The engine would take a context that breaks off for a slow one: then the request is cut too.
  const cut = new AbortController();
  const stop = AbortSignal.any([signal, cut.signal]);
  const remark = (text: string) => log([{ at: now(), stream: "meta", text }]);
  const context = await openContextTar(plan, git, { remark, signal: stop });
  let contextError: unknown;
  context.once("error", (error) => {
    contextError = error;
    cut.abort(error);
  });
  const progress = newBuildProgress(log);
  try {
    const error = await followBuild(await requestBuild(docker, plan, context, stop), progress);
    return { ...(error === undefined ? {} : { error }), step: progress.failedStep() };
  } catch (error) {
    signal.throwIfAborted();
    throw toDockerError(contextError ?? error);
  } finally {
    context.destroy();
  }
}

function requestBuild(docker: Docker, plan: ImagePlan, context: Readable, signal: AbortSignal): Promise<Readable> {
  const query = {
    // BuildKit. Not through `buildImage`: for a version "2" it opens a gRPC session that only private registries need.
    version: "2",
    t: plan.name,
    dockerfile: plan.dockerfile,
    buildargs: JSON.stringify(plan.args),
    // No commit: equal content must give equal bytes.
    labels: JSON.stringify({ "shipway.app": plan.app, "shipway.service": plan.service }),
    ...(plan.target === undefined ? {} : { target: plan.target }),
  };
  return new Promise((resolve, reject) => {
    const request = {
      path: "/build?",
      method: "POST",
      file: context,
      options: query,
      abortSignal: signal,
      isStream: true,
      statusCodes: { 200: true, 400: "bad request", 500: "server error" },
    };
    docker.modem.dial(request, (error: unknown, response: unknown) =>
      error ? reject(error) : resolve(response as Readable),
    );
  });
}

/** Reads the answer to its end; returns the engine's error text, or undefined when it made an image. */
async function followBuild(
  response: Readable,
  progress: ReturnType<typeof newBuildProgress>,
): Promise<string | undefined> {
  let error: string | undefined;
  let made = false;
  // Readline would swallow the error of a connection that breaks off.
  const broken = new Promise<never>((_, reject) => response.once("error", reject));
  broken.catch(() => {});
  const lines = createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY });
  const read = async () => {
    for await (const line of lines) {
      const message = parseMessage(line);
      if (message.id === "moby.buildkit.trace" && typeof message.aux === "string")
        progress.add(decodeBuildTrace(message.aux));
      if (message.id === "moby.image.id") made = true;
      if (typeof message.error === "string") error = message.error;
    }
  };
  await Promise.race([read(), broken]);
  if (error === undefined && !made)
    throw fail("DOCKER_UNREACHABLE", {
      message: "Docker ended the connection before the build ended.",
      hint: "See `docker info`, then push again.",
    });
  return error;
}

function parseMessage(line: string): { id?: unknown; aux?: unknown; error?: unknown } {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? message : {};
  } catch {
    // A connection that breaks off leaves half a line; the missing end is what counts, and it is seen by the caller.
    return {};
  }
}

/** Without a tag the engine would pull every tag of the repository. */
function withTag(reference: string): string {
  return /@sha256:|:[\w.-]+$/.test(reference) ? reference : `${reference}:latest`;
}

async function pull(
  docker: Docker,
  reference: string,
  { log, now, signal }: { log: LogSink; now: () => number; signal?: AbortSignal },
): Promise<void> {
  const say = (text: string) => log([{ at: now(), stream: "meta", text }]);
  say(`${reference} is not on this machine: pulling it`);
  try {
    const stream = await docker.pull(withTag(reference), signal ? { abortSignal: signal } : {});
    for await (const line of createInterface({ input: stream as Readable })) {
      const message: { error?: unknown; status?: unknown; id?: unknown } = parseMessage(line);
      if (typeof message.error === "string") throw new Error(message.error);
      // Each layer reports its progress many times a second; only its end is worth a line.
      if (typeof message.status === "string" && /^(Pull complete|Digest|Status)/.test(message.status))
        say(`${message.id ?? ""} ${message.status}`.trim());
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (isUnreachable(error)) throw toDockerError(error);
    throw fail("IMAGE_UNAVAILABLE", {
      message: `The image ${reference} cannot be pulled: ${textOf(error)}`,
      hint: "Check the name and the engine's network; `docker pull` shows the same error.",
      cause: error,
    });
  }
}

/** False when a container uses the image, or somebody else removed it. */
async function removeUnused(docker: Docker, name: string): Promise<boolean> {
  try {
    await docker.getImage(name).remove();
    return true;
  } catch (error) {
    if (statusOf(error) === 409 || statusOf(error) === 404) return false;
    throw toDockerError(error);
  }
}

function rethrow(error: unknown): never {
  throw toDockerError(error);
}

function toDockerError(error: unknown): ShipwayError {
  if (error instanceof ShipwayError) return error;
  if (isUnreachable(error)) {
    return fail("DOCKER_UNREACHABLE", {
      message: `The Docker Engine does not answer: ${textOf(error)}.`,
      hint: "Start it, and check that this user may open its socket: `docker info`.",
      cause: error,
    });
  }
  if (/no space left on device/i.test(textOf(error)))
    return diskFull(`The engine has no space left: ${textOf(error)}.`);
  return fail("DOCKER_FAILED", { message: `The Docker Engine refused: ${textOf(error)}`, cause: error });
}

function isUnreachable(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return (
    typeof code === "string" && ["ECONNREFUSED", "ECONNRESET", "ENOENT", "EACCES", "EPIPE", "ETIMEDOUT"].includes(code)
  );
}

function statusOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : undefined;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
