import { posix } from "node:path";
import { refGlobProblem } from "../shared/ref-glob.ts";
import { didYouMean } from "../shared/yaml-problems.ts";
import { parseRepositoryAddress } from "../source/repository-address.ts";
import { type AppSpec, FARGATE_MEMORY_MIB, type InfraSpec, type SecretSource, type ServiceSpec } from "./app-spec.ts";
import { readSecretReference } from "./secret-reference.ts";

/** What is wrong, at the place of the spec where the user can mend it. */
export type SpecProblem = { path: (string | number)[]; at: "key" | "value"; message: string };

/** Names that mean something on the networks and hosts that Shipway makes. */
export const RESERVED_NAMES = ["localhost", "router", "shipway"];
const ONE_OWNER =
  "two tasks cannot own it at once, so every deploy would stop the old before starting the new. Accept that with `downtime: accept`, or remove it";

/** The rules that look at more than one field. Empty means that the spec can be deployed. */
export function checkSpec(spec: AppSpec): SpecProblem[] {
  const services = Object.entries(spec.services);
  return [
    ...services.flatMap(([name, service]) => checkService(name, service)),
    ...checkHostPorts(services),
    ...checkBacking(spec),
    ...Object.keys(spec.environments).flatMap((environment) => checkEnvironment(spec, environment)),
    ...checkDomains(spec),
    ...checkVerify(spec),
    ...checkCi(spec),
  ];
}

/** What is allowed and yet may surprise; `shipway check` shows it. */
export function notesOn(spec: AppSpec): string[] {
  const byHand = Object.entries(spec.environments)
    .filter(([, { branch, tag }]) => branch === undefined && tag === undefined)
    .map(([name]) => `environment ${name} has neither branch nor tag: it is deployed only by hand`);
  const unprobed = Object.entries(spec.services)
    .filter(([, { port, health }]) => port !== undefined && !health?.path && !health?.tcp && !health?.command)
    .map(
      ([name]) =>
        `service ${name} declares no health check: a new task is asked for / and any answer below 500 counts as healthy`,
    );
  const pinned = Object.entries(spec.services)
    .filter(([, { hostPort }]) => hostPort !== undefined && Object.keys(spec.environments).length > 1)
    .map(([name]) => `service ${name} has a hostPort, so only one environment of a machine can run it`);
  return [...byHand, ...unprobed, ...pinned];
}

/** The memory sizes that go with `cpu`, as a person reads them. */
export function describeMemorySizes(cpu: number): string {
  const sizes = FARGATE_MEMORY_MIB[cpu] ?? [];
  if (sizes.length > 4) return `${sizes[0]} to ${sizes.at(-1)} MiB in steps of 1024`;
  return `${sizes.slice(0, -1).join(", ")} or ${sizes.at(-1)} MiB`;
}

function checkService(name: string, service: ServiceSpec): SpecProblem[] {
  const path = ["services", name];
  const problems: SpecProblem[] = [];
  const report = (rest: (string | number)[], message: string, at: "key" | "value" = "key") =>
    problems.push({ path: [...path, ...rest], at, message });

  if (RESERVED_NAMES.includes(name)) report([], `the name "${name}" is reserved: choose another`);
  if (service.build && service.image !== undefined) report(["image"], "a service has either build or image, not both");
  if (!service.build && service.image === undefined)
    report([], `service "${name}" needs build (an image from this repository) or image (a ready one)`);
  if (service.domains.length > 0 && service.port === undefined)
    report(["domains"], "domains need a port: say on which port the service listens");
  if (service.hostPort !== undefined && service.port === undefined)
    report(["hostPort"], "hostPort needs a port: say on which port the service listens");
  return [
    ...problems,
    ...checkSize(path, service.cpu, service.memory),
    ...checkHealth(path, service),
    ...checkOneOwner(path, service),
    ...checkVariables(path, service),
  ];
}

function checkSize(path: string[], cpu: number, memory: number | undefined): SpecProblem[] {
  if (memory === undefined || FARGATE_MEMORY_MIB[cpu]?.includes(memory)) return [];
  const message = `${memory} MiB does not go with ${cpu} CPU units: use ${describeMemorySizes(cpu)}`;
  return [{ path: [...path, "memory"], at: "value", message }];
}

