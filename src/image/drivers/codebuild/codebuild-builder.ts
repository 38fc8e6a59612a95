import type { Build } from "@aws-sdk/client-codebuild";
import { type Bucket, openBucket } from "../../../aws/bucket.ts";
import type { AwsOptions } from "../../../aws/calls.ts";
import { fail, ShipwayError } from "../../../shared/errors.ts";
import type { LogSink } from "../../../shared/log-line.ts";
import { sleep } from "../../../shared/until.ts";
import type { GitCommand } from "../../../source/git-command.ts";
import type { BuildOutcome, ImageBuilder, ImagePlan } from "../../builder.ts";
import { readDockerfile } from "../../read-dockerfile.ts";
import { digestAt } from "../../registry/push-image.ts";
import { endpointOf, parseImageReference, resolveImage } from "../../registry/resolve-image.ts";
import { ecrLogins } from "../ecr-login.ts";
import { type EcrRegistry, ecrRegistry, hostOfUri, repositoryName } from "../ecr-registry.ts";
import { shareInFlight } from "../share-in-flight.ts";
import { type BuildClients, openBuildClients } from "./aws-clients.ts";
import { type Claim, newClaims } from "./build-claim.ts";
import { BUILDSPEC, type BuildJob, contentHash, jobFolder, layJob } from "./build-job.ts";
import { type FollowTimes, followBuild, stateOf } from "./follow-build.ts";
import { judgeBuild } from "./judge-build.ts";
import { pruneImages } from "./prune-images.ts";

/** What is to be known of an account. */
type Settings = { region: string; workBucket: string; buildProject: string };

export type CodeBuildTimes = FollowTimes & {
  /** How long a build that was asked for may stay away from the list of builds. Below the five minutes for which a token is remembered (CodeBuild API, StartBuild). */
  unseenMs: number;
  /** How old a failure may be and still be told, where its outcome was never heard: later a build may end otherwise. */
  staleMs: number;
};

export type CodeBuildOptions = {
  settings: Settings;
  install: string;
  git: GitCommand;
  /** First part of the names of this installation's images. */
  namespace?: string;
  aws?: Omit<AwsOptions, "region">;
  /** Where images are really pushed to, of a registry beside ECR that wants no login. Then no cache of layers is kept. */
  registryEndpoint?: string | undefined;
  times?: CodeBuildTimes;
  now?: () => number;
};

const TIMES: CodeBuildTimes = {
  pollMs: 1_500,
  gapMs: 20_000,
  lagMs: 60_000,
  unseenMs: 4 * 60_000,
  staleMs: 60 * 60_000,
};

/** Tag of the layers that builds of a service leave for the next. */
const CACHE_TAG = "cache";
/** BatchGetBuilds takes at most 100 (CodeBuild API reference), which is also a page of ListBuildsForProject. */
const MOST_PAGES = 5;
/** How often it is looked whether a build that was stopped has ended. */
const STOP_LOOKS = 10;

type Driver = {
  bucket: Bucket;
  clients: BuildClients;
  ecr: EcrRegistry;
  claims: ReturnType<typeof newClaims>;
  /** Builds that are being stopped, by the names of their images. */
  stopping: Map<string, Promise<void>>;
  options: CodeBuildOptions;
  times: CodeBuildTimes;
  now: () => number;
};

/**
 * Builds in AWS CodeBuild, with nothing of it on this machine: the context goes to S3, the image to Amazon ECR, the log comes from CloudWatch. A build is found again by its image's name, so a
 * repetition after Shipway was killed follows the one that runs.
 */
export async function openCodeBuilder(options: CodeBuildOptions): Promise<ImageBuilder> {
  const { settings, install, namespace = "shipway", registryEndpoint, now = Date.now } = options;
  const aws: AwsOptions = { ...options.aws, region: settings.region };
  const [bucket, clients] = await Promise.all([
    openBucket({ ...aws, bucket: settings.workBucket }),
    openBuildClients(aws),
  ]);
  const ecr = ecrRegistry({ install, aws, registryEndpoint });
  const claims = newClaims(bucket, install, now);
  const times = options.times ?? TIMES;
  const driver: Driver = { bucket, clients, ecr, claims, stopping: new Map(), options, times, now };
  const share = shareInFlight<BuildOutcome>();
  const loginFor = ecrLogins();
  const told = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw clients.toError(ecr.toError(error));
    }
  };
  return {
    build: (plan, log, signal) => share(plan.name, log, signal, (all, stop) => told(buildNow(driver, plan, all, stop))),
    fetch: async (reference, log) => {
      const { host } = parseImageReference(reference);
      const found = await resolveImage(reference, { endpoint: endpointOf(host), authorization: await loginFor(host) });
      log([{ at: now(), stream: "meta", text: `${reference} is ${found.reference}` }]);
      return found;
    },
    prune: (app, keep) => told(pruneImages({ ecr, install, namespace }, app, keep)),
  };
}

