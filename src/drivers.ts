import { createHmac } from "node:crypto";
import { readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import Docker from "dockerode";
import type { Logger as Pino } from "pino";
import { type AccountSecrets, openAccountSecrets } from "./aws/account-secrets.ts";
import { dockerExecutor } from "./ci/drivers/docker/docker-executor.ts";
import { executorWithoutEngine } from "./ci/drivers/docker/without-engine.ts";
import { lazyExecutor } from "./ci/drivers/ecs/lazy-executor.ts";
import type { StepExecutor } from "./ci/executor.ts";
import type { ImageBuilder } from "./image/builder.ts";
import { lazyBuilder } from "./image/drivers/codebuild/lazy-builder.ts";
import { dockerBuilder } from "./image/drivers/docker.ts";
import { ecrPublisher } from "./image/drivers/ecr.ts";
import { enginePublisher } from "./image/drivers/engine-publisher.ts";
import { registryBuilder } from "./image/drivers/registry.ts";
import type { ImagePublisher } from "./image/publisher.ts";
import { dockerTarget } from "./rollout/drivers/docker/docker-target.ts";
import { haproxyRouter } from "./rollout/drivers/docker/haproxy/haproxy-router.ts";
import { newUseSamples } from "./rollout/drivers/docker/use-samples.ts";
import { targetWithoutEngine } from "./rollout/drivers/docker/without-engine.ts";
import { lazyEcsTarget } from "./rollout/drivers/ecs/without-aws.ts";
import type { ServiceUse } from "./rollout/measurement.ts";
import type { TargetOf } from "./rollout/placed-target.ts";
import type { RuntimeSettings } from "./rollout/runtime.ts";
import type { RolloutTarget } from "./rollout/target.ts";
import { newKeyedLock } from "./shared/keyed-lock.ts";
import type { GitCommand } from "./source/git-command.ts";
import type { CiSettings } from "./spec/ci-settings.ts";

export type DriverOptions = {
  dataDir: string;
  /** Undefined for a Shipway without a Docker Engine: what needs one is refused, everything else works. */
  dockerSocket: string | undefined;
  /** Where the apps answer. */
  httpPort: number;
  /** Address that is listened on. */
  bind: string;
  /** A PATH in which git is found. */
  searchPath: string;
  /** File with the program that runs beside pipeline steps on ECS. */
  stepAgent: string;
  /** Where images of ECS environments are really pushed to; undefined for Amazon ECR itself. */
  registryEndpoint: string | undefined;
  log: Pino;
};

/** What runs steps, builds images, starts tasks and carries traffic, under the names of this installation. */
export type Drivers = {
  /** First part of the names of images. */
  namespace: string;
  /** By where an app's steps run. */
  executorOf(steps: CiSettings["steps"]): StepExecutor;
  /** By where an app's images are built. */
  builderOf(images: CiSettings["images"]): ImageBuilder;
  targetOf: TargetOf;
  /** Undefined for tasks on an engine that is not there. */
  publisherOf(runtime: RuntimeSettings): Pick<ImagePublisher, "publish"> | undefined;
  /** The secrets of the AWS account that a runtime is in; undefined on an engine. */
  accountSecretsOf(runtime: RuntimeSettings): AccountSecrets | undefined;
  /** Where images were pushed to, by `ACCOUNT.REGION`: for what is cleaned up there. */
  publisherAt(registry: string): ImagePublisher;
  engine: Engine | undefined;
};

export type Engine = {
  /** Undefined when it does not answer. */
  version(): Promise<string | undefined>;
  /** Resolves once the apps' router answers. @throws DOCKER_UNREACHABLE, PORT_IN_USE */
  ensureRouter(): Promise<void>;
  /** From now on what tasks use is looked at again and again, until the returned function is called. */
  watchUse(): () => Promise<void>;
  /** What was seen then last. */
  latestUse(): ServiceUse[];
};

/** `key` is the installation's secret key, `git` the program that repositories are read with. */
export function chooseDrivers(
  options: DriverOptions,
  { instance, key, git }: { instance: string; key: Buffer; git: GitCommand },
): Drivers {
  const namespace = instance === "default" ? "shipway" : `shipway-${instance}`;
  const docker = options.dockerSocket === undefined ? undefined : new Docker({ socketPath: options.dockerSocket });
  const { engine, executor, builder, onDocker } =
    docker === undefined ? withoutEngine() : onEngine(docker, options, { instance, namespace, git });
  return {
    namespace,
    executorOf: newExecutors(options, { instance, onEngine: executor }),
    builderOf: newBuilders(options, { instance, namespace, git, onEngine: builder }),
    engine,
    ...newRuntimes(options, { instance, key, docker, onDocker }),
  };
}

type OnEngine = Pick<Drivers, "engine"> & {
  executor: StepExecutor;
  builder: ImageBuilder;
  onDocker: RolloutTarget;
};

const withoutEngine = (): OnEngine => ({
  engine: undefined,
  executor: executorWithoutEngine,
  builder: registryBuilder(),
  onDocker: targetWithoutEngine(),
});

function onEngine(
  docker: Docker,
  options: DriverOptions,
  { instance, namespace, git }: { instance: string; namespace: string; git: GitCommand },
): OnEngine {
  const { dataDir, log } = options;
  const router = haproxyRouter({
    docker,
    image: ROUTER_IMAGE,
    dir: join(dataDir, "router"),
    httpPort: options.httpPort,
    bindAddress: options.bind,
    name: `shipway-${instance}-router`,
    network: `shipway-${instance}`,
    labels: { "shipway.instance": instance },
  });
  const samples = newUseSamples({ docker, router, instance });
  return {
    engine: {
      version: () =>
        docker.version().then(
          ({ Version }) => Version,
          () => undefined,
        ),
      ensureRouter: () => router.ensure(),
      watchUse() {
        samples.start();
        return samples.stop;
      },
      latestUse: samples.latest,
    },
    onDocker: dockerTarget({
      docker,
      router,
      instance,
      subnetPool: SUBNET_POOL,
      toolImage: ROUTER_IMAGE,
      samples,
      log,
    }),
    builder: dockerBuilder({ docker, git, namespace, freeBytes: () => freeBytes(dataDir) }),
    executor: dockerExecutor({ docker, instance, workDir: join(dataDir, "ci"), searchPath: options.searchPath }),
  };
}

/** An executor for each account and cluster that is named; what concerns AWS is loaded by its first step. */
function newExecutors(
  { dataDir, searchPath, stepAgent }: DriverOptions,
  { instance, onEngine }: { instance: string; onEngine: StepExecutor },
): Drivers["executorOf"] {
  const executors = new Map<string, StepExecutor>();
  return (steps) => {
    if (steps.kind === "docker") return onEngine;
    const { settings } = steps;
    return getOrMake(executors, JSON.stringify(settings), () =>
      lazyExecutor(async () => {
        const { openEcsExecutor } = await import("./ci/drivers/ecs/ecs-executor.ts");
        return openEcsExecutor({
          settings,
          install: instance,
          agent: () => readFile(stepAgent, "utf8"),
          workDir: join(dataDir, "ci-ecs"),
          searchPath,
        });
      }),
    );
  };
}

/** A builder for each CodeBuild project that is named; what concerns AWS is loaded by its first build. */
function newBuilders(
  { registryEndpoint }: DriverOptions,
  {
    instance,
    namespace,
    git,
    onEngine,
  }: { instance: string; namespace: string; git: GitCommand; onEngine: ImageBuilder },
): Drivers["builderOf"] {
  const builders = new Map<string, ImageBuilder>();
  return (images) => {
    if (images.kind === "docker") return onEngine;
    const { settings } = images;
    return getOrMake(builders, JSON.stringify(settings), () =>
      lazyBuilder(async () => {
        const { openCodeBuilder } = await import("./image/drivers/codebuild/codebuild-builder.ts");
        return openCodeBuilder({ settings, install: instance, namespace, git, registryEndpoint });
      }),
    );
  };
}

/** The target of each runtime, and where its images come from. What concerns AWS is loaded by the first environment that is there. */
function newRuntimes(
  { registryEndpoint }: DriverOptions,
  {
    instance,
    key,
    docker,
    onDocker,
  }: { instance: string; key: Buffer; docker: Docker | undefined; onDocker: RolloutTarget },
): Pick<Drivers, "targetOf" | "publisherOf" | "publisherAt" | "accountSecretsOf"> {
  const targets = new Map<string, RolloutTarget>();
  const publishers = new Map<string, ImagePublisher>();
  const accounts = new Map<string, AccountSecrets>();
  const alone = newKeyedLock();
  const pulled = docker && enginePublisher({ docker, registryEndpoint });
  // Keyed, so that the name of a secret's version says nothing about its content.
  const fingerprint = (text: string) => createHmac("sha256", key).update("secret version").update(text).digest("hex");
  let driver: ReturnType<typeof openDriver> | undefined;
  const openDriver = async () => {
    const { newEcsDriver } = await import("./rollout/drivers/ecs/ecs-target.ts");
    return newEcsDriver({ install: instance, fingerprint });
  };
  return {
    targetOf(runtime) {
      if (runtime.kind === "docker") return onDocker;
      const { settings } = runtime;
      return getOrMake(targets, JSON.stringify(settings), () =>
        lazyEcsTarget(settings, async () => {
          driver ??= openDriver();
          return (await driver).open(settings);
        }),
      );
    },
    publisherOf(runtime) {
      if (runtime.kind === "docker") return pulled;
      const { region, architecture } = runtime.settings;
      return getOrMake(publishers, `${region} ${architecture}`, () =>
        ecrPublisher({ docker, install: instance, aws: { region }, architecture, registryEndpoint, alone }),
      );
    },
    accountSecretsOf(runtime) {
      if (runtime.kind === "docker") return undefined;
      const { region, executionRole } = runtime.settings;
      return getOrMake(accounts, `${region} ${executionRole}`, () => openAccountSecrets({ region, executionRole }));
    },
    publisherAt(registry) {
      const [account = "", region = ""] = registry.split(".");
      return getOrMake(publishers, registry, () =>
        ecrPublisher({
          docker,
          install: instance,
          aws: { region },
          account,
          architecture: "x86_64",
          registryEndpoint,
          alone,
        }),
      );
    },
  };
}

function getOrMake<T>(known: Map<string, T>, key: string, make: () => T): T {
  const found = known.get(key) ?? make();
  known.set(key, found);
  return found;
}

async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

const ROUTER_IMAGE = "haproxy:2.6";

/** Ours, so that Docker's default pools, which end after about 31 networks, are left to others. */
const SUBNET_POOL = "10.213.0.0/16";
