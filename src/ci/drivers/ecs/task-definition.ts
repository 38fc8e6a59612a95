import type { ContainerDefinition, RegisterTaskDefinitionCommandInput } from "@aws-sdk/client-ecs";
import { lowerTags } from "../../../aws/tags.ts";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import type { ServicePlan, StepPlan } from "../../executor.ts";
import { type ReadyCheck, readyCheckOf } from "../../ready-check.ts";
import { CLONE_DIR } from "../../step-places.ts";
import { taskSizeOf } from "../../step-size.ts";
import { familyOf, hexHash, LOG_PREFIX, logGroupOf, tagsOfApp } from "./names.ts";
import { TASK_DIRS } from "./order.ts";
import { START_COMMAND } from "./start-script.ts";

/** Ours beside the step and its services, whose names are the user's. */
export const SETUP = "setup";
export const STEP = "step";
export const COLLECT = "collect";

/** Names of services are free text. A container's has at most 255 of `A-Za-z0-9_-` (Amazon ECS API, ContainerDefinition, `name`). */
export function serviceContainer(service: string): string {
  const usable = service.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 100);
  return usable === service ? `service-${service}` : `service-${usable}-${hexHash(service, 8)}`;
}

/** Names of variables whose values are in a secret, and the secret with a registry's login. */
type Sealed = { variables?: { arn: string; names: string[] }; login?: string };

export type TaskInput = {
  install: string;
  app: string;
  settings: StepSettings;
  step: Pick<StepPlan, "image" | "memoryMiB" | "runAsUser">;
  services: (Pick<ServicePlan, "name" | "image" | "memoryMiB"> & { variables: Record<string, string> })[];
  /** By container. */
  sealed: Record<string, Sealed>;
  /** Paths outside of the checkout at which kept caches are mounted. */
  mounts: string[];
};

/** Ours wait while the step works; they may take this, and reserve little, so that a step of 4 GB is a task of 4 GB. */
const OUR_MIB = 512;
const RESERVED_MIB = 64;
/** Fargate gives this much disk for nothing; sizes that are asked for are 21 to 200 (Amazon ECS API, EphemeralStorage). */
const FREE_STORAGE_GIB = 20;
/** Nobody asks a script or a test's database to end in peace. At least 2 s on Fargate (Amazon ECS API, ContainerDefinition, `stopTimeout`). */
const STOP_S = 2;
/** The last lines of a script that was stopped have to be relayed. */
const COLLECT_STOP_S = 30;

/** What a step's task is, for RegisterTaskDefinition: nothing of one run is in it, so that equal steps have one definition, which its family names. */
export function taskDefinitionOf(input: TaskInput): RegisterTaskDefinitionCommandInput {
  const { install, app, settings, step, services } = input;
  const size = taskSizeOf({ memoryMiB: step.memoryMiB, services });
  if (size === undefined) throw new Error(`no Fargate task is as large as ${step.memoryMiB} MiB`);
  const definition = {
    requiresCompatibilities: ["FARGATE" as const],
    networkMode: "awsvpc" as const,
    cpu: String(size.cpu),
    memory: String(size.memoryMiB),
    executionRoleArn: settings.executionRole,
    ...(settings.stepRole !== undefined && { taskRoleArn: settings.stepRole }),
    runtimePlatform: {
      operatingSystemFamily: "LINUX" as const,
      cpuArchitecture: settings.architecture === "arm64" ? ("ARM64" as const) : ("X86_64" as const),
    },
    ...(settings.storageGiB > FREE_STORAGE_GIB && { ephemeralStorage: { sizeInGiB: settings.storageGiB } }),
    volumes: ["work", "own", ...input.mounts.map((_, index) => `mount${index}`)].map((name) => ({ name })),
    containerDefinitions: [
      setupContainer(input),
      ...services.map((service) => serviceDefinition(input, service)),
      stepContainer(input),
      collectContainer(input),
    ],
  };
  const hash = hexHash(JSON.stringify(definition), 24);
  return { family: familyOf(install, app, hash), ...definition, tags: lowerTags(tagsOfApp(install, app)) };
}

/**
 * Brings the order and the program it names, then runs that. As text and not as an image of ours: nothing has to be published for a new version, and the
 * definition stays the same.
 */
const BOOTSTRAP = `
const { writeFileSync } = require("node:fs");
const get = async (address, tries = 5) => {
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error("HTTP " + answer.status);
    return await answer.text();
  } catch (error) {
    if (tries <= 1) throw error;
    await new Promise((resolve) => setTimeout(resolve, 3000 / tries));
    return get(address, tries - 1);
  }
};
(async () => {
  const order = await get(process.env.SHIPWAY_ORDER);
  writeFileSync("${TASK_DIRS.own}/order.json", order, { mode: 0o600 });
  writeFileSync("${TASK_DIRS.own}/agent.mjs", await get(JSON.parse(order).program));
  await import("${TASK_DIRS.own}/agent.mjs");
})().catch((error) => {
  console.log("the step could not be set up: " + (error.cause ?? error));
  process.exit(1);
});
`.trim();

