import type { AccountSecrets, LookedUp } from "../aws/account-secrets.ts";
import {
  type NamedReference,
  readSources,
  type SourceProblem,
  type UsedSecret,
} from "../environment/secret-sources.ts";
import type { Secrets } from "../environment/secrets.ts";
import type { Deployment } from "../release/deployments.ts";
import { getRelease } from "../release/releases.ts";
import type { Place } from "../rollout/release.ts";
import type { RuntimeSettings } from "../rollout/runtime.ts";
import { fail } from "../shared/errors.ts";
import type { Repositories } from "../source/repositories.ts";
import type { EnvironmentSpec } from "../spec/app-spec.ts";
import { renderSpecProblems } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";

export type AccountSecretsDeps = {
  store: Store;
  secrets: Pick<Secrets, "list">;
  repositories: Pick<Repositories, "readFile">;
  /** Undefined where a runtime has no account. */
  accountSecretsOf?: ((runtime: RuntimeSettings) => AccountSecrets | undefined) | undefined;
};

type Wanted = {
  spec: EnvironmentSpec;
  runtime: RuntimeSettings;
  /** Values of Terraform outputs by name. */
  outputs: Record<string, unknown>;
  note(text: string): Promise<void>;
};

const SPEC_FILE = "shipway.yml";

/**
 * The secrets of the AWS account that tasks of a deployment get, each in the version that it has now; those of a rollback in the version that the release
 * ran with here. Nothing is started before all of them were looked at, and no value is read. A deployment that goes on keeps what it chose.
 * @throws SECRET_NOT_USABLE naming all that are not there or may not be looked at
 */
export async function chooseAccountSecrets(
  deps: AccountSecretsDeps,
  deployment: Deployment,
  wanted: Wanted,
): Promise<Record<string, UsedSecret>> {
  const sources = wanted.spec.secretSources ?? {};
  const account = deps.accountSecretsOf?.(wanted.runtime);
  if (Object.keys(sources).length === 0 || account === undefined) return {};
  if (deployment.account_secrets !== null) return deployment.account_secrets;
  const ran = deployment.kind === "rollback" ? await usedSecrets(deps.store, deployment) : undefined;
  // Who goes back to what stands by waits for it, and its tasks have their values.
  if (ran !== undefined && (await isStandby(deps.store, deployment))) return ran;
  const { references, problems } = readSources(sources, wanted.outputs);
  const pinned = references.map((one) => asBefore(one, ran?.[one.name]));
  const found = await account.lookUp(pinned.map(({ reference }) => reference));
  const all = pinned.map((one, index) => ({ ...one, ...(found[index] ?? { status: "missing" as const, why: "" }) }));
  const refused = [...problems, ...all.flatMap(problemOf)];
  if (refused.length > 0) throw await notUsable(deps, deployment, refused, all.flatMap(policyOf));
  const used = Object.fromEntries(all.flatMap((one) => (one.status === "found" ? [[one.name, usedOf(one)]] : [])));
  await tell(deps, deployment, used, ran ?? {}, wanted.note);
  return used;
}

/** What a release's tasks got in a place, by its last deployment that succeeded there, else the last one that chose. */
export async function usedSecrets(
  { db }: Store,
  place: Place & { release: number },
): Promise<Record<string, UsedSecret> | undefined> {
  const rows = await db
    .selectFrom("deployments")
    .select(["status", "account_secrets"])
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("release", "=", place.release)
    .where("account_secrets", "is not", null)
    .orderBy("created_at", "desc")
    .execute();
  const row = rows.find(({ status }) => status === "succeeded") ?? rows[0];
  return row?.account_secrets ?? undefined;
}

/** What tasks of the release that serves in a place get; empty where none does. */
export async function servedSecrets(store: Store, place: Place): Promise<Record<string, UsedSecret>> {
  const row = await store.db
    .selectFrom("environments")
    .select("live_release")
    .where("app", "=", place.app)
    .where("name", "=", place.environment)
    .executeTakeFirst();
  const release = row?.live_release;
  return (release && (await usedSecrets(store, { ...place, release }))) || {};
}

