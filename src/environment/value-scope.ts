import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";

/** Who gets variables and secrets: tasks of an environment, or pipeline steps: every one of the app, or those with `deployment: ENVIRONMENT`. */
export type ValueScope = (Place & { pipelines?: false }) | { app: string; environment?: string; pipelines: true };

/** As columns of `variables` and `secrets`. No environment has the empty name. */
export const columnsOf = ({ app, environment = "", pipelines = false }: ValueScope) => ({
  app,
  environment,
  pipelines,
});

/** As events name it; what every step of an app gets belongs to no environment. */
export const frameOf = ({ app, environment }: ValueScope) => ({
  app,
  ...(environment !== undefined && { environment }),
});

/** What an event says beside that: the environment alone does not tell steps from tasks. */
export const forWhom = ({ pipelines }: ValueScope): { for?: "pipelines" } => (pipelines ? { for: "pipelines" } : {});

/** As people say it: `in production`, `for every pipeline step`. */
export function whereOf({ environment, pipelines }: ValueScope): string {
  if (!pipelines) return `in ${environment}`;
  return environment === undefined
    ? "for every pipeline step"
    : `for pipeline steps with \`deployment: ${environment}\``;
}

/** What a command takes to mean it. */
export const flagsOf = ({ app, environment, pipelines }: ValueScope): string =>
  [
    `--app ${app}`,
    ...(pipelines ? ["--pipelines"] : []),
    ...(environment === undefined ? [] : [`--env ${environment}`]),
  ].join(" ");

const OURS_IN_STEPS = /^(BITBUCKET_|SHIPWAY_|CI$)/;

/** @throws REQUEST_INVALID for a name that pipeline steps get from Shipway */
export function refuseOurs({ pipelines }: ValueScope, name: string): void {
  if (!pipelines || !OURS_IN_STEPS.test(name)) return;
  throw fail("REQUEST_INVALID", {
    message: `${name} cannot be set for pipelines: CI and names that start with BITBUCKET_ or SHIPWAY_ say what a step runs for, and scripts rely on it.`,
    hint: "Choose another name, and use that one in the script.",
  });
}
