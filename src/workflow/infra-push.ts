import { type AskDeps, inputsOf } from "../infra/ask-run.ts";
import { lockEnvironments, requestRun, type StartedRun } from "../infra/runs.ts";
import type { Place } from "../rollout/release.ts";
import { errorCode, type Problem, toProblem } from "../shared/errors.ts";
import type { PushedRef, ReceivedPush } from "../source/change.ts";
import { type InfraRepository, listInfraRepositories } from "../source/infra-repositories.ts";
import { refsToChanges } from "../source/read-change.ts";
import { isCommitId } from "../source/ref-name.ts";
import type { InfraSpec } from "../spec/app-spec.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { Logger } from "./durable.ts";

/** What a push to an infra repository led to. */
export type InfraPush = {
  /** What the one who pushed should know, beside the runs. */
  remarks: string[];
  runs: { id: string; environment: string; kind: "plan" | "apply" }[];
  /** To be handed to the engine. */
  starts: StartedRun[];
};

/** An environment that uses a repository, and what it was last asked to be. */
export type InfraUse = { environment: string; spec: InfraSpec; frozenReason: string | null };

/** Terraform is heavy, and these plans are a service: a push of a branch shows them for so many environments. */
const MOST_PLANS = 5;

/**
 * Records what a push to a hosted infra repository brought, and asks for a run in each environment that uses it: an apply where it uses the pushed ref, a plan
 * where it uses another one. In one transaction, so a push found again after a crash asks for nothing twice. Never a delivery of the app.
 */
export async function recordInfraPush(
  deps: AskDeps,
  repository: InfraRepository,
  push: Pick<ReceivedPush, "actor" | "refs" | "options">,
): Promise<InfraPush> {
  const { app, name } = repository;
  // Of the very first push this decides which branch is the default one.
  await deps.repositories.settleDefaultBranch(name).catch(() => undefined);
  const { changes, remarks } = refsToChanges({ ...push, app });
  const uses = (await usesOf(deps.db, app)).filter(({ spec }) => spec.repository === name);
  const defaultBranch = await deps.repositories.defaultBranch(name);
  const wishes = push.options.includes("skip-ci")
    ? { wanted: [], remarks: changes.length > 0 ? ["Stored; nothing is planned or applied (skip-ci)."] : [] }
    : planPush({ app, repository: name, defaultBranch, changes, uses });
  const asked = await Promise.all(wishes.wanted.map((wish) => prepare(deps, { app, ...wish })));
  const told = asked.flatMap((one) => ("remark" in one ? one.remark : []));
  const recorded = await deps.db.transaction().execute(async (tx) => {
    const fresh = await recordRefs(tx, deps, repository, push.refs);
    for (const { commit } of changes) await recordPusher(tx, name, commit, push.actor);
    const due = asked.flatMap((one) => ("wish" in one && fresh.has(one.wish.ref) ? [one] : []));
    await lockEnvironments(
      tx,
      due.map(({ wish: { environment } }) => ({ app, environment })),
    );
    const runs: InfraPush["runs"] = [];
    const starts: StartedRun[] = [];
    const blocked: string[] = [];
    for (const { wish, inputs } of due) {
      const { environment, kind, commit, refName, spec } = wish;
      const request = { app, environment, kind, commit, refName, spec, actor: push.actor, inputs };
      try {
        const { id, start } = await requestRun(tx, request);
        runs.push({ id, environment, kind });
        if (start) starts.push(start);
      } catch (error) {
        // Only what we refuse ourselves leaves the transaction good; one environment that is blocked must not stop the others.
        if (errorCode(error) === undefined) throw error;
        blocked.push(...remarkOn(environment, toProblem(error)));
      }
    }
    return { runs, starts, blocked };
  });
  const { runs, starts, blocked } = recorded;
  return { remarks: [...remarks, ...wishes.remarks, ...told, ...blocked], runs, starts };
}

/** One run that a push asks for. */
export type Wish = {
  environment: string;
  kind: "plan" | "apply";
  /** Full name of the pushed ref. */
  ref: string;
  refName: string;
  commit: string;
  spec: InfraSpec;
};

type PushedChange = { refKind: "branch" | "tag"; refName: string; commit: string };