/** As a task definition takes them. */
export const valuesFrom = (used: Record<string, UsedSecret>): Record<string, string> =>
  Object.fromEntries(Object.entries(used).map(([name, { valueFrom }]) => [name, valueFrom]));

async function isStandby({ db }: Store, { app, environment, release }: Deployment): Promise<boolean> {
  const row = await db
    .selectFrom("environments")
    .select("standby_release")
    .where("app", "=", app)
    .where("name", "=", environment)
    .executeTakeFirst();
  return row?.standby_release === release;
}

/** A version that has lost its stage can still be read, until AWS removes it. */
function asBefore(named: NamedReference, before: UsedSecret | undefined): NamedReference {
  const { reference } = named;
  if (before === undefined || !before.isPinned || reference.kind !== "secret") return named;
  const { stage: _, ...rest } = reference;
  return { ...named, reference: { ...rest, versionId: before.version } };
}

type Looked = NamedReference & LookedUp;

const problemOf = (one: Looked): SourceProblem[] =>
  one.status === "found" ? [] : [{ path: [one.name], message: `${one.name}: ${one.why} (${one.from})` }];

const policyOf = (one: Looked): string[] => (one.status === "denied" ? [one.policy] : []);

const usedOf = ({ from, valueFrom, version, isPinned }: Looked & { status: "found" }): UsedSecret => ({
  from,
  valueFrom,
  version,
  isPinned,
});

/** What somebody would otherwise find out by a wrong password. */
async function tell(
  { secrets }: AccountSecretsDeps,
  deployment: Deployment,
  used: Record<string, UsedSecret>,
  ran: Record<string, UsedSecret>,
  note: Wanted["note"],
): Promise<void> {
  for (const { name } of await secrets.list(deployment)) {
    const from = used[name]?.from;
    if (from !== undefined)
      await note(
        `${name} comes from ${from}. The value of that name that is stored in Shipway is not handed over; once no release that needs it is left: \`shipway secret remove ${name} --app ${deployment.app} --env ${deployment.environment}\`.`,
      );
  }
  for (const [name, { from, version, isPinned }] of Object.entries(used)) {
    const before = ran[name]?.version;
    if (!isPinned && before !== undefined && before !== version)
      await note(
        `${name} is not as it was: r${deployment.release} ran with version ${before} of the parameter ${from}, and ECS reads its newest, ${version}.`,
      );
  }
}

async function notUsable(
  { store, repositories }: AccountSecretsDeps,
  { app, environment, release, kind }: Deployment,
  problems: SourceProblem[],
  policies: string[],
) {
  const { commit } = await getRelease(store.db, app, release);
  const text = await repositories.readFile(app, commit, SPEC_FILE).catch(() => undefined);
  const under = ["environments", environment, "secrets"];
  const shown =
    text === undefined
      ? problems.map(({ path, message }) => `${[...under, ...path].join(".")}: ${message}`).join("\n")
      : renderSpecProblems(
          text,
          `${SPEC_FILE} at ${commit.slice(0, 7)}`,
          problems.map(({ path, message }) => ({ path: [...under, ...path], at: "value", message })),
        );
  const again = `shipway deploy --app ${app} --env ${environment} --release r${release}`;
  const allow =
    policies.length === 0 ? "" : `Add to the policy of Shipway's role:\n${[...new Set(policies)].join("\n")}\n`;
  return fail("SECRET_NOT_USABLE", {
    message: `Secrets of the AWS account that r${release} needs cannot be used, so nothing was started:\n\n${shown}`,
    hint:
      kind === "rollback"
        ? `${allow}Where the version that r${release} ran with is gone, deploy it with today's: \`${again}\`.`
        : `${allow}Make them, or name others in ${SPEC_FILE} and push that. Then, where nothing has to be pushed: \`${again}\`.`,
  });
}
