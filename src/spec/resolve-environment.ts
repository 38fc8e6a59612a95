import { fail } from "../shared/errors.ts";
import { matchesRefGlob } from "../shared/ref-glob.ts";
import type { Change } from "../source/change.ts";
import {
  type ApprovalRule,
  type AppSpec,
  type EnvironmentSpec,
  FARGATE_MEMORY_MIB,
  type ServiceSpec,
} from "./app-spec.ts";

/**
 * What `environment` runs: its overrides over the services, its variables under the services' own, memory filled in.
 * Order of variables, the last wins: service, environment, the environment's entry for the service.
 * @throws ENVIRONMENT_NOT_FOUND
 */
export function resolveEnvironment(spec: AppSpec, environment: string): EnvironmentSpec {
  const rules = Object.hasOwn(spec.environments, environment) ? spec.environments[environment] : undefined;
  if (!rules) {
    throw fail("ENVIRONMENT_NOT_FOUND", {
      message: `App ${spec.app} has no environment ${environment}: it has ${Object.keys(spec.environments).join(", ") || "none"}.`,
      hint: `Make it with \`shipway env create ${environment} --app ${spec.app}\`, declare it under \`environments\` in shipway.yml, or name one of those.`,
    });
  }
  const services = Object.entries(spec.services).map(([name, service]) => {
    const { count, cpu, memory, env, domains } = (Object.hasOwn(rules.services, name) && rules.services[name]) || {};
    const size = sizeOf(service, cpu, memory);
    return [
      name,
      {
        ...service,
        ...size,
        count: count ?? service.count,
        domains: domains ?? service.domains,
        env: { ...service.env, ...rules.env, ...env },
      },
    ] as const;
  });
  return {
    environment,
    services: Object.fromEntries(services),
    backing: rules.backing === "none" ? {} : spec.backing,
    verify: spec.verify,
    ...(rules.infra && { infra: rules.infra }),
    runtime: rules.runtime ?? "docker",
    ...(rules.aws && { aws: rules.aws }),
    ...(rules.approval === "required" && { approval: approvalOf(rules) }),
    ...(rules.secrets && { secretSources: rules.secrets }),
    bakeMs: spec.bake,
    standbyMs: spec.standby,
  };
}

function approvalOf({ approvers, approvalWithin }: AppSpec["environments"][string]): ApprovalRule {
  return { ...(approvers && { approvers }), ...(approvalWithin !== undefined && { withinMs: approvalWithin }) };
}

/** Which refs an environment takes. */
export type RefRules = { branch?: string | undefined; tag?: string | undefined };

/** The environments a pushed ref deploys to, in the order they are declared. */
export function environmentsFor(
  spec: { environments: Record<string, RefRules> },
  { refKind, refName }: Pick<Change, "refKind" | "refName">,
): string[] {
  return Object.entries(spec.environments)
    .filter(([, rules]) => {
      const pattern = refKind === "branch" ? rules.branch : rules.tag;
      return pattern !== undefined && matchesRefGlob(pattern, refName);
    })
    .map(([name]) => name);
}

function sizeOf(
  service: ServiceSpec,
  cpuHere: ServiceSpec["cpu"] | undefined,
  memoryHere: number | undefined,
): { cpu: ServiceSpec["cpu"]; memory: number } {
  const cpu = cpuHere ?? service.cpu;
  return { cpu, memory: memoryHere ?? service.memory ?? smallestMemoryMiB(cpu) };
}

function smallestMemoryMiB(cpu: number): number {
  const smallest = FARGATE_MEMORY_MIB[cpu]?.[0];
  if (smallest === undefined) throw new Error(`no memory size is known for ${cpu} CPU units`);
  return smallest;
}

/** Rules of an environment that shipway.yml does not declare. */
export type OutsideRules = { name: string; branch: string | null; tag: string | null };

/**
 * The spec with environments that were declared elsewhere; where the spec has one of the same name, its own rules hold. Such an environment runs every
 * service as it stands, but answers at default addresses alone: a domain can lead to one place only.
 */
export function withEnvironments(spec: AppSpec, declared: readonly OutsideRules[]): AppSpec {
  const own = Object.entries(spec.services).filter(([, { domains }]) => domains.length > 0);
  const services = Object.fromEntries(own.map(([name]) => [name, { domains: [] }]));
  const missing = declared
    .filter(({ name }) => !Object.hasOwn(spec.environments, name))
    .map(({ name, branch, tag }) => {
      const rules = { ...(branch !== null && { branch }), ...(tag !== null && { tag }) };
      return [name, { ...rules, runtime: "docker", services, env: {}, [OUTSIDE]: true }] as const;
    });
  if (missing.length === 0) return spec;
  return { ...spec, environments: { ...spec.environments, ...Object.fromEntries(missing) } };
}

/** Tells them apart in the spec that a release records; the schema of shipway.yml has no such key. */
const OUTSIDE = "declaredOutside";

/** True when the rules of this environment were not shipway.yml's own. */
export function isFromOutside(spec: AppSpec, environment: string): boolean {
  return Object.hasOwn(spec.environments[environment] ?? {}, OUTSIDE);
}
