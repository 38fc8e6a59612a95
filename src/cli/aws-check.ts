import { partitionOf } from "../aws/calls.ts";
import { hasCode, toProblem } from "../shared/errors.ts";
import type { Check } from "./doctor.ts";
import type { Permission } from "./doctor-aws.ts";

export const TASKS = "ecs-tasks.amazonaws.com";

/** `not needed`: a deployment never makes these calls, so that they are denied stands in no deployment's way. */
export async function looked(
  name: string,
  look: () => Promise<Check | undefined>,
  forDeployments: "needed" | "not needed" = "needed",
): Promise<Check | undefined> {
  return look().catch((error: unknown) => {
    const { message, hint } = toProblem(error);
    const isFault = forDeployments === "needed" && !hasCode(error, "AWS_THROTTLED");
    return {
      name,
      status: isFault ? ("fail" as const) : ("warn" as const),
      found: `${isFault ? "" : "not tested: "}${message}`,
      ...(hint !== undefined && { fix: hint }),
    };
  });
}

/** Whether the role is there and `service` may take it on, which is called `who`. */
export function checkRole(
  name: string,
  arn: string,
  seen: { services: string[] } | undefined,
  { service, who } = { service: TASKS, who: "tasks" },
): Check {
  if (seen === undefined)
    return {
      name,
      status: "fail",
      found: `${arn} does not exist`,
      fix: "Name one that does under `aws:`, or apply the Terraform that makes it.",
    };
  if (seen.services.includes(service)) return { name, status: "ok", found: arn };
  return {
    name,
    status: "fail",
    found: `${who} may not take on ${arn}: it trusts ${seen.services.join(", ") || "no service"}`,
    fix: `Let its trust policy have ${JSON.stringify({ Effect: "Allow", Principal: { Service: service }, Action: "sts:AssumeRole" })}.`,
  };
}

/** The same actions on several things, each in this context. */
export const permissionsOn = (resource: string, context: Record<string, string>, ...actions: string[]): Permission[] =>
  actions.map((action) => ({ action, resource, context }));

/** A statement for each thing that something is lacking on, as JSON. */
export function statementsFor(lacking: Permission[]): string {
  const statements = [...new Set(lacking.map(({ resource }) => resource))].map((resource) => {
    const actions = lacking.filter((one) => one.resource === resource).map(({ action }) => action);
    return JSON.stringify({ Effect: "Allow", Action: actions, Resource: resource });
  });
  return statements.join(", ");
}

/** The name is what follows the last `/`: what is before it is a path. */
export const roleNameOf = (arn: string): string => arn.split("/").at(-1) ?? arn;

/** Asked at most once, whoever needs the answer. */
export function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let asked: Promise<T> | undefined;
  return () => {
    asked ??= ask();
    return asked;
  };
}

/** Whether the role may do what was tried; `found` says what, and `policy` which of ours lets it. */
export function lackingCheck(name: string, role: string, lacking: Permission[], found: string, policy: string): Check {
  if (lacking.length === 0) return { name, status: "ok", found };
  return {
    name,
    status: "fail",
    found: `IAM would deny ${role} ${lacking.map(({ action }) => action).join(", ")}`,
    fix: `Attach terraform/aws-fargate/policies/${policy} to it, or add: ${statementsFor(lacking)}`,
  };
}

/** Names things of one account and Region. */
export const arnsIn = (region: string, account: string) => (service: string, resource: string) =>
  `arn:${partitionOf(region)}:${service}:${region}:${account}:${resource}`;