async function buildNow(driver: Driver, plan: ImagePlan, log: LogSink, signal: AbortSignal): Promise<BuildOutcome> {
  const { ecr, now, options } = driver;
  const beganAt = now();
  // One that is being stopped must not be taken for the one that is wanted now.
  await driver.stopping.get(plan.name);
  const repository = repositoryName(options.install, plan.app, plan.service);
  const uri = await ecr.ensureRepository(repository, plan.app);
  const find = async () => digestAt(await ecr.signIn(hostOfUri(uri)), repository, contentHash(plan));
  const built = (digest: string, reused: boolean): BuildOutcome => {
    const { service, name } = plan;
    const image = { service, name, digest, reference: `${uri}@${digest}`, reused, exposedPorts: [] };
    return { status: "built", image: { ...image, durationMs: now() - beganAt } };
  };
  for (;;) {
    // Not with a claim: the rest of that build's log is still to be told, also where it has left its image meanwhile.
    const known = (await driver.claims.isTaken(plan)) ? undefined : await find();
    if (known !== undefined) return built(known, true);
    const running = await findOrStart(driver, plan, uri, {
      log,
      signal,
      isThere: async () => (await find()) !== undefined,
    });
    if (running === undefined) continue;
    const left = await followOrStop(driver, plan, running.id, { log, signal });
    const digest = await find();
    await driver.claims.forget(plan);
    if (digest !== undefined) return built(digest, false);
    // Stopped by who had begun it, or its image has gone since: that says nothing about now.
    if (!running.isNew && left.ending?.error === undefined && isOver(left.state.status)) continue;
    const verdict = judgeBuild({ ...left, plan, dockerfile: await readDockerfile(plan, options.git) });
    if (verdict instanceof ShipwayError) throw verdict;
    return { status: "failed", failure: verdict };
  }
}

const isOver = (status: string): boolean => status === "STOPPED" || status === "SUCCEEDED";

async function followOrStop(
  driver: Driver,
  plan: ImagePlan,
  id: string,
  { log, signal }: Pick<Watch, "log" | "signal">,
) {
  const { clients, now, stopping, times } = driver;
  try {
    return await followBuild(clients, id, times, { log, signal, now });
  } catch (error) {
    if (!signal.aborted) throw error;
    const stopped = stop(driver, plan, id).catch(() => undefined);
    stopping.set(plan.name, stopped);
    await stopped;
    if (stopping.get(plan.name) === stopped) stopping.delete(plan.name);
    throw error;
  }
}

type Watch = { log: LogSink; signal: AbortSignal; isThere(): Promise<boolean> };

/** The build that runs for this image, or one that ended and nobody heard of; else a new one. Undefined when a claim was in the way that is of no use any more. */
async function findOrStart(
  driver: Driver,
  plan: ImagePlan,
  uri: string,
  watch: Watch,
): Promise<{ id: string; isNew: boolean } | undefined> {
  const { claims, now, times } = driver;
  watch.signal.throwIfAborted();
  const { claim, isNew } = await claims.take(plan);
  if (!isNew) {
    const found = await findBuild(driver, claim);
    if (found?.id !== undefined && isOfUse(found, now() - times.staleMs)) return { id: found.id, isNew: false };
    if (found !== undefined || now() - claim.at > times.unseenMs) {
      await claims.forget(plan);
      return undefined;
    }
    // It was claimed a moment ago, and perhaps started: the same token starts no second one.
  } else if (await watch.isThere()) {
    // Somebody else's build has just ended.
    await claims.forget(plan);
    return undefined;
  }
  const id = await start(driver, plan, uri, claim, watch);
  await claims.record(plan, { ...claim, build: id });
  return { id, isNew: true };
}

/** One that was stopped says nothing about the image, one that ended long ago nothing about now. */
const isOfUse = ({ buildComplete, buildStatus, endTime }: Build, staleAt: number): boolean =>
  buildStatus !== "STOPPED" && (buildComplete !== true || (endTime?.getTime() ?? 0) >= staleAt);