function checkHealth(path: string[], { health, port }: ServiceSpec): SpecProblem[] {
  if (!health) return [];
  const kinds = (["path", "tcp", "command"] as const).filter((kind) => health[kind] !== undefined);
  const problems: SpecProblem[] = kinds.slice(1).map((kind) => ({
    path: [...path, "health", kind],
    at: "key",
    message: `a health check is one of path, tcp or command; ${kinds[0]} is there already`,
  }));
  const probed = kinds.find((kind) => kind !== "command");
  if (probed && port === undefined)
    problems.push({
      path: [...path, "health", probed],
      at: "key",
      message: `health.${probed} needs a port: say on which port the service listens`,
    });
  return problems;
}

function checkOneOwner(path: string[], service: ServiceSpec): SpecProblem[] {
  const owned = [
    ...(service.hostPort === undefined ? [] : [{ key: "hostPort", what: "a fixed host port" }]),
    ...(service.volumes.length === 0 ? [] : [{ key: "volumes", what: "a volume" }]),
  ];
  return owned.flatMap(({ key, what }): SpecProblem[] => {
    if (service.downtime !== "accept") {
      return [{ path: [...path, key], at: "key", message: `${what} is refused: ${ONE_OWNER}` }];
    }
    if (service.count <= 1) return [];
    return [{ path: [...path, "count"], at: "value", message: `${key} allows one task only: use count: 1` }];
  });
}

function checkVariables(path: string[], { env, secrets }: Pick<ServiceSpec, "env" | "secrets">): SpecProblem[] {
  return [
    ...secrets.flatMap((name, index): SpecProblem[] => {
      const at = { path: [...path, "secrets", index], at: "value" as const };
      if (Object.hasOwn(env, name)) return [{ ...at, message: `${name} is both in env and in secrets: keep one` }];
      return secrets.indexOf(name) < index ? [{ ...at, message: `${name} is listed twice` }] : [];
    }),
    ...checkReserved([...path, "env"], env),
  ];
}

function checkReserved(path: string[], env: Record<string, string>): SpecProblem[] {
  return Object.keys(env)
    .filter((name) => name.startsWith("SHIPWAY_"))
    .map((name) => ({
      path: [...path, name],
      at: "key",
      message: "names that start with SHIPWAY_ are set by Shipway",
    }));
}

function checkHostPorts(services: [string, ServiceSpec][]): SpecProblem[] {
  return services.flatMap(([name, { hostPort }], index): SpecProblem[] => {
    const other = services
      .slice(0, index)
      .find(([, earlier]) => hostPort !== undefined && earlier.hostPort === hostPort);
    if (!other) return [];
    const message = `host port ${hostPort} belongs to service "${other[0]}" already`;
    return [{ path: ["services", name, "hostPort"], at: "value", message }];
  });
}

function checkBacking({ backing, services }: AppSpec): SpecProblem[] {
  return Object.keys(backing).flatMap((name): SpecProblem[] => {
    const at = { path: ["backing", name], at: "key" as const };
    if (Object.hasOwn(services, name))
      return [{ ...at, message: `"${name}" is the name of a service: both would answer under it, choose another` }];
    return RESERVED_NAMES.includes(name) ? [{ ...at, message: `the name "${name}" is reserved: choose another` }] : [];
  });
}

function checkEnvironment(spec: AppSpec, name: string): SpecProblem[] {
  const environment = spec.environments[name];
  if (!environment) return [];
  const path = ["environments", name];
  const globs = (["branch", "tag"] as const).flatMap((kind): SpecProblem[] => {
    const pattern = environment[kind];
    const problem = pattern === undefined ? undefined : refGlobProblem(pattern);
    return problem === undefined ? [] : [{ path: [...path, kind], at: "value", message: `${kind} ${problem}` }];
  });
  const infra = checkInfra([...path, "infra"], spec.app, environment.infra);
  const idle = (["approvers", "approvalWithin"] as const).flatMap((key): SpecProblem[] =>
    environment.approval === "required" || environment[key] === undefined
      ? []
      : [{ path: [...path, key], at: "key", message: `${key} says nothing without approval: required` }],
  );
  const overrides = Object.keys(environment.services).flatMap((service) => checkOverride(spec, name, service));
  return [
    ...globs,
    ...idle,
    ...infra,
    ...overrides,
    ...checkRuntime(spec, name),
    ...checkSecretSources(spec, name),
    ...checkReserved([...path, "env"], environment.env),
  ];
}

