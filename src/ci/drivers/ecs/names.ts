import { createHash } from "node:crypto";
import type { Tags } from "../../../aws/tags.ts";
import { INSTALL_TAG } from "../../../aws/tags.ts";

/** Whose a step is. The environment whose account is used has no part in it: CI belongs to the app. */
export type StepKey = { install: string; app: string; runId: string; stepId: string };

export const STEP_TAG = "shipway:step";
const RUN_TAG = "shipway:run";

/** Tags set when a thing is made, never after: between the two calls it would be nobody's. */
export const tagsOfApp = (install: string, app: string, more: Tags = {}): Tags => ({
  [INSTALL_TAG]: install,
  "shipway:app": app,
  ...more,
});

export const tagsOfStep = ({ install, app, runId, stepId }: StepKey): Tags =>
  tagsOfApp(install, app, { [RUN_TAG]: runId, [STEP_TAG]: stepId });

/** An environment's name starts with a letter: what begins with `_` in its place meets no environment. */
const CI = "_ci";

export const logGroupOf = (install: string, app: string): string => `/shipway/${install}/${app}/${CI}`;

/** By its content, so that equal tasks of all runs share one definition. At most 255 of `A-Za-z0-9_-` (Amazon ECS API, RegisterTaskDefinition, `family`). */
export const familyOf = (install: string, app: string, hash: string): string =>
  `shipway-${install}_${app}_${CI}_${hash}`;

/** All tasks of a run are listed by it: at most 128 of `A-Za-z0-9-_/` (Amazon ECS API, RunTask, `startedBy`). */
export const startedByOf = (install: string, runId: string): string => `shipway/ci/${install}/${runId}`;

/** A fixed word ends it: Secrets Manager takes a name that ends in a dash and six characters for one with its own suffix. */
export const secretNameOf = ({ install, app, runId, stepId }: StepKey, what: string): string =>
  `shipway/${install}/${app}/${CI}/${runId}/${stepId}/${what}/values`;

/** awslogs makes it `PREFIX/CONTAINER/TASK-ID` (Amazon ECS developer guide, awslogs-stream-prefix). */
export const LOG_PREFIX = "ci";
export const logStreamOf = (container: string, taskArn: string): string =>
  `${LOG_PREFIX}/${container}/${taskArn.split("/").at(-1) ?? ""}`;

export const hexHash = (text: string, length = 64): string =>
  createHash("sha256").update(text).digest("hex").slice(0, length);

/** Where things lie in the bucket. */
export function newKeys(install: string) {
  const root = `shipway/${install}/ci/`;
  const runs = `${root}runs/`;
  const run = (runId: string) => `${runs}${safe(runId)}/`;
  const step = (runId: string, stepId: string) => `${run(runId)}steps/${safe(stepId)}/`;
  return {
    runs,
    run,
    step,
    steps: (runId: string) => `${run(runId)}steps/`,
    checkout: (runId: string, commit: string, depth: number | undefined) =>
      `${run(runId)}checkout-${safe(commit)}-${depth ?? "whole"}.tar.gz`,
    artifacts: (runId: string) => `${run(runId)}artifacts/`,
    artifactsOf: (runId: string, { id, stage }: { id: string; stage: number }) =>
      `${run(runId)}artifacts/${stage}.${safe(id)}.tar.gz`,
    caches: (app: string) => `${root}caches/${safe(app)}/`,
    cache: (app: string, version: string) => `${root}caches/${safe(app)}/${safe(version)}.tar.gz`,
    agent: (hash: string) => `${root}agent/${hash}.mjs`,
  };
}

export type Keys = ReturnType<typeof newKeys>;

/** What could lead out of a prefix is a bug of the caller. */
function safe(name: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name)) throw new Error(`not usable in the name of an object: ${name}`);
  return name;
}
