import { findMissing, type KnownNames, namesOf, valuesMissing } from "../ci/missing-values.ts";
import type { Asked, PlannedRef } from "../ci/plan.ts";
import { declaredEnvironments } from "../environment/environments.ts";
import { newestVersions, type PipelineVersions } from "../environment/pipeline-values.ts";
import type { Secrets } from "../environment/secrets.ts";
import type { DeliveredChange } from "../release/deliveries.ts";
import { errorCode } from "../shared/errors.ts";
import type { Repositories } from "../source/repositories.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { environmentsFor, type RefRules } from "../spec/resolve-environment.ts";
import type { Store } from "../store/open-store.ts";

type Deps = { store: Store; repositories: Repositories; secrets: Secrets };

const SPEC_FILE = "shipway.yml";
/** Of a pipeline from before there were any. */
export const NO_VALUES: PipelineVersions = { every: { variables: {}, secrets: {} }, deployments: {} };

/**
 * What the steps of a change get of the team's variables and secrets. Those of a deployment are for refs that its environment's rule takes, as the default
 * branch has that rule: a branch may write another one into its own shipway.yml.
 * @throws PIPELINE_VALUES_MISSING for all that the file asks for and does not get, each under its line; `readFile` gives that file
 */
export async function settleValues(
  deps: Deps,
  change: DeliveredChange,
  asked: Asked | undefined,
  { file, readFile }: { file: string; readFile: () => Promise<string | undefined> },
): Promise<PipelineVersions> {
  const wanted = [...new Set((asked?.deployments ?? []).map(({ value }) => value))];
  const found = await newestVersions({ db: deps.store.db, secrets: deps.secrets }, change.app, wanted);
  if (asked === undefined) return found;
  const rules = wanted.some((name) => isSet(found, name)) ? await findRules(deps, change.app) : undefined;
  const closed = asked.deployments.flatMap(({ value, at }) => {
    if (rules === undefined || !isSet(found, value) || environmentsFor(rules, change).includes(value)) return [];
    return [{ ...at, message: whyClosed(rules, value, change) }];
  });
  const missing = findMissing(asked, knownNames(found));
  const problems = [...closed, ...missing.problems];
  if (problems.length === 0) return found;
  const { app, refName } = change;
  throw valuesMissing({ file, text: (await readFile()) ?? "", app, problems, names: missing.names, refName });
}

/** What a service gets as it is written, for want of a value: most often a slip. */
export function notesOnValues(asked: Asked | undefined, versions: PipelineVersions): string[] {
  if (asked === undefined) return [];
  const { notes } = findMissing(asked, knownNames(versions));
  return [...new Set(notes.map(({ line, message }) => `line ${line}: ${message}`))];
}

function knownNames({ every, deployments }: PipelineVersions): KnownNames {
  const own = Object.entries(deployments).map(([name, versions]) => [name, namesOf(versions)]);
  return { every: namesOf(every), deployments: Object.fromEntries(own) };
}

function isSet({ deployments }: PipelineVersions, name: string): boolean {
  const own = deployments[name];
  return own !== undefined && namesOf(own).size > 0;
}

type Rules = { environments: Record<string, RefRules>; branch: string };

/** The environments of the app as its default branch has them, with those declared through the API. */
async function findRules({ store, repositories }: Deps, app: string): Promise<Rules> {
  const branch = await repositories.defaultBranch(app);
  const declared = (await declaredEnvironments(store.db, app)).map(({ name, branch, tag }): [string, RefRules] => [
    name,
    { branch: branch ?? undefined, tag: tag ?? undefined },
  ]);
  const own = (await specAt(repositories, app, branch))?.environments;
  // As for a deployment: of one name, shipway.yml's own rules hold.
  return { branch, environments: { ...Object.fromEntries(declared), ...own } };
}

/** Undefined where there is none that can be read: then it opens nothing. */
async function specAt(repositories: Repositories, app: string, branch: string): Promise<AppSpec | undefined> {
  try {
    const commit = await repositories.resolveCommit(app, `refs/heads/${branch}`);
    const text = await repositories.readFile(app, commit, SPEC_FILE);
    return text === undefined ? undefined : parseAppSpec(text, SPEC_FILE);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return undefined;
  }
}

function whyClosed({ environments, branch }: Rules, environment: string, { refKind, refName }: PlannedRef): string {
  const rule = Object.hasOwn(environments, environment) ? environments[environment] : undefined;
  const what = `the pipeline variables of ${environment}`;
  if (rule === undefined)
    return `${what} are for an environment that neither shipway.yml on ${branch} nor the API declares: nobody knows which refs may have them`;
  const refs = [
    ...(rule.branch === undefined ? [] : [`branch ${rule.branch}`]),
    ...(rule.tag === undefined ? [] : [`tag ${rule.tag}`]),
  ];
  return refs.length === 0
    ? `${what} are for no push: ${environment} is deployed by hand only, as ${branch} has it`
    : `${what} are for ${refs.join(" and ")} only, as ${branch} has it, not for ${refKind} ${refName}`;
}