function setupContainer(input: TaskInput): ContainerDefinition {
  return {
    ...ourContainer(input, SETUP, ["-e", BOOTSTRAP]),
    essential: false,
    mountPoints: [
      ...OUR_VOLUMES,
      ...input.mounts.map((_, index) => volumeAt(`mount${index}`, `${TASK_DIRS.mounts}/mount${index}`)),
    ],
    stopTimeout: STOP_S,
  };
}

/** The task is over when this one is. */
function collectContainer(input: TaskInput): ContainerDefinition {
  return {
    ...ourContainer(input, COLLECT, [`${TASK_DIRS.own}/agent.mjs`, "collect"]),
    essential: true,
    dependsOn: [{ containerName: SETUP, condition: "SUCCESS" }],
    mountPoints: OUR_VOLUMES,
    stopTimeout: COLLECT_STOP_S,
  };
}

const volumeAt = (sourceVolume: string, containerPath: string) => ({ sourceVolume, containerPath });
const OUR_VOLUMES = [volumeAt("work", TASK_DIRS.work), volumeAt("own", TASK_DIRS.own)];

function ourContainer(input: TaskInput, name: string, command: string[]): ContainerDefinition {
  return {
    name,
    image: input.settings.toolImage,
    memory: OUR_MIB,
    memoryReservation: RESERVED_MIB,
    user: "0",
    entryPoint: ["node"],
    command,
    logConfiguration: logOf(input),
  };
}

function stepContainer(input: TaskInput): ContainerDefinition {
  const { step, services, sealed, mounts } = input;
  const [shell = "", ...command] = START_COMMAND;
  return {
    name: STEP,
    image: step.image,
    ...loginOf(sealed[STEP]),
    essential: false,
    memory: step.memoryMiB,
    memoryReservation: step.memoryMiB - 2 * RESERVED_MIB,
    user: String(step.runAsUser ?? 0),
    workingDirectory: CLONE_DIR,
    entryPoint: [shell],
    command,
    mountPoints: [volumeAt("work", TASK_DIRS.work), ...mounts.map((path, index) => volumeAt(`mount${index}`, path))],
    dependsOn: [
      { containerName: SETUP, condition: "SUCCESS" },
      ...services.map((service) => ({
        containerName: serviceContainer(service.name),
        condition: hasCheck(service) ? ("HEALTHY" as const) : ("START" as const),
      })),
    ],
    stopTimeout: STOP_S,
    logConfiguration: logOf(input),
  };
}

function serviceDefinition(input: TaskInput, service: TaskInput["services"][number]): ContainerDefinition {
  const name = serviceContainer(service.name);
  const { variables } = input.sealed[name] ?? {};
  const check = healthCheckOf(service);
  return {
    name,
    image: service.image,
    ...loginOf(input.sealed[name]),
    essential: false,
    memory: service.memoryMiB,
    environment: Object.keys(service.variables)
      .filter((variable) => !variables?.names.includes(variable))
      .sort()
      .map((variable) => ({ name: variable, value: service.variables[variable] ?? "" })),
    ...(variables && {
      secrets: [...variables.names]
        .sort()
        .map((variable) => ({ name: variable, valueFrom: `${variables.arn}:${variable}::` })),
    }),
    ...(check && { healthCheck: check, startTimeout: SERVICE_START_S }),
    stopTimeout: STOP_S,
    logConfiguration: logOf(input),
  };
}

const loginOf = (sealed: Sealed | undefined) =>
  sealed?.login === undefined ? {} : { repositoryCredentials: { credentialsParameter: sealed.login } };

/** When it has no answer by then, ECS gives the task up (2 to 120 s on Fargate; Amazon ECS API, ContainerDefinition, `startTimeout`). */
export const SERVICE_START_S = 120;

const checkOf = ({ image, variables }: TaskInput["services"][number]): ReadyCheck => readyCheckOf(image, variables, []);

/** Whether the step waits for an answer: of other services it is not known what they would answer to. */
const hasCheck = (service: TaskInput["services"][number]): boolean => checkOf(service).kind !== "none";

/** As often as ECS takes it: at least every 5 s, and a check that fails does not count for the first 300 s at most (Amazon ECS API, HealthCheck). */
function healthCheckOf(service: TaskInput["services"][number]) {
  const check = checkOf(service);
  if (check.kind === "none") return undefined;
  const command = check.kind === "query" ? check.argv : ["/bin/sh", "-c", listens(check.ports)];
  return { command: ["CMD", ...command], interval: 5, timeout: 5, retries: 10, startPeriod: SERVICE_START_S };
}

/** In the kernel's table of this network; state 0A is LISTEN (proc(5), /proc/net/tcp). */
function listens(ports: number[]): string {
  const hex = ports.map((port) => port.toString(16).toUpperCase().padStart(4, "0"));
  return `cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -Eq ':(${hex.join("|")}) [0-9A-F]+:0000 0A '`;
}

function logOf({ install, app, settings }: TaskInput) {
  return {
    logDriver: "awslogs" as const,
    options: {
      "awslogs-group": logGroupOf(install, app),
      "awslogs-region": settings.region,
      "awslogs-stream-prefix": LOG_PREFIX,
      // The default loses lines when they come fast; here they are the result, so the program waits instead.
      mode: "blocking",
    },
  };
}
