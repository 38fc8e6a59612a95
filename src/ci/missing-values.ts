import { fail } from "../shared/errors.ts";
import { renderYamlProblems, type YamlProblem } from "../shared/yaml-problems.ts";
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

/** With `refName` of a push that git has already; without it before one. */
export function valuesMissing(found: {
  file: string;
  text: string;
  app: string;
  problems: readonly YamlProblem[];
  names: readonly string[];
  refName?: string;
}) {
  const { file, text, app, problems, names, refName } = found;
  const count = problems.length === 1 ? "" : ` (${problems.length} problems)`;
  const again = refName === undefined ? "" : " Then run it again:";
  const cure =
    names.length === 0
      ? "Take `deployment:` out of what runs for this ref, or let the environment's rule take it."
      : `Set ${names.length === 1 ? "it" : "them"}${again === "" ? ", then push:" : "."}`;
  return fail("PIPELINE_VALUES_MISSING", {
    message: `${file} asks for values that its steps do not get${count}:\n\n${renderYamlProblems(text, file, problems)}`,
    hint: [
      `${cure}${again}`,
      ...names.map((name) => `  ${setCommand(name, app)}`),
      ...(refName === undefined ? [] : [`  shipway deploy --app ${app} --ref ${refName}`]),
    ].join("\n"),
  });
}

/** What a checkout asks for of which nobody here knows whether it is set. */
export function notesOnAsked({ variables }: Asked, app: string): string[] {
  const needed = variables.filter(({ isWhole }) => isWhole).sort((a, b) => a.at.line - b.at.line);
  const notes = needed.map(
    ({ at, value, what, by }) =>
      `line ${at.line}: ${what} ${by === "login" ? "is fetched with" : "gets"} $${value}. Unless it is set: \`${setCommand(value, app)}\``,
  );
  return [...new Set(notes)];
}

const setCommand = (name: string, app: string): string => `shipway secret set ${name} --app ${app} --pipelines`;

const isNeeded = ({ by, isWhole }: UsedVariable): boolean => by === "login" && isWhole;

function isKnown({ value, deployment }: UsedVariable, { every, deployments }: KnownNames): boolean {
  return every.has(value) || (deployment !== undefined && deployments[deployment]?.has(value) === true);
}