/** Which runs a push leads to, and what to say of what leads to none. Pure. */
export function planPush(push: {
  app: string;
  repository: string;
  defaultBranch: string;
  changes: readonly PushedChange[];
  uses: readonly InfraUse[];
}): { wanted: Wish[]; remarks: string[] } {
  const wanted: Wish[] = [];
  const remarks: string[] = [];
  for (const { refKind, refName, commit } of push.changes) {
    const ref = `refs/${refKind === "branch" ? "heads" : "tags"}/${refName}`;
    const wish = ({ environment, spec }: InfraUse, kind: Wish["kind"]): Wish => ({
      environment,
      kind,
      ref,
      refName,
      commit,
      spec,
    });
    const applied = push.uses.filter(({ spec }) => (spec.ref ?? push.defaultBranch) === refName);
    const others = push.uses.filter((use) => !applied.includes(use));
    for (const use of applied) {
      wanted.push(wish(use, use.frozenReason === null ? "apply" : "plan"));
      if (use.frozenReason !== null) remarks.push(frozen(push.app, use));
    }
    if (refKind === "tag") {
      if (applied.length === 0) remarks.push(`Tag ${refName} is stored; no environment of ${push.app} uses it.`);
      continue;
    }
    if (push.uses.length === 0) remarks.push(unused(push.app, push.repository));
    if (others.length > 0) remarks.push(onlyPlanned(refName, others, push.defaultBranch));
    wanted.push(...others.slice(0, MOST_PLANS).map((use) => wish(use, "plan")));
    const more = others.slice(MOST_PLANS);
    if (more.length > 0)
      remarks.push(
        `Not planned here: ${more.map(({ environment }) => environment).join(", ")}. \`shipway infra plan --app ${push.app} --env ${more[0]?.environment} --ref ${refName}\``,
      );
  }
  return { wanted, remarks };
}

const unused = (app: string, repository: string): string =>
  `Stored. No environment of ${app} uses ${repository} yet: name it in shipway.yml, \`infra: { repository: ${repository}, dir: … }\`, and push the app.`;

const frozen = (app: string, { environment, frozenReason }: InfraUse): string =>
  `${environment} is frozen (${frozenReason}), so this is planned and not applied. Apply it by hand: \`shipway infra apply --app ${app} --env ${environment}\``;

function onlyPlanned(refName: string, others: readonly InfraUse[], defaultBranch: string): string {
  const places = others.map(({ environment, spec }) => {
    const ref = spec.ref ?? defaultBranch;
    return `${environment} uses ${isCommitId(ref) ? `commit ${ref.slice(0, 7)}` : ref}`;
  });
  return `${refName} is planned and not applied: ${places.join(", ")}.`;
}

type Prepared = { wish: Wish; inputs: string } | { remark: string[] };

/** Reads the code of a wish; a wish that cannot be, or that changes nothing, becomes a remark. */
async function prepare(deps: AskDeps, wish: Wish & { app: string }): Promise<Prepared> {
  const place = { app: wish.app, environment: wish.environment };
  try {
    const inputs = await inputsOf(deps, place, wish.commit, wish.spec);
    if (wish.kind === "apply" && (await appliedInputs(deps.db, place)) === inputs)
      return { remark: [`${wish.environment}: nothing that it applies has changed.`] };
    return { wish, inputs };
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return { remark: remarkOn(wish.environment, toProblem(error)) };
  }
}

async function appliedInputs(db: Database, { app, environment }: Place): Promise<string | null> {
  const row = await db
    .selectFrom("infra_environments")
    .select("applied_inputs")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .executeTakeFirst();
  return row?.applied_inputs ?? null;
}

const remarkOn = (environment: string, { message, hint }: Problem): string[] => [
  `${environment}: ${message}`,
  ...(hint === undefined ? [] : hint.split("\n").map((line) => `  → ${line}`)),
];

/**
 * What each environment of an app was last asked to be: by its newest deployment or its newest apply, whichever came later. Not what `shipway.yml` says by now:
 * a push to the infra repository brings new code, and no variables that nobody has deployed. What was canceled or overtaken was not meant.
 */
