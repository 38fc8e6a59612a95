import type { StepValues } from "../ci/executor.ts";
import type { Database } from "../store/open-store.ts";
import type { Secrets } from "./secrets.ts";
import type { ValueScope } from "./value-scope.ts";
import { listVariables, resolveVariables } from "./variables.ts";

type Versions = { variables: Record<string, number>; secrets: Record<string, number> };

/** What a pipeline's steps get, by version: recorded when it begins, so that it goes on with the same values after a crash. */
export type PipelineVersions = { every: Versions; deployments: Record<string, Versions> };

export type PipelineValues = { every: StepValues; deployments: Record<string, StepValues> };

type Deps = { db: Database; secrets: Secrets };

/** The newest of what every step gets, and of what those with one of these deployments get. */
export async function newestVersions(
  deps: Deps,
  app: string,
  deployments: readonly string[],
): Promise<PipelineVersions> {
  const own = await Promise.all(
    deployments.map(
      async (environment) => [environment, await newestOf(deps, { app, environment, pipelines: true })] as const,
    ),
  );
  return { every: await newestOf(deps, { app, pipelines: true }), deployments: Object.fromEntries(own) };
}

/** Also of what was removed since: a pipeline ends with the values with which it began. */
export async function openValues(deps: Deps, app: string, versions: PipelineVersions): Promise<PipelineValues> {
  const own = await Promise.all(
    Object.entries(versions.deployments).map(
      async ([environment, one]) =>
        [environment, await openScope(deps, { app, environment, pipelines: true }, one)] as const,
    ),
  );
  return {
    every: await openScope(deps, { app, pipelines: true }, versions.every),
    deployments: Object.fromEntries(own),
  };
}

async function newestOf({ db, secrets }: Deps, scope: ValueScope): Promise<Versions> {
  const [variables, names] = await Promise.all([listVariables(db, scope), secrets.list(scope)]);
  const versionsOf = (all: { name: string; version: number }[]) =>
    Object.fromEntries(all.map(({ name, version }) => [name, version]));
  return { variables: versionsOf(variables), secrets: versionsOf(names) };
}

async function openScope({ db, secrets }: Deps, scope: ValueScope, versions: Versions): Promise<StepValues> {
  return {
    variables: (await resolveVariables(db, scope, versions.variables)).values,
    secrets: await secrets.exact(scope, versions.secrets),
  };
}

/** Every scope of an app's pipelines in which something is set: first what every step gets. */
export async function pipelineScopes(db: Database, app: string): Promise<ValueScope[]> {
  const named = await Promise.all(
    (["variables", "secrets"] as const).map((table) =>
      db
        .selectFrom(table)
        .select("environment")
        .distinct()
        .where("app", "=", app)
        .where("pipelines", "=", true)
        .where("removed_at", "is", null)
        .execute(),
    ),
  );
  const environments = [...new Set(named.flat().map(({ environment }) => environment))].sort();
  return environments.map((environment) => ({ app, pipelines: true, ...(environment !== "" && { environment }) }));
}
