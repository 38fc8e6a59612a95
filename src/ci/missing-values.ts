import type { YamlProblem } from "../shared/yaml-problems.ts";
import type { StepValues } from "./executor.ts";
import type { Asked, UsedVariable } from "./plan.ts";

/** Names that have a value, for every step and for those with a deployment. */
export type KnownNames = { every: ReadonlySet<string>; deployments: Record<string, ReadonlySet<string>> };

export const namesOf = ({ variables, secrets }: StepValues | { variables: object; secrets: object }): Set<string> =>
  new Set([...Object.keys(variables), ...Object.keys(secrets)]);

export type MissingValues = { problems: YamlProblem[]; notes: YamlProblem[]; names: string[] };

/**
 * What the file names and nobody has set. A registry's login is of no use without it; a service's variable, or a password with a `$` in it, may be meant as it
 * is written, so that is only said.
 */
export function findMissing({ variables }: Asked, known: KnownNames): MissingValues {
  const missing = variables.filter((used) => !isKnown(used, known));
  const needed = missing.filter(isNeeded);
  return {
    problems: needed.map(({ at, value, what }) => ({
      ...at,
      message: `${what} is fetched with $${value}, and nobody has set it for pipelines`,
    })),
    notes: missing
      .filter((used) => !isNeeded(used))
      .map(({ at, value, what }) => ({
        ...at,
        message: `${what} gets $${value} as it is written: nobody has set ${value} for pipelines.`,
      })),
    names: [...new Set(needed.map(({ value }) => value))],
  };
}

const isNeeded = ({ by, isWhole }: UsedVariable): boolean => by === "login" && isWhole;

function isKnown({ value, deployment }: UsedVariable, { every, deployments }: KnownNames): boolean {
  return every.has(value) || (deployment !== undefined && deployments[deployment]?.has(value) === true);
}
