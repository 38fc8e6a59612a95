import { z } from "zod";
import { fail } from "../shared/errors.ts";
import { AwsSettings, type EnvironmentSpec } from "../spec/app-spec.ts";
import { resolveAws } from "../spec/resolve-aws.ts";
import type { Place } from "./release.ts";

/** What a driver for ECS has to know of an AWS account: slow, shared things that Terraform owns. Plain JSON, without secrets. */
export type EcsSettings = {
  region: string;
  /** Name of the ECS cluster. */
  cluster: string;
  /** ARN of the load balancer's listener that our rules are added to. */
  listener: string;
  subnets: string[];
  securityGroups: string[];
  /** ARN of the role that pulls images, reads secrets and writes logs for tasks. */
  executionRole: string;
  /** ARN of the role the app itself has. */
  taskRole?: string;
  /** Tasks get a public address: for subnets without a way out through NAT or endpoints. */
  publicIp: boolean;
  /** Commands can be run inside tasks. The task role needs rights for that, so there is one. */
  exec: boolean;
  /** Services without a domain answer at `SERVICE-ENV-APP.DOMAIN`. */
  domain?: string;
  /** How the listener is spoken to from outside. */
  scheme: "http" | "https";
  architecture: "x86_64" | "arm64";
  /** Disk of each task; Fargate gives 20 for nothing. */
  storageGiB: number;
  logRetentionDays: number;
  /** Tasks of services run on Fargate Spot. */
  spot?: boolean;
  /** How many tasks run is Application Auto Scaling's to decide. */
  autoscaling?: boolean;
};

/** Where a release of an environment runs. */
export type RuntimeSettings = { kind: "docker" } | { kind: "ecs"; settings: EcsSettings };

/** Runtimes with the same key are the same place in the world; the rest of their settings may change. */
export function runtimeKey(runtime: RuntimeSettings): string {
  if (runtime.kind === "docker") return "docker";
  const { region, cluster, listener } = runtime.settings;
  return `ecs ${region} ${cluster} ${listener}`;
}

const Stored = z.union([
  z.object({ kind: z.literal("docker") }),
  z.object({
    kind: z.literal("ecs"),
    settings: AwsSettings.extend({
      domain: z.string().optional(),
      scheme: z.enum(["http", "https"]),
      architecture: z.enum(["x86_64", "arm64"]),
      storageGiB: z.number(),
      logRetentionDays: z.number(),
      spot: z.boolean().optional(),
      autoscaling: z.boolean().optional(),
    }),
  }),
]);

/** As it was recorded. */
export const parseRuntime = (stored: unknown): RuntimeSettings => Stored.parse(stored) as RuntimeSettings;

/**
 * Where a release of an environment runs, by its own declaration and what the environment's Terraform gives: what is written under `aws` wins over
 * outputs. `outputs` holds the values by name.
 * @throws AWS_SETTINGS_INVALID naming every setting that is missing or of another form
 */
export function runtimeOf(
  place: Place,
  { runtime, aws, infra }: Pick<EnvironmentSpec, "runtime" | "aws" | "infra">,
  outputs: Record<string, unknown>,
): RuntimeSettings {
  if (runtime === "docker") return { kind: "docker" };
  const resolved = resolveAws(AwsSettings, { ...(aws && { aws }), ...(infra && { infra }) }, outputs);
  if ("problems" in resolved) {
    throw fail("AWS_SETTINGS_INVALID", {
      message: `${place.app} ${place.environment} cannot run on ECS: ${resolved.problems.join("; ")}.`,
      hint: "Write them under `aws:` of the environment in shipway.yml, or name the Terraform outputs they come from under `aws: { outputs: … }` (docs/aws.md).",
    });
  }
  const { taskRole, ...settings } = resolved.settings;
  if (settings.exec && taskRole === undefined) throw noTaskRole(place);
  return {
    kind: "ecs",
    settings: {
      ...settings,
      ...(taskRole !== undefined && { taskRole }),
      ...(aws?.domain !== undefined && { domain: aws.domain }),
      scheme: aws?.scheme ?? "https",
      architecture: aws?.architecture ?? "x86_64",
      storageGiB: aws?.storage ?? 20,
      logRetentionDays: aws?.logDays ?? 30,
      ...(aws?.spot === true && { spot: true }),
      ...(aws?.autoscaling === true && { autoscaling: true }),
    },
  };
}

/** ECS refuses such a service, in the middle of a deployment (Amazon ECS developer guide, ECS Exec: the task role has the rights). */
function noTaskRole({ app, environment }: Place) {
  return fail("AWS_SETTINGS_INVALID", {
    message: `${app} ${environment} cannot run on ECS: exec is on and taskRole is missing, which is the role that lets AWS's agent into tasks.`,
    hint: "Name a role with the statement of terraform/aws-fargate/policies/task-exec.json under `aws: { taskRole }`, or take `exec: true` out.",
  });
}