/** Secrets that lie in the account: each where a service takes it, from one place only, and in the environment's own Region. */
function checkSecretSources(spec: AppSpec, name: string): SpecProblem[] {
  const environment = spec.environments[name];
  const sources = Object.entries(environment?.secrets ?? {});
  if (environment === undefined || sources.length === 0) return [];
  const path = ["environments", name, "secrets"];
  if (environment.runtime !== "ecs") {
    const message = `only ECS reads secrets of an AWS account, and ${name} runs on Docker: take them out here and store the values in Shipway (\`shipway secret set ${sources[0]?.[0]} --env ${name}\`), or write runtime: ecs`;
    return [{ path, at: "key", message }];
  }
  const { infra, aws, env } = environment;
  return sources.flatMap(([secret, source]): SpecProblem[] => {
    const problem = (message: string, at: SpecProblem["at"] = "key", rest: string[] = []) => [
      { path: [...path, secret, ...rest], at, message },
    ];
    const takers = Object.entries(spec.services).filter(([, { secrets }]) => secrets.includes(secret));
    if (takers.length === 0) {
      const meant = didYouMean(secret, [...new Set(Object.values(spec.services).flatMap(({ secrets }) => secrets))]);
      const cure = meant === undefined ? `list it at the service: secrets: [${secret}]` : `did you mean "${meant}"?`;
      return problem(`no service has ${secret} among its secrets: ${cure}`);
    }
    if (Object.hasOwn(env, secret)) return problem(`${secret} is in env of ${name}, too: keep one`);
    if (Object.hasOwn(infra?.outputs ?? {}, secret))
      return problem(`${secret} is in outputs of infra, too, which hand over the output itself: keep one`);
    if (typeof source !== "string")
      return infra === undefined ? problem("output needs infra, which gives it", "key", ["output"]) : [];
    return regionProblem(source, aws?.region).flatMap((message) => problem(message, "value"));
  });
}

/** ECS could cross Regions, at the price of a task that does not start when the other Region is away; nobody means it. */
function regionProblem(source: SecretSource & string, region: string | undefined): string[] {
  const read = readSecretReference(source);
  if ("problem" in read || read.region === undefined || region === undefined || read.region === region) return [];
  return [`this lies in ${read.region}, and the environment runs in ${region}: name one of ${region}`];
}

/** Settings without which there is no place to run; a task role and a public address one can do without. */
const AWS_NEEDED = ["region", "cluster", "listener", "subnets", "securityGroups", "executionRole"] as const;
/** Fargate kills a task at the latest after this (Amazon ECS API, ContainerDefinition, `stopTimeout`). */
const MAX_FARGATE_STOP_MS = 120_000;
/** At most 5 condition values a rule (Elastic Load Balancing, quotas for Application Load Balancers). */
const MAX_RULE_HOSTS = 5;

/** What Fargate and a load balancer cannot do is found here, before anything is built. */
function checkRuntime(spec: AppSpec, name: string): SpecProblem[] {
  const environment = spec.environments[name];
  if (!environment) return [];
  const path = ["environments", name];
  const { runtime, aws, infra, backing } = environment;
  if (runtime !== "ecs") {
    return aws === undefined ? [] : [{ path: [...path, "aws"], at: "key", message: "aws needs runtime: ecs" }];
  }
  const problems: SpecProblem[] = [];
  const report = (rest: (string | number)[], message: string) =>
    problems.push({ path: [...path, ...rest], at: "key", message });
  const missing = AWS_NEEDED.filter((setting) => aws?.[setting] === undefined);
  if (infra === undefined && missing.length > 0) {
    const message = `runtime: ecs needs aws: { ${missing.join(", ")} }, or infra whose outputs give them`;
    report(aws === undefined ? ["runtime"] : ["aws"], message);
  }
  if (infra === undefined && Object.keys(aws?.outputs ?? {}).length > 0)
    report(["aws", "outputs"], "outputs need infra, which gives them");
  const declared = Object.keys(spec.backing);
  if (declared.length > 0 && backing !== "none") {
    const message = `${declared.join(", ")} ${declared.length === 1 ? "does" : "do"} not run on ECS: make ${declared.length === 1 ? "it" : "them"} with infra, hand over the addresses with infra: { outputs }, and write backing: none here`;
    report(["runtime"], message);
  }
  for (const [service, declaredService] of Object.entries(spec.services))
    problems.push(...checkOnFargate(spec, name, service, declaredService));
  return problems;
}

