import type { Secrets } from "../environment/secrets.ts";
import type { Place } from "../rollout/release.ts";
import { errorCode, fail, hasCode } from "../shared/errors.ts";
import type { Repositories } from "../source/repositories.ts";
import type { AppSpec, InfraSpec } from "../spec/app-spec.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Database } from "../store/open-store.ts";
import { hashCode, hashInputs } from "./code-hash.ts";
import type { InfraCode, InfraCommit } from "./infra-code.ts";
import type { Takeover } from "./infra-run.ts";
import { commandFor, findInfra, type InfraRun, type RunRequest, requestRun, type StartedRun } from "./runs.ts";

export type AskDeps = { db: Database; repositories: Repositories; secrets: Secrets; code: InfraCode };

const SPEC_FILE = "shipway.yml";

/** What was asked for, and what must be handed to the engine. */
export type AskedRun = { id: string; start: StartedRun | undefined };

/**
 * Asks for a plan or an apply. What it is made of says `shipway.yml` at the app's default branch. Code in the app's own repository is that of `ref` (default:
 * the default branch), and so is its `shipway.yml`; of a repository of its own, `ref` names a branch, tag or commit there.
 * @throws INFRA_NOT_DECLARED, INFRA_INVALID, INFRA_BLOCKED, COMMIT_NOT_FOUND, SPEC_INVALID, SPEC_MISSING, SECRET_MISSING, and what `InfraCode.resolve` does
 */
export async function askRun(
  deps: AskDeps,
  place: Place,
  wanted: { kind: "plan" | "apply"; ref: string | undefined; actor: string },
): Promise<AskedRun> {
  const { spec, code } = await findCode(deps, place, wanted.ref);
  const inputs = await inputsOf(deps, place, code.commit, spec);
  return ask(deps, { ...place, kind: wanted.kind, ...code, actor: wanted.actor, spec, inputs });
}

export async function findCode(
  deps: AskDeps,
  place: Place,
  ref: string | undefined,
): Promise<{ spec: InfraSpec; code: InfraCommit }> {
  const { app } = place;
  const byDefault = await deps.repositories.defaultBranch(app);
  let refOfCode = ref;
  const found = await specAt(deps, place, byDefault).catch(async (error: unknown) => {
    // A branch may be the first to have what the default one lacks; where it has nothing either, that is what stands in the way.
    if (ref === undefined || errorCode(error) === undefined) throw error;
    refOfCode = undefined;
    return specAt(deps, place, ref).catch((cause: unknown) => {
      throw hasCode(cause, "COMMIT_NOT_FOUND") ? error : cause;
    });
  });
  if (found.spec.repository !== undefined)
    return { spec: found.spec, code: await codeOf(deps, place, found.spec, found.code, refOfCode) };
  return refOfCode === undefined ? found : specAt(deps, place, refOfCode);
}

async function specAt(deps: AskDeps, place: Place, refName: string): Promise<{ spec: InfraSpec; code: InfraCommit }> {
  const commit = await deps.repositories.resolveCommit(place.app, refName);
  return { spec: infraOf(await readSpec(deps, place.app, commit), place, commit), code: { commit, refName } };
}

/**
 * Which commit is run: of the app's own code the given one, of a repository of its own the newest of `ref` (default: the spec's).
 * @throws as `InfraCode.resolve`
 */
export async function codeOf(
  { code }: Pick<AskDeps, "code">,
  place: Place,
  spec: InfraSpec,
  own: InfraCommit,
  ref?: string,
): Promise<InfraCommit> {
  const { repository } = spec;
  return repository === undefined ? own : code.resolve(place, { ...spec, repository }, ref);
}

/**
 * Asks for a drift check, or for an apply of what was applied last, which puts back what drifted; with `takeover`, for one that takes over what drifted.
 * @throws INFRA_NOT_DECLARED when nothing was applied yet, INFRA_BLOCKED
 */
export async function askAgain(
  deps: Pick<AskDeps, "db">,
  place: Place,
  wanted: { kind: "drift" | "apply"; actor: string; takeover?: Takeover },
): Promise<AskedRun> {
  const environment = await findInfra(deps.db, place);
  if (!environment?.applied_commit || !environment.applied_spec) {
    throw fail("INFRA_NOT_DECLARED", {
      message: `Nothing has been applied to ${place.app} ${place.environment} yet, so nothing can have drifted from it.`,
      hint: `Apply it first: \`shipway infra apply --app ${place.app} --env ${place.environment}\`.`,
    });
  }
  const { applied_commit: commit, applied_spec: spec, applied_inputs: inputs } = environment;
  return ask(deps, { ...place, ...wanted, commit, refName: "as applied", spec, inputs: inputs ?? "" });
}

const ask = ({ db }: Pick<AskDeps, "db">, request: RunRequest): Promise<AskedRun> =>
  db.transaction().execute((tx) => requestRun(tx, request));

async function readSpec({ repositories }: AskDeps, app: string, commit: string): Promise<AppSpec> {
  const text = await repositories.readFile(app, commit, SPEC_FILE);
  if (text !== undefined) return parseAppSpec(text, SPEC_FILE);
  throw fail("SPEC_MISSING", {
    message: `There is no ${SPEC_FILE} at ${commit.slice(0, 7)}.`,
    hint: "Add one that names the folder with the Terraform files; docs/infrastructure.md shows how.",
  });
}

function infraOf(spec: AppSpec, { app, environment }: Place, commit: string): InfraSpec {
  const rules = Object.hasOwn(spec.environments, environment) ? spec.environments[environment] : undefined;
  if (rules?.infra) return rules.infra;
  throw fail("INFRA_NOT_DECLARED", {
    message: rules
      ? `Environment ${environment} of ${app} declares no infra at ${commit.slice(0, 7)}.`
      : `${SPEC_FILE} of ${app} declares no environment ${environment} at ${commit.slice(0, 7)}.`,
    hint: `Add \`infra: { dir: … }\` to environments.${environment} in ${SPEC_FILE}; docs/infrastructure.md shows how.`,
  });
}

/** @throws SECRET_MISSING, INFRA_INVALID */
export async function inputsOf(deps: AskDeps, place: Place, commit: string, spec: InfraSpec): Promise<string> {
  const [code, { versions }] = await Promise.all([
    hashCode(deps.repositories.git, deps.code.dirOf(place.app, spec), commit, spec),
    deps.secrets.resolve(place, spec.secrets),
  ]);
  return hashInputs(code, spec, versions);
}

/** Why a run did not get to its end, for whom it stood in the way. */
export function problemOf(run: InfraRun) {
  if (run.problem) return run.problem;
  return run.status === "waiting"
    ? {
        code: "INFRA_APPROVAL_NEEDED",
        message: `The infrastructure needs an approval first: ${run.plan?.approval.join("; ") ?? "its plan waits"}.`,
        hint: `Look at it with \`shipway infra runs ${run.id}\`, then \`shipway infra approve ${run.id}\`.`,
      }
    : {
        code: "INFRA_FAILED",
        message: `Infra run ${run.id} is ${run.status}.`,
        hint: `Try again: \`${commandFor(run)}\`.`,
      };
}
