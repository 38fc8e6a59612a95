import type { ContainerDefinition, RegisterTaskDefinitionCommandInput } from "@aws-sdk/client-ecs";
import type { Place, ReleaseService } from "../../../release.ts";
import { servesTraffic } from "../../../release.ts";
import type { EcsSettings } from "../../../runtime.ts";
import { familyName, hexHash, logGroupName, logPrefix, runFamilyName } from "../names.ts";
import { lowerTags, RELEASE_TAG, SERVICE_TAG, SPEC_TAG, tagsFor } from "../tags.ts";

export type TaskDefinitionInput = {
  install: string;
  place: Place;
  release: number;
  service: ReleaseService;
  settings: EcsSettings;
  env: Record<string, string>;
  /** Names of the variables in the secret, and which version of it; undefined without secrets. */
  secret: { arn: string; versionId: string; keys: string[] } | undefined;
  /** Secrets of the account, by variable, as `valueFrom` names them. */
  references?: Record<string, string> | undefined;
  /** A command that runs once and whose output is its result. */
  run?: { command: string[] };
};

/** Fargate stops a container at the latest after this (Amazon ECS API, ContainerDefinition, `stopTimeout`). */
const MAX_STOP_S = 120;
/** Fargate gives this much disk for nothing; sizes that are asked for are 21 to 200 (Amazon ECS API, EphemeralStorage). */
const FREE_STORAGE_GIB = 20;

/**
 * What a service's tasks are, for RegisterTaskDefinition: a pure function, so that equal input gives an equal `shipway:spec`, by which a
 * revision that exists is found again. Values are in the form AWS gives them back (integers as text, lists in order).
 */
export function taskDefinitionOf(input: TaskDefinitionInput): RegisterTaskDefinitionCommandInput {
  const { install, place, release, service, settings, run } = input;
  const family = run === undefined ? familyName : runFamilyName;
  const definition: RegisterTaskDefinitionCommandInput = {
    family: family(install, place, service.name, release),
    requiresCompatibilities: ["FARGATE"],
    networkMode: "awsvpc",
    cpu: String(service.cpu),
    memory: String(service.memoryMiB),
    executionRoleArn: settings.executionRole,
    ...(settings.taskRole !== undefined && { taskRoleArn: settings.taskRole }),
    runtimePlatform: {
      operatingSystemFamily: "LINUX",
      cpuArchitecture: settings.architecture === "arm64" ? "ARM64" : "X86_64",
    },
    ...(settings.storageGiB > FREE_STORAGE_GIB && { ephemeralStorage: { sizeInGiB: settings.storageGiB } }),
    containerDefinitions: [containerOf(input)],
  };
  const spec = specOf(input, definition);
  return { ...definition, tags: lowerTags({ ...tagsOf(input), [SPEC_TAG]: spec }) };
}

const tagsOf = ({ install, place, service, release }: TaskDefinitionInput) =>
  tagsFor(install, place, { [SERVICE_TAG]: service.name, [RELEASE_TAG]: `r${release}` });

/** The hash by which a revision of this content is known. */
export function specOf(input: TaskDefinitionInput, definition: RegisterTaskDefinitionCommandInput): string {
  const { tags: _, ...content } = definition;
  return hexHash(canonical({ definition: content, tags: tagsOf(input) }), 40);
}

function containerOf(input: TaskDefinitionInput): ContainerDefinition {
  const { install, place, release, service, settings, run } = input;
  const env = { ...service.env, ...input.env };
  const command = run?.command ?? service.command;
  const readByEcs = secretsOf(input);
  return {
    name: service.name,
    image: service.image,
    essential: true,
    // One container takes all of its task.
    cpu: service.cpu,
    memory: service.memoryMiB,
    ...(command !== undefined && { command }),
    // ECS refuses a name that is both: the secret wins, as everywhere.
    environment: Object.keys(env)
      .filter((name) => !readByEcs.has(name))
      .sort()
      .map((name) => ({ name, value: env[name] ?? "" })),
    ...(readByEcs.size > 0 && {
      secrets: [...readByEcs.keys()].sort().map((name) => ({ name, valueFrom: readByEcs.get(name) ?? "" })),
    }),
    ...(run === undefined &&
      servesTraffic(service) && {
        portMappings: [{ containerPort: service.port, hostPort: service.port, protocol: "tcp" as const }],
      }),
    ...(run === undefined &&
      service.health?.command !== undefined && { healthCheck: commandCheckOf(service, service.health.command) }),
    stopTimeout:
      run === undefined ? Math.min(MAX_STOP_S, Math.max(2, Math.ceil(service.stopTimeoutMs / 1_000))) : MAX_STOP_S,
    linuxParameters: { initProcessEnabled: true },
    logConfiguration: {
      logDriver: "awslogs",
      options: {
        "awslogs-group": logGroupName(install, place),
        "awslogs-region": settings.region,
        "awslogs-stream-prefix": run === undefined ? logPrefix(release) : "run",
        // The default loses lines when they come fast; where the output is the result, the program waits instead.
        mode: run === undefined ? "non-blocking" : "blocking",
        ...(run === undefined && { "max-buffer-size": "25m" }),
      },
    },
  };
}

/** Where ECS reads each secret variable; one that lies in the account wins over one of Shipway's own. */
function secretsOf({ secret, references = {} }: TaskDefinitionInput): Map<string, string> {
  const own = (secret?.keys ?? []).map((name) => [name, `${secret?.arn}:${name}::${secret?.versionId}`] as const);
  return new Map([...own, ...Object.entries(references)]);
}

/** Limits of the Amazon ECS API (HealthCheck): interval 5 to 300 s, timeout 2 to 60 s, retries 1 to 10, start period up to 300 s. */
function commandCheckOf(service: ReleaseService, command: string[]) {
  const { interval = 1_000, timeout = 2_000, unhealthy = 3, grace } = service.health ?? {};
  return {
    command: ["CMD", ...command],
    interval: clamp(Math.ceil(interval / 1_000), 5, 300),
    timeout: clamp(Math.ceil(timeout / 1_000), 2, 60),
    retries: clamp(unhealthy, 1, 10),
    startPeriod: clamp(Math.ceil((grace ?? 60_000) / 1_000), 0, 300),
  };
}

/** What the load balancer asks a task of a service with a port. */
export type TargetCheck = {
  path: string;
  matcher: string;
  intervalS: number;
  timeoutS: number;
  healthy: number;
  unhealthy: number;
};

/**
 * The declared check within a load balancer's limits: interval 5 to 300 s, timeout 2 to 120 s and shorter than the interval, 2 to 10 checks
 * (Elastic Load Balancing API, CreateTargetGroup). A path is healthy below 400 as on Docker; without one any answer below 500 is, and that is
 * also how `tcp` is asked, since an Application Load Balancer speaks only HTTP.
 */
export function targetCheckOf(service: ReleaseService): TargetCheck {
  const { path, interval = 1_000, timeout = 2_000, healthy = 2, unhealthy = 3 } = service.health ?? {};
  const timeoutS = clamp(Math.ceil(timeout / 1_000), 2, 120);
  return {
    path: path ?? "/",
    matcher: path === undefined ? "200-499" : "200-399",
    intervalS: clamp(Math.ceil(interval / 1_000), Math.max(5, timeoutS + 1), 300),
    timeoutS,
    healthy: clamp(healthy, 2, 10),
    unhealthy: clamp(unhealthy, 2, 10),
  };
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));

/** JSON with keys in order, so that equal values are equal texts. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
