import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { type AskDeps, type AskedRun, findCode, inputsOf } from "./ask-run.ts";
import { describePlace } from "./foreign-state.ts";
import { refusalsOf } from "./read-plan.ts";
import { type InfraDeps, SHOWN_ERRORS } from "./run-terraform.ts";
import { findInfra, type InfraRun, type RunRequest, requestRun } from "./runs.ts";
import { parseState, resourcesIn } from "./states.ts";

export type DestroyWish = {
  actor: string;
  /** Code to destroy with, where that of the last apply cannot: a branch, tag or commit, as of an apply. */
  ref?: string | undefined;
  /** Why what `protect` and `maxDestroy` keep is to go, too. */
  overrule?: string | undefined;
};

/**
 * Asks for a run that destroys all that the environment's state lists, with the code that applied last. It waits for an operator's approval.
 * @throws INFRA_NOT_DECLARED when there is nothing to destroy, ENVIRONMENT_BUSY while tasks run there, INFRA_BLOCKED, and with `ref` what `askRun` does
 */
export async function askDestroy(deps: AskDeps, place: Place, wish: DestroyWish): Promise<AskedRun> {
  const request = await planDestroy(deps, place, wish);
  if (request === undefined) {
    throw fail("INFRA_NOT_DECLARED", {
      message: `There is nothing to destroy: nothing is applied to ${place.app} ${place.environment}, and its state lists nothing.`,
      hint: `See for yourself: \`shipway infra show --app ${place.app} --env ${place.environment}\`.`,
    });
  }
  return deps.db.transaction().execute(async (tx) => {
    await requireNothingRuns(tx, place);
    return requestRun(tx, request);
  });
}

/** What to ask for; undefined where nothing was ever applied, or all of it was destroyed since. @throws as `askDestroy` with `ref` */
export async function planDestroy(deps: AskDeps, place: Place, wish: DestroyWish): Promise<RunRequest | undefined> {
  const { actor, overrule, ref } = wish;
  const last = await findLastBegun(deps.db, place);
  const isGone = last === undefined || (last.kind === "destroy" && last.status === "succeeded");
  if (isGone && (await countResources(deps.db, place)) === 0) return undefined;
  const common = { ...place, kind: "destroy" as const, actor, overrule };
  if (ref !== undefined) {
    const { spec, code } = await findCode(deps, place, ref);
    return { ...common, ...code, spec, inputs: await inputsOf(deps, place, code.commit, spec) };
  }
  // Of an apply that failed halfway the state may list more than what was applied before, and only its code knows that.
  if (last !== undefined)
    return { ...common, commit: last.commit, refName: "as applied", spec: last.spec, inputs: last.inputs };
  throw fail("INFRA_NOT_DECLARED", {
    message: `The state of ${place.app} ${place.environment} lists resources, and no run here has made them: with which code are they destroyed?`,
    hint: "Name it: `--ref BRANCH`.",
  });
}

/**
 * Looks at what Shipway's own state lists before anything is stopped for it: that somebody protects it is known without a plan. The plan is looked at again.
 * @throws INFRA_PROTECTED
 */
export async function requireUnprotected(
  { db, states }: Pick<InfraDeps, "db" | "states">,
  place: Place,
): Promise<void> {
  const [last, latest] = await Promise.all([findLastBegun(db, place), states.latest(place)]);
  if (last === undefined || latest === undefined) return;
  const listed = [...resourcesIn(parseState(latest.text)).keys()].map((address) => ({
    address,
    action: "delete" as const,
    attributes: [],
  }));
  const reasons = refusalsOf(listed, last.spec);
  if (reasons.length === 0) return;
  throw fail("INFRA_PROTECTED", {
    message: `The infrastructure of ${place.app} ${place.environment} is protected: ${reasons.slice(0, SHOWN_ERRORS).join("; ")}${reasons.length > SHOWN_ERRORS ? "; and more" : ""}. Nothing was stopped.`,
    hint: 'If it is meant, say why, on the record: `--overrule "REASON"`.',
  });
}

/** The newest run that began to change what exists. */
const findLastBegun = (db: Database, { app, environment }: Place): Promise<InfraRun | undefined> =>
  db
    .selectFrom("infra_runs")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("kind", "in", ["apply", "destroy"])
    .where("apply_started_at", "is not", null)
    .orderBy("apply_started_at", "desc")
    .limit(1)
    .executeTakeFirst();

/** In the state that Shipway keeps. */
export async function countResources(db: Database | Tx, { app, environment }: Place): Promise<number> {
  const state = await db
    .selectFrom("infra_states")
    .select("resources")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .orderBy("version", "desc")
    .limit(1)
    .executeTakeFirst();
  return state?.resources ?? 0;
}

/**
 * Holds the environment's row, so that no deployment begins meanwhile: tasks would lose the ground under them, and a cluster with services in it cannot be destroyed.
 * Take it before the infrastructure's own row.
 * @throws ENVIRONMENT_BUSY
 */
export async function requireNothingRuns(tx: Tx, { app, environment }: Place): Promise<void> {
  const row = await tx
    .selectFrom("environments")
    .selectAll()
    .where("app", "=", app)
    .where("name", "=", environment)
    .forUpdate()
    .executeTakeFirst();
  const why = row && (whyBusy(row) ?? (await whyNotTidy(tx, row)));
  if (why === undefined) return;
  throw fail("ENVIRONMENT_BUSY", {
    message: `The infrastructure of ${app} ${environment} cannot be destroyed now: ${why}.`,
    hint: `Stop it first, nothing of it is lost: \`shipway env stop ${environment} --app ${app}\`.`,
  });
}

type Row = {
  app: string;
  name: string;
  live_release: number | null;
  running_deployment: string | null;
  teardown: string | null;
  stopped_release: number | null;
  stopped_at: Date | null;
};

function whyBusy({ live_release: live, running_deployment: deployment, teardown }: Row): string | undefined {
  if (deployment !== null) return `deployment ${deployment} is under way there`;
  if (live !== null) return `r${live} serves there`;
  return teardown === null ? undefined : "it is being stopped";
}

/** What was stopped halfway, or a deployment that failed, leaves services behind that hold a cluster. */
async function whyNotTidy(tx: Tx, { app, name, stopped_release: stopped, stopped_at: since }: Row) {
  if (since !== null) return undefined;
  if (stopped !== null) return `stopping r${stopped} did not come to its end`;
  const used = await tx
    .selectFrom("runtimes")
    .select("key")
    .where("app", "=", app)
    .where("environment", "=", name)
    .executeTakeFirst();
  return used && "a deployment was begun there, and may have left something";
}

/** Whether a run that destroys may be at work, or is about to be. */
export async function isBeingDestroyed(tx: Tx, { app, environment }: Place): Promise<boolean> {
  const row = await tx
    .selectFrom("infra_runs")
    .select("id")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("kind", "=", "destroy")
    .where("status", "in", ["queued", "running"])
    .where("approved_by", "is not", null)
    .executeTakeFirst();
  return row !== undefined;
}

/** The state lies elsewhere and may list what nobody destroyed: where, in words. */
export async function findLeftElsewhere(db: Database, place: Place): Promise<string | undefined> {
  const { applied_run: runId = null } = (await findInfra(db, place)) ?? {};
  if (runId === null) return undefined;
  const { state_in: at } = await db
    .selectFrom("infra_runs")
    .select("state_in")
    .where("id", "=", runId)
    .executeTakeFirstOrThrow();
  return at === null || at.type === "shipway" ? undefined : describePlace(at);
}
