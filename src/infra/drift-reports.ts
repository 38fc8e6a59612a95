import { sql } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { DriftedResource, DriftReport } from "./infra-run.ts";
import { newDrift } from "./read-drift.ts";
import { frameOf, type InfraEnvironment, type InfraRun, lockEnvironment } from "./runs.ts";

/** Keeps what a check found, and tells what is new. */
export async function recordDrift(db: Database, run: InfraRun, resources: DriftedResource[]): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const environment = await lockEnvironment(tx, run);
    const report: DriftReport = { commit: run.commit, runId: run.id, resources };
    await tx
      .updateTable("infra_environments")
      .set({ drift: JSON.stringify(report), drift_at: new Date() })
      .where("app", "=", run.app)
      .where("environment", "=", run.environment)
      .execute();
    const found = newDrift(environment.drift?.resources ?? [], resources);
    if (found.length > 0)
      await appendEvent(tx, frameOf(run), { kind: "infra.driftFound", data: { runId: run.id, resources: found } });
    const before = (environment.drift?.resources ?? []).some(({ kind }) => kind === "reverting");
    const now = resources.some(({ kind }) => kind === "reverting");
    if (before && !now) await appendEvent(tx, frameOf(run), { kind: "infra.driftGone", data: { runId: run.id } });
    const differs = resources.filter(({ kind }) => kind === "undeployed");
    // Of a check that follows a takeover: what was drift is now code that says something else.
    if (run.delivery_id !== run.id && differs.length > 0)
      await appendEvent(tx, frameOf(run), { kind: "infra.codeDiffers", data: { runId: run.id, resources: differs } });
  });
}

/** Environments whose check is due, those first in which a change was seen, then the longest unchecked; none while one is being applied. One that is blocked is looked at, too: that is when somebody needs to know. */
export async function dueForDrift(db: Database, now: number): Promise<InfraEnvironment[]> {
  const rows = await db
    .selectFrom("infra_environments")
    .selectAll()
    .where("applied_commit", "is not", null)
    .where("running_run", "is", null)
    .orderBy("drift_due", "desc")
    .orderBy("drift_at", (order) => order.asc().nullsFirst())
    .execute();
  return rows.filter(({ applied_spec: spec, drift_at: at, drift_due: due }) => {
    if (spec === null || spec.drift === "off") return false;
    return due || at === null || now - at.getTime() >= spec.drift;
  });
}

export async function isCheckingDrift(db: Database): Promise<boolean> {
  const row = await db
    .selectFrom("infra_runs")
    .select("id")
    .where("kind", "=", "drift")
    .where("status", "=", "running")
    .executeTakeFirst();
  return row !== undefined;
}

/** Drift checks that ended before then and whose report is not the one that is shown; an environment has one an hour. */
export async function oldChecks(db: Database, before: Date, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom("infra_runs as r")
    .leftJoin("infra_environments as e", (join) =>
      join.onRef("e.app", "=", "r.app").onRef("e.environment", "=", "r.environment"),
    )
    .select("r.id")
    .where("r.kind", "=", "drift")
    .where("r.ended_at", "<", before)
    .where(sql<boolean>`e.drift ->> 'runId' is distinct from r.id`)
    .orderBy("r.ended_at")
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}

export async function forgetChecks(db: Database, ids: readonly string[]): Promise<void> {
  if (ids.length > 0) await db.deleteFrom("infra_runs").where("id", "in", ids).where("kind", "=", "drift").execute();
}

/** Something was seen to have changed there: the next check of these environments of an app does not wait for its turn. */
export async function makeDriftDue(tx: Tx, places: readonly Place[]): Promise<void> {
  const inOrder = [...places].sort((left, right) => (left.environment < right.environment ? -1 : 1));
  for (const { app, environment } of inOrder)
    await tx
      .updateTable("infra_environments")
      .set({ drift_due: true })
      .where("app", "=", app)
      .where("environment", "=", environment)
      .execute();
}

/** A check that could not be made counts as one: it is tried again at its next turn, not at once. */
export async function skipDriftCheck(db: Database, place: Place): Promise<void> {
  await db
    .updateTable("infra_environments")
    .set({ drift_at: new Date(), drift_due: false })
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .execute();
}
