import type { PipelineContext, StepPlan } from "./executor.ts";
import { CLONE_DIR } from "./step-places.ts";

/**
 * The environment of a step's container: Bitbucket's default variables, then the team's variables and secrets, then what the file sets for the step. This is
 * the one place where secrets are revealed; they never become arguments or labels.
 */
export function stepEnvironment(context: PipelineContext, step: StepPlan): Record<string, string> {
  const secrets = Object.entries(context.secrets).map(([name, secret]) => [name, secret.reveal()]);
  return {
    CI: "true",
    BITBUCKET_BUILD_NUMBER: String(context.buildNumber),
    BITBUCKET_CLONE_DIR: CLONE_DIR,
    BITBUCKET_COMMIT: context.commit,
    ...(context.refKind === "branch" ? { BITBUCKET_BRANCH: context.refName } : { BITBUCKET_TAG: context.refName }),
    BITBUCKET_REPO_SLUG: context.app,
    BITBUCKET_REPO_FULL_NAME: `${context.app}/${context.app}`,
    BITBUCKET_WORKSPACE: context.app,
    BITBUCKET_PIPELINE_UUID: `{${context.runId}}`,
    BITBUCKET_STEP_UUID: `{${context.runId}-${step.id}}`,
    BITBUCKET_STEP_RUN_NUMBER: "1",
    // git refuses a checkout of another owner, and the step's user is seldom the one that made it.
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "safe.directory",
    GIT_CONFIG_VALUE_0: "*",
    ...context.variables,
    ...Object.fromEntries(secrets),
    ...step.variables,
  };
}

/** Replaces `$NAME` and `${NAME}` where NAME is known; anything else, such as a password with a `$` in it, stays as it is. */
export function expandVariables(text: string, known: Record<string, string>): string {
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced: string | undefined, bare: string | undefined) => {
    const name = braced ?? bare ?? "";
    return Object.hasOwn(known, name) ? (known[name] ?? whole) : whole;
  });
}