function checkOnFargate(spec: AppSpec, environment: string, name: string, service: ServiceSpec): SpecProblem[] {
  const path = ["services", name];
  const where = `environment ${environment} runs on Fargate`;
  const override = spec.environments[environment]?.services[name];
  const domains = override?.domains ?? service.domains;
  const problems: SpecProblem[] = [];
  if (service.hostPort !== undefined)
    problems.push({ path: [...path, "hostPort"], at: "key", message: `${where}, which has no host: remove hostPort` });
  if (service.volumes.length > 0) {
    const message = `${where}, whose tasks keep no volume: keep data in a database or in S3`;
    problems.push({ path: [...path, "volumes"], at: "key", message });
  }
  if (service.stopTimeout > MAX_FARGATE_STOP_MS) {
    const message = `${where}, which gives at most 120s: use stopTimeout: 120s`;
    problems.push({ path: [...path, "stopTimeout"], at: "value", message });
  }
  if (domains.length >= MAX_RULE_HOSTS) {
    const owner = override?.domains === undefined ? path : ["environments", environment, ...path];
    const message = `${where}, behind a rule that takes ${MAX_RULE_HOSTS - 1} domains: remove ${domains.length - MAX_RULE_HOSTS + 1}`;
    problems.push({ path: [...owner, "domains"], at: "key", message });
  }
  return problems;
}

function checkInfra(path: string[], app: string, infra: InfraSpec | undefined): SpecProblem[] {
  if (infra === undefined) return [];
  const { repository, ref, credential, dir, varFiles } = infra;
  const address = repository === undefined ? undefined : parseRepositoryAddress(repository);
  const takesToken = address?.kind === "connected" && address.over === "http";
  const problem = (key: string, message: string): SpecProblem => ({ path: [...path, key], at: "key", message });
  return [
    ...(repository === app ? [problem("repository", "that is the app's own repository: leave the key out")] : []),
    ...(ref !== undefined && repository === undefined
      ? [
          problem(
            "ref",
            "ref is for a repository of its own: name it as `repository`; code in the app's repository is that of the release",
          ),
        ]
      : []),
    ...(credential !== undefined && !takesToken
      ? [problem("credential", "credential is a token for an https address: name that as `repository`")]
      : []),
    ...varFiles.flatMap((file, index): SpecProblem[] =>
      posix.normalize(posix.join(dir, file)).startsWith("../")
        ? [{ path: [...path, "varFiles", index], at: "value", message: `${file} leads out of the repository` }]
        : [],
    ),
  ];
}

function checkOverride(spec: AppSpec, environment: string, name: string): SpecProblem[] {
  const path = ["environments", environment, "services", name];
  const service = Object.hasOwn(spec.services, name) ? spec.services[name] : undefined;
  const override = spec.environments[environment]?.services[name];
  if (!service || !override) return [unknownService(path, "key", name, spec)];
  const problems: SpecProblem[] = [];
  const cpu = override.cpu ?? service.cpu;
  if (override.memory !== undefined) problems.push(...checkSize(path, cpu, override.memory));
  // A cpu that is replaced alone keeps the service's memory, which may not go with it.
  else if (
    override.cpu !== undefined &&
    service.memory !== undefined &&
    !FARGATE_MEMORY_MIB[cpu]?.includes(service.memory)
  ) {
    const message = `${cpu} CPU units do not go with the service's ${service.memory} MiB: set memory here too, ${describeMemorySizes(cpu)}`;
    problems.push({ path: [...path, "cpu"], at: "value", message });
  }
  if ((override.count ?? 0) > 1 && (service.hostPort !== undefined || service.volumes.length > 0)) {
    const key = service.hostPort === undefined ? "volumes" : "hostPort";
    problems.push({ path: [...path, "count"], at: "value", message: `${key} allows one task only: use count: 1` });
  }
  if (override.domains && override.domains.length > 0 && service.port === undefined)
    problems.push({ path: [...path, "domains"], at: "key", message: "domains need a port: the service has none" });
  for (const variable of Object.keys(override.env ?? {}).filter((key) => service.secrets.includes(key)))
    problems.push({
      path: [...path, "env", variable],
      at: "key",
      message: `${variable} is a secret of the service: keep one`,
    });
  return [...problems, ...checkReserved([...path, "env"], override.env ?? {})];
}

