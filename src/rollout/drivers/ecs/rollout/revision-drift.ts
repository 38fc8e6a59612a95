import type { ContainerDefinition, TaskDefinition } from "@aws-sdk/client-ecs";
import type { TaskDrift } from "../../../target.ts";
import { canonical, specOf, type TaskDefinitionInput, taskDefinitionOf } from "./task-definition.ts";

/** A revision as ECS shows it. */
export type SeenRevision = { definition: TaskDefinition; spec: string | undefined };

type Attributes = TaskDrift["attributes"];
/** What is shown in place of the value of a secret, or of a variable that nobody declared. */
const HIDDEN = "(hidden)";
const NOT_SET = "(not set)";

/**
 * How a revision differs from what the service would be started with now. `outdated`: it is as Shipway registered it, and variables were declared anew
 * since; `changed`: somebody else registered it. Only what Shipway sets is compared: ECS adds members of its own.
 */
export function revisionDrift(
  input: TaskDefinitionInput,
  { definition, spec }: SeenRevision,
): { kind: "changed" | "outdated"; attributes: Attributes } | undefined {
  const declared = taskDefinitionOf(input);
  const [wanted] = declared.containerDefinitions ?? [];
  const [seen] = definition.containerDefinitions ?? [];
  const settings = differing([
    ["image", wanted?.image, seen?.image],
    ["command", wanted?.command, seen?.command],
    ["cpu", declared.cpu, definition.cpu],
    ["memory", declared.memory, definition.memory],
    ["port", wanted?.portMappings?.[0]?.containerPort, seen?.portMappings?.[0]?.containerPort],
    ["health.command", wanted?.healthCheck?.command, seen?.healthCheck?.command],
    ["stopTimeout", wanted?.stopTimeout, seen?.stopTimeout],
    ["executionRole", declared.executionRoleArn, definition.executionRoleArn],
    ["taskRole", declared.taskRoleArn, definition.taskRoleArn],
    ["architecture", declared.runtimePlatform?.cpuArchitecture, definition.runtimePlatform?.cpuArchitecture],
    ["storage", declared.ephemeralStorage?.sizeInGiB, definition.ephemeralStorage?.sizeInGiB],
    ["logs", wanted?.logConfiguration?.options?.["awslogs-group"], seen?.logConfiguration?.options?.["awslogs-group"]],
  ]);
  const variables = [...changedEnvironment(wanted, seen), ...changedSecrets(wanted, seen, input.references ?? {})];
  if (settings.length + variables.length === 0) return undefined;
  // With the variables it has, it is the very revision that Shipway registered.
  const withItsOwn = { ...wanted, environment: byName(seen?.environment), ...secretsOf(seen) };
  const isOurs = spec !== undefined && spec === specOf(input, { ...declared, containerDefinitions: [withItsOwn] });
  return { kind: settings.length === 0 && isOurs ? "outdated" : "changed", attributes: [...settings, ...variables] };
}

function differing(pairs: [path: string, before: unknown, after: unknown][]): Attributes {
  return pairs
    .filter(([, before, after]) => canonical(before ?? null) !== canonical(after ?? null))
    .map(([path, before, after]) => ({ path, before: textOf(before), after: textOf(after) }));
}

const textOf = (value: unknown): string =>
  value === undefined ? NOT_SET : Array.isArray(value) ? value.join(" ") : String(value);

function changedEnvironment(
  wanted: ContainerDefinition | undefined,
  seen: ContainerDefinition | undefined,
): Attributes {
  const [before, after] = [valuesOf(wanted?.environment), valuesOf(seen?.environment)];
  return namesOf(before, after)
    .filter((name) => before.get(name) !== after.get(name))
    .map((name) => {
      const isDeclared = before.has(name);
      const now = after.get(name);
      return {
        path: `env.${name}`,
        before: before.get(name) ?? NOT_SET,
        after: now === undefined ? NOT_SET : isDeclared ? now : HIDDEN,
      };
    });
}

/** Secrets of the account by where they lie, which is no secret; ours by the version that each refers to. */
function changedSecrets(
  wanted: ContainerDefinition | undefined,
  seen: ContainerDefinition | undefined,
  references: Record<string, string>,
): Attributes {
  const versions = (container: ContainerDefinition | undefined) =>
    new Map(
      (container?.secrets ?? []).map(({ name = "", valueFrom = "" }) => [
        name,
        Object.hasOwn(references, name) ? valueFrom : valueFrom.split(":").slice(7).join(":"),
      ]),
    );
  const [before, after] = [versions(wanted), versions(seen)];
  return namesOf(before, after)
    .filter((name) => before.get(name) !== after.get(name))
    .map((name) => ({
      path: `secrets.${name}`,
      ...(Object.hasOwn(references, name)
        ? { before: before.get(name) ?? NOT_SET, after: after.get(name) ?? NOT_SET }
        : hiddenChange(before, after, name)),
    }));
}

function hiddenChange(before: Map<string, string>, after: Map<string, string>, name: string) {
  return {
    before: before.has(name) ? HIDDEN : NOT_SET,
    after: after.has(name) ? (before.has(name) ? "(another value, hidden)" : HIDDEN) : NOT_SET,
  };
}

const valuesOf = (list: ContainerDefinition["environment"]) =>
  new Map((list ?? []).map(({ name, value }) => [name ?? "", value ?? ""]));

const namesOf = (a: Map<string, string>, b: Map<string, string>): string[] =>
  [...new Set([...a.keys(), ...b.keys()])].sort();

const byName = (list: ContainerDefinition["environment"]) =>
  [...(list ?? [])]
    .sort((a, b) => ((a.name ?? "") < (b.name ?? "") ? -1 : 1))
    .map(({ name, value }) => ({ name, value }));

const secretsOf = (seen: ContainerDefinition | undefined) => {
  const list = [...(seen?.secrets ?? [])].sort((a, b) => ((a.name ?? "") < (b.name ?? "") ? -1 : 1));
  return { secrets: list.length === 0 ? undefined : list.map(({ name, valueFrom }) => ({ name, valueFrom })) };
};
