import { newId } from "../shared/new-id.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { Change, PushedRef, ReceivedPush } from "./change.ts";
import { refsToChanges } from "./read-change.ts";
import type { Repositories } from "./repositories.ts";

/** Bitbucket's own words for it, anywhere in the commit message. */
const SKIP_CI = /\[(skip ci|ci skip)\]/i;

export type PushRecord = { changes: Change[]; remarks: string[] };

/**
 * Records what a push brought: the refs as seen, and a change for each branch and tag, in one transaction.
 * A ref that is recorded at this commit already leads to nothing, so a push found again at start-up is not delivered twice.
 */
export async function recordPush(db: Database, repositories: Repositories, push: ReceivedPush): Promise<PushRecord> {
  const { changes, remarks } = refsToChanges(push);
  const described = await Promise.all(
    changes.map(async (change) => ({ ...change, ...(await repositories.describe(change.app, change.commit)) })),
  );
  const recorded = await db.transaction().execute(async (tx) => {
    // A ref that is new has no row to lock, so two that record it at once are kept apart by the app's.
    await tx.selectFrom("apps").select("name").where("name", "=", push.app).forUpdate().execute();
    const current = await repositories.refs(push.app);
    const seen = await tx.selectFrom("refs").selectAll().where("app", "=", push.app).forUpdate().execute();
    for (const pushed of push.refs) await recordRef(tx, push.app, pushed, current.get(pushed.ref));
    const fresh = described.filter(
      (change) => seen.find(({ ref }) => ref === fullRef(change))?.commit !== change.commit,
    );
    const rows = fresh.map((change) => ({
      id: newId("c"),
      app: change.app,
      ref_kind: change.refKind,
      ref_name: change.refName,
      commit: change.commit,
      previous_commit: change.previousCommit ?? null,
      subject: change.subject,
      author: change.author.name,
      actor: change.actor,
      skip_ci: push.options.includes("skip-ci") || SKIP_CI.test(`${change.subject}\n${change.body}`),
      only_environment: null,
      ended_at: null,
    }));
    if (rows.length > 0) await tx.insertInto("changes").values(rows).execute();
    return rows;
  });
  return {
    remarks,
    changes: recorded.map(({ id, app, ref_kind, ref_name, commit, subject, actor }) => ({
      id,
      app,
      refKind: ref_kind,
      refName: ref_name,
      commit,
      subject,
      actor,
    })),
  };
}

/** Of two quick pushes to one ref the later may be recorded first: the earlier must not overwrite it. */
async function recordRef(
  tx: Tx,
  app: string,
  { ref, oldCommit, newCommit }: PushedRef,
  current: string | undefined,
): Promise<void> {
  if (newCommit === undefined) {
    if (current === undefined) await tx.deleteFrom("refs").where("app", "=", app).where("ref", "=", ref).execute();
    return;
  }
  await tx
    .insertInto("refs")
    .values({ app, ref, commit: newCommit })
    .onConflict((conflict) => {
      const update = conflict.columns(["app", "ref"]).doUpdateSet({ commit: newCommit });
      return current === newCommit ? update : update.where("refs.commit", "=", oldCommit ?? "");
    })
    .execute();
}

const fullRef = ({ refKind, refName }: Pick<Change, "refKind" | "refName">) =>
  `refs/${refKind === "branch" ? "heads" : "tags"}/${refName}`;

/**
 * Records pushes that git stored but Shipway did not, because it was killed between the two. Call it before pushes are taken:
 * later it could overtake the recording of a push that is just being made.
 */
export async function recordMissedPushes(db: Database, repositories: Repositories): Promise<void> {
  const apps = await db.selectFrom("apps").select("name").execute();
  for (const { name } of apps) {
    if (!(await repositories.exists(name))) continue;
    const rows = await db.selectFrom("refs").selectAll().where("app", "=", name).execute();
    const refs = await repositories.unrecordedRefs(name, new Map(rows.map(({ ref, commit }) => [ref, commit])));
    if (refs.length > 0) await recordPush(db, repositories, { app: name, actor: "shipway", refs, options: [] });
  }
}

/** A deployment of a commit asked for by hand, recorded as a change that goes to one environment only. */
export async function recordManualChange(
  db: Database,
  repositories: Repositories,
  wanted: { app: string; commit: string; refName: string; environment: string; actor: string },
): Promise<Change> {
  const { subject, author } = await repositories.describe(wanted.app, wanted.commit);
  const refs = await repositories.refs(wanted.app);
  // As the name was looked up: a branch comes first. Of a tag the pipeline is another one, and other rules hold.
  const isTag = refs.has(`refs/tags/${wanted.refName}`) && !refs.has(`refs/heads/${wanted.refName}`);
  const change = {
    id: newId("c"),
    app: wanted.app,
    refKind: isTag ? ("tag" as const) : ("branch" as const),
    refName: wanted.refName,
    commit: wanted.commit,
    subject,
    actor: wanted.actor,
  };
  await db
    .insertInto("changes")
    .values({
      id: change.id,
      app: change.app,
      ref_kind: change.refKind,
      ref_name: change.refName,
      commit: change.commit,
      previous_commit: null,
      subject,
      author: author.name,
      actor: change.actor,
      skip_ci: false,
      only_environment: wanted.environment,
      ended_at: null,
    })
    .execute();
  return change;
}