async function usesOf(db: Database, app: string): Promise<InfraUse[]> {
  const [environments, removals, deployed, applied] = await Promise.all([
    db
      .selectFrom("environments")
      .select(["name", "frozen_reason", "live_release", "stopped_by"])
      .where("app", "=", app)
      .execute(),
    db
      .selectFrom("events")
      .select(["environment", "at"])
      .where("app", "=", app)
      .where("kind", "=", "environment.removed")
      .execute(),
    db
      .selectFrom("deployments as d")
      .innerJoin("releases as r", (join) => join.onRef("r.app", "=", "d.app").onRef("r.number", "=", "d.release"))
      .distinctOn("d.environment")
      .select(["d.environment", "d.created_at", "r.spec"])
      .where("d.app", "=", app)
      .where("d.kind", "=", "deploy")
      .where("d.status", "not in", ["canceled", "superseded"])
      .orderBy("d.environment")
      .orderBy("d.created_at", "desc")
      .execute(),
    db
      .selectFrom("infra_runs")
      .distinctOn("environment")
      .select(["environment", "created_at", "spec"])
      .where("app", "=", app)
      .where("kind", "=", "apply")
      .where("status", "not in", ["canceled", "superseded"])
      .orderBy("environment")
      .orderBy("created_at", "desc")
      .execute(),
  ]);
  const wishes = [
    ...deployed.map(({ environment, created_at, spec }) => ({
      environment,
      at: created_at,
      spec: spec.environments[environment]?.infra,
    })),
    ...applied.map(({ environment, created_at, spec }) => ({ environment, at: created_at, spec })),
  ]
    // The history of an environment outlives it; what was wanted of it does not.
    .filter((wish) => !removals.some(({ environment, at }) => environment === wish.environment && at > wish.at))
    .sort((left, right) => right.at.getTime() - left.at.getTime());
  const newest = wishes.filter(
    ({ environment }, index) => wishes.findIndex((other) => other.environment === environment) === index,
  );
  return newest
    .flatMap(({ environment, spec }) =>
      spec === undefined
        ? []
        : [
            {
              environment,
              spec,
              frozenReason: whyHeldBack(environments.find(({ name }) => name === environment)),
            },
          ],
    )
    .sort((left, right) => (left.environment < right.environment ? -1 : 1));
}

/** What is stopped may have been destroyed to cost nothing: code alone does not make it anew. */
const whyHeldBack = (
  row: { frozen_reason: string | null; live_release: number | null; stopped_by: string | null } | undefined,
): string | null => {
  if (row === undefined) return null;
  const isStopped = row.live_release === null && row.stopped_by !== null;
  return row.frozen_reason ?? (isStopped ? `stopped by ${row.stopped_by}` : null);
};

/**
 * Records the refs of a push, and returns those that lead to runs: not recorded at that commit yet, and there still. Of two quick pushes to one ref the later may
 * be recorded first; the earlier must neither overwrite it nor be applied after it.
 */
async function recordRefs(
  tx: Tx,
  { repositories }: AskDeps,
  { name }: InfraRepository,
  refs: readonly PushedRef[],
): Promise<Set<string>> {
  // Two pushes at once take their turn here, and a repository that is being removed is not pushed to.
  await tx
    .selectFrom("infra_repositories")
    .select("name")
    .where("name", "=", name)
    .forUpdate()
    .executeTakeFirstOrThrow();
  const current = await repositories.refs(name);
  const seen = await tx.selectFrom("infra_refs").selectAll().where("repository", "=", name).execute();
  const fresh = new Set<string>();
  for (const { ref, newCommit } of refs) {
    if (current.get(ref) !== newCommit) continue;
    if (newCommit === undefined)
      await tx.deleteFrom("infra_refs").where("repository", "=", name).where("ref", "=", ref).execute();
    else if (seen.find((one) => one.ref === ref)?.commit !== newCommit) {
      fresh.add(ref);
      await tx
        .insertInto("infra_refs")
        .values({ repository: name, ref, commit: newCommit })
        .onConflict((conflict) => conflict.columns(["repository", "ref"]).doUpdateSet({ commit: newCommit }))
        .execute();
    }
  }
  return fresh;
}

const recordPusher = (tx: Tx, repository: string, commit: string, actor: string) =>
  tx
    .insertInto("infra_pushes")
    .values({ repository, commit, actor })
    .onConflict((conflict) => conflict.doNothing())
    .execute();

/**
 * Records pushes that git stored and Shipway did not, because it was killed between the two. Call it before pushes are taken. Their runs are started
 * with all that are recorded.
 */
export async function recordMissedInfraPushes(deps: AskDeps, log: Logger): Promise<void> {
  for (const repository of await listInfraRepositories(deps.db)) {
    const { name } = repository;
    if (!(await deps.repositories.exists(name))) continue;
    const rows = await deps.db.selectFrom("infra_refs").selectAll().where("repository", "=", name).execute();
    const refs = await deps.repositories.unrecordedRefs(name, new Map(rows.map(({ ref, commit }) => [ref, commit])));
    if (refs.length === 0) continue;
    const { remarks } = await recordInfraPush(deps, repository, { actor: "shipway", refs, options: [] });
    if (remarks.length > 0) log.info({ repository: name, remarks }, "a push that was cut off is recorded");
  }
}
