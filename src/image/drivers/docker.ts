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
import { findImage, parseMessage, pullImage, removeUnused, toDockerError } from "./engine-images.ts";
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
      await pullImage(docker, reference, { log, now, ...(signal ? { signal } : {}) });
      const image = await find(reference);
      if (!image)
        throw fail("IMAGE_UNAVAILABLE", { message: `The engine pulled ${reference} and yet does not have it.` });
      return { digest: image.Id };
    },
    async prune(app, keep) {
      const images = await docker.listImages({ filters: { label: [`shipway.app=${app}`] } }).catch(rethrow);
      const removed: string[] = [];
      for (const { RepoTags, RepoDigests } of images) {
        const names = (RepoTags ?? []).filter((name) => name.startsWith(`${namespace}/${app}/`));
        const gone: string[] = [];
        for (const name of names.filter((name) => !keep.includes(name)))
          if (await removeUnused(docker, name)) gone.push(name);
        removed.push(...gone);
        // One that was pulled has its registry's name, too, and would stay under that.
        if (gone.length === (RepoTags ?? []).length)
          for (const digest of RepoDigests ?? []) await removeUnused(docker, digest);
      }
      return removed;
    },
  };
}

function built(
  plan: ImagePlan,
  image: Docker.ImageInspectInfo,
  how: { reused: boolean; durationMs: number },
): BuildOutcome {
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

function rethrow(error: unknown): never {
  throw toDockerError(error);
}
