import { appendEvent } from "../events/event-stream.ts";
import { fail, type Problem } from "../shared/errors.ts";
import type { Change } from "../source/change.ts";
import type { Database, Tx } from "../store/open-store.ts";

/** A change with what its delivery needs to know beyond the commit. */
export type DeliveredChange = Change & {
  author: string;
  skipCi: boolean;
  onlyEnvironment: string | undefined;
  createdAt: number;
};

/** @throws COMMIT_NOT_FOUND */
export async function getChange(db: Database, id: string): Promise<DeliveredChange> {
  const row = await db.selectFrom("changes").selectAll().where("id", "=", id).executeTakeFirst();
  if (!row)
    throw fail("COMMIT_NOT_FOUND", {
      message: `There is no change ${id}.`,
      hint: "List pipelines with `shipway pipelines`.",
    });
  return {
    id: row.id,
    app: row.app,
    refKind: row.ref_kind,
    refName: row.ref_name,
    commit: row.commit,
    ...(row.previous_commit && { previousCommit: row.previous_commit }),
    subject: row.subject,
    author: row.author,
    actor: row.actor,
    skipCi: row.skip_ci,
    onlyEnvironment: row.only_environment ?? undefined,
    createdAt: row.created_at.getTime(),
  };
}

/** Changes whose delivery has not ended: the workflow engine must know of each. */
export async function openDeliveries(db: Database, app?: string): Promise<string[]> {
  let query = db.selectFrom("changes").select("id").where("ended_at", "is", null);
  if (app !== undefined) query = query.where("app", "=", app);
  const rows = await query.execute();
  return rows.map((row) => row.id);
}

export type Stop = { at: "spec" | "ci" | "images" | "rollout"; problem: Problem } | { nothingToDeploy: true };

/** Ends a delivery that leads to no deployment. Repeating it is a no-op. */
export async function endDelivery(db: Database, change: DeliveredChange, stop: Stop): Promise<void> {
  await db.transaction().execute(async (tx) => {
    if (!(await closeChange(tx, change.id))) return;
    await appendEvent(
      tx,
      { app: change.app, subject: `change:${change.id}`, deliveryId: change.id, actor: change.actor },
      {
        kind: "delivery.ended",
        data: {
          ...("at" in stop
            ? { status: "stopped", at: stop.at, problem: stop.problem }
            : { status: "nothing-to-deploy" }),
          deployments: [],
          durationMs: Date.now() - change.createdAt,
        },
      },
    );
  });
}

async function closeChange(tx: Tx, id: string): Promise<boolean> {
  const closed = await tx
    .updateTable("changes")
    .set({ ended_at: new Date() })
    .where("id", "=", id)
    .where("ended_at", "is", null)
    .executeTakeFirst();
  return closed.numUpdatedRows > 0n;
}

/** Ends the delivery when its last deployment has ended, and says so when all that have not wait for somebody. */
export async function settleDelivery(tx: Tx, last: { app: string; delivery_id: string; actor: string }): Promise<void> {
  const deployments = await tx
    .selectFrom("deployments")
    .selectAll()
    .where("delivery_id", "=", last.delivery_id)
    .orderBy("created_at")
    .execute();
  if (deployments.some(({ status }) => status === "queued" || status === "running")) return;
  const frame = {
    app: last.app,
    subject: `change:${last.delivery_id}`,
    deliveryId: last.delivery_id,
    actor: last.actor,
  };
  const waiting = deployments.filter(({ status }) => status === "waiting");
  if (waiting.length > 0) {
    const data = { deployments: waiting.map(({ environment, id }) => ({ environment, deploymentId: id })) };
    return appendEvent(tx, frame, { kind: "delivery.waiting", data });
  }
  await closeChange(tx, last.delivery_id);
  const failed = deployments.find(({ status }) => status !== "succeeded" && status !== "superseded");
  const superseded = deployments.every(({ status }) => status === "superseded");
  const startedAt = Math.min(...deployments.map(({ created_at }) => created_at.getTime()));
  const change = await tx
    .selectFrom("changes")
    .select("created_at")
    .where("id", "=", last.delivery_id)
    .executeTakeFirst();
  await appendEvent(tx, frame, {
    kind: "delivery.ended",
    data: {
      status: failed ? "stopped" : superseded ? "superseded" : "live",
      ...(failed && { at: failed.status === "rejected" || failed.status === "expired" ? "approval" : "rollout" }),
      ...(failed?.problem && { problem: failed.problem }),
      deployments: deployments.map((row) => ({
        environment: row.environment,
        deploymentId: row.id,
        status: row.status,
        addresses: row.addresses,
      })),
      durationMs: Date.now() - (change?.created_at.getTime() ?? startedAt),
    },
  });
}