/** Every environment that runs at the same time claims its domains: one host name can lead to one place only. */
function checkDomains(spec: AppSpec): SpecProblem[] {
  const claimed = new Map<string, { service: string; environment: string }>();
  const problems: SpecProblem[] = [];
  const seen = new Set<string>();
  for (const [environment, { services: overrides }] of Object.entries(spec.environments)) {
    for (const [service, { domains: inherited }] of Object.entries(spec.services)) {
      const own = Object.hasOwn(overrides, service) ? overrides[service]?.domains : undefined;
      for (const [index, domain] of (own ?? inherited).entries()) {
        const path = [...(own ? ["environments", environment] : []), "services", service, "domains", index];
        const owner = claimed.get(domain);
        claimed.set(domain, owner ?? { service, environment });
        if (!owner || seen.has(path.join("."))) continue;
        seen.add(path.join("."));
        problems.push({ path, at: "value", message: domainClash(domain, owner, { service, environment }) });
      }
    }
  }
  return problems;
}

type Claim = { service: string; environment: string };

function domainClash(domain: string, first: Claim, second: Claim): string {
  if (first.environment === second.environment) {
    return first.service === second.service
      ? `${domain} is listed twice`
      : `${domain} is claimed by service "${first.service}" already`;
  }
  return `${domain} would lead to both ${first.environment} and ${second.environment}: write it under environments.${first.environment}.services.${first.service}.domains`;
}

function checkVerify(spec: AppSpec): SpecProblem[] {
  return spec.verify
    .map(({ service }, index) => ({ service, path: ["verify", index, "service"] }))
    .filter(({ service }) => !Object.hasOwn(spec.services, service))
    .map(({ service, path }) => unknownService(path, "value", service, spec));
}

/** CI away from this machine lives on the settings of an environment that is in an AWS account. */
function checkCi({ ci, environments }: AppSpec): SpecProblem[] {
  if (ci === undefined) return [];
  const path = ["ci", "environment"];
  const away = (["steps", "images"] as const).filter((key) => ci[key] !== "docker");
  const onEcs = Object.keys(environments).filter((name) => environments[name]?.runtime === "ecs");
  const choice = onEcs.length === 0 ? "none here has runtime: ecs" : `with runtime: ecs there is ${onEcs.join(", ")}`;
  const name = ci.environment;
  if (away.length === 0) {
    const message = "environment needs steps: ecs or images: codebuild, which use its AWS account";
    return name === undefined ? [] : [{ path, at: "key", message }];
  }
  if (name === undefined) {
    const message = `${away.map((key) => `${key}: ${ci[key]}`).join(" and ")} needs environment, whose AWS account is used: ${choice}`;
    return [{ path: ["ci", away[0] ?? "steps"], at: "key", message }];
  }
  if (!Object.hasOwn(environments, name)) {
    const meant = didYouMean(name, Object.keys(environments));
    const rest = meant === undefined ? choice : `did you mean "${meant}"?`;
    return [{ path, at: "value", message: `there is no environment "${name}": ${rest}` }];
  }
  if (onEcs.includes(name)) return [];
  return [{ path, at: "value", message: `${name} runs on Docker, so it has no AWS account: ${choice}` }];
}

function unknownService(path: (string | number)[], at: "key" | "value", name: string, spec: AppSpec): SpecProblem {
  const known = Object.keys(spec.services);
  const meant = didYouMean(name, known);
  const rest = meant === undefined ? `services are ${known.join(", ")}` : `did you mean "${meant}"?`;
  return { path, at, message: `there is no service "${name}": ${rest}` };
}