async function findBuild({ clients, options, times }: Driver, claim: Claim): Promise<Build | undefined> {
  const { codebuild } = clients;
  if (claim.build !== undefined) {
    const { builds } = await codebuild.batchGetBuilds({ ids: [claim.build] });
    return builds?.[0];
  }
  const since = claim.at - times.unseenMs;
  let nextToken: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const listed = await codebuild.listBuildsForProject({
      projectName: options.settings.buildProject,
      sortOrder: "DESCENDING",
      ...(nextToken !== undefined && { nextToken }),
    });
    if ((listed.ids ?? []).length === 0) return undefined;
    const { builds = [] } = await codebuild.batchGetBuilds({ ids: listed.ids });
    const found = builds.find(({ environment }) =>
      environment?.environmentVariables?.some(({ name, value }) => name === TOKEN_VARIABLE && value === claim.token),
    );
    if (found !== undefined) return found;
    nextToken = listed.nextToken;
    if (nextToken === undefined || builds.some(({ startTime }) => (startTime?.getTime() ?? since) < since))
      return undefined;
  }
  return undefined;
}

const TOKEN_VARIABLE = "SHIPWAY_BUILD";

async function start(driver: Driver, plan: ImagePlan, uri: string, claim: Claim, watch: Watch): Promise<string> {
  const { bucket, clients, now, options } = driver;
  const { install, git, settings } = options;
  const remark = (text: string) => watch.log([{ at: now(), stream: "meta", text }]);
  const job = await jobFor(driver, plan, uri);
  const uploaded = await layJob({ bucket, install, git, now }, plan, job, { remark, signal: watch.signal });
  if (uploaded > 0) remark(`the build context went to S3 (${Math.ceil(uploaded / 1024)} KiB)`);
  watch.signal.throwIfAborted();
  const { build } = await clients.codebuild.startBuild({
    projectName: settings.buildProject,
    idempotencyToken: claim.token,
    sourceTypeOverride: "S3",
    sourceLocationOverride: `${bucket.name}/${jobFolder(install, plan)}`,
    buildspecOverride: BUILDSPEC,
    artifactsOverride: { type: "NO_ARTIFACTS" },
    environmentVariablesOverride: [
      { name: TOKEN_VARIABLE, value: claim.token, type: "PLAINTEXT" },
      { name: "SHIPWAY_IMAGE", value: plan.name, type: "PLAINTEXT" },
    ],
  });
  if (build?.id === undefined)
    throw fail("CODEBUILD_FAILED", {
      message: `CodeBuild took the build of ${plan.service} and named none.`,
      hint: "Push again.",
    });
  remark(`CodeBuild builds it: ${build.id}`);
  return build.id;
}

async function jobFor({ ecr, options }: Driver, plan: ImagePlan, uri: string): Promise<BuildJob> {
  const { install, registryEndpoint, settings } = options;
  const name = repositoryName(install, plan.app, plan.service);
  const job = {
    dockerfile: plan.dockerfile,
    target: plan.target ?? null,
    args: plan.args,
    // No commit: equal content must give equal bytes.
    labels: { "shipway.app": plan.app, "shipway.service": plan.service },
  };
  if (registryEndpoint !== undefined) {
    const image = `${new URL(registryEndpoint).host}/${name}:${contentHash(plan)}`;
    return { ...job, image, cache: null, login: null };
  }
  // Beside the service's own repository: this one's tag is moved by each build.
  const cacheUri = await ecr.ensureRepository(`${name}/cache`, plan.app, { mutable: true });
  return {
    ...job,
    image: `${uri}:${contentHash(plan)}`,
    cache: `${cacheUri}:${CACHE_TAG}`,
    login: { host: hostOfUri(uri), region: settings.region },
  };
}

/** Under no signal: what was begun has to be stopped although nobody waits for it any more. */
async function stop({ clients, claims, times }: Driver, plan: ImagePlan, id: string): Promise<void> {
  await clients.codebuild.stopBuild({ id });
  // Not while it runs on: whoever wants the same image would follow a build that is about to be stopped.
  for (let left = STOP_LOOKS; left > 0; left--) {
    const { builds } = await clients.codebuild.batchGetBuilds({ ids: [id] });
    if (stateOf(builds?.[0]).isComplete) break;
    await sleep(times.pollMs);
  }
  await claims.forget(plan);
}
