import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import type { Database } from "../store/open-store.ts";
import { closeRun, frameOf, type InfraRun, lockRun } from "./runs.ts";

/** Turns down a run that waits, for an approval or for its turn. @throws INFRA_CANCEL_REFUSED when it runs or has ended */
export async function rejectRun(db: Database, id: string, actor: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const run = await lockRun(tx, id);
    if (!isWaiting(run)) {
      throw fail("INFRA_CANCEL_REFUSED", {
        message: `Run ${id} cannot be turned down: it is ${run.status}.`,
        hint:
          run.status === "running" ? `Stop it: \`shipway infra cancel ${id}\`.` : "There is nothing left to turn down.",
      });
    }
    await closeRun(tx, { ...run, actor }, "canceled", undefined);
  });
}

/**
 * Wants a run stopped. One that waits ends here; of one that runs the wish is recorded, and carried out by who follows it, also after a restart. Repeating it is a no-op.
 * @throws INFRA_CANCEL_REFUSED when it has ended
 */
export async function requestStop(db: Database, id: string, actor: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const run = await lockRun(tx, id);
    if (isWaiting(run)) return void (await closeRun(tx, { ...run, actor }, "canceled", undefined));
    if (run.status !== "running") throw hasEnded(run);
    if (run.cancel_requested_at !== null) return;
    await tx
      .updateTable("infra_runs")
      .set({ cancel_requested_at: new Date(), cancel_requested_by: actor })
      .where("id", "=", id)
      .execute();
    await appendEvent(
      tx,
      { ...frameOf(run), actor },
      { kind: "infra.cancelRequested", data: { runId: id, by: actor, force: false } },
    );
  });
}

/** Wants a run stopped at once that was asked to stop before: what it is at may be lost from the state. @throws INFRA_CANCEL_REFUSED */
export async function forceStop(db: Database, id: string, actor: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const run = await lockRun(tx, id);
    if (run.status !== "running") throw hasEnded(run);
    if (run.cancel_requested_at === null) {
      throw fail("INFRA_CANCEL_REFUSED", {
        message: `Run ${id} was not asked to stop yet: then Terraform finishes what it is at, and nothing is lost.`,
        hint: `Ask it first: \`shipway infra cancel ${id}\`.`,
      });
    }
    if (run.force_requested_at !== null) return;
    await tx
      .updateTable("infra_runs")
      .set({ force_requested_at: new Date(), force_requested_by: actor })
      .where("id", "=", id)
      .execute();
    await appendEvent(
      tx,
      { ...frameOf(run), actor },
      { kind: "infra.cancelRequested", data: { runId: id, by: actor, force: true } },
    );
  });
}

const isWaiting = ({ status }: InfraRun) => status === "waiting" || status === "queued";

function hasEnded({ id, status }: InfraRun) {
  return fail("INFRA_CANCEL_REFUSED", {
    message: `Run ${id} cannot be stopped: it is ${status}.`,
    hint: `See how it went: \`shipway infra runs ${id}\`.`,
  });
}

/** Who asked for what, in milliseconds since 1970. */
export async function findStop(
  db: Database,
  id: string,
): Promise<{ requestedAt: number | undefined; forcedAt: number | undefined; interruptedAt: number | undefined }> {
  const row = await db
    .selectFrom("infra_runs")
    .select(["cancel_requested_at", "force_requested_at", "interrupted_at"])
    .where("id", "=", id)
    .executeTakeFirst();
  return {
    requestedAt: row?.cancel_requested_at?.getTime(),
    forcedAt: row?.force_requested_at?.getTime(),
    interruptedAt: row?.interrupted_at?.getTime(),
  };
}

/** Notes that the first interrupt is about to be sent, or (`null`) that it was not. Only who still finds `before` may: then it returns the new note. */
export async function markInterrupted(
  db: Database,
  id: string,
  before: number | undefined,
  now: Date | null,
): Promise<number | undefined> {
  const query = db.updateTable("infra_runs").set({ interrupted_at: now }).where("id", "=", id);
  const updated = await (before === undefined
    ? query.where("interrupted_at", "is", null)
    : query.where("interrupted_at", "=", new Date(before))
  ).executeTakeFirst();
  return updated.numUpdatedRows > 0n ? now?.getTime() : undefined;
}

export async function tellStopping(
  db: Database,
  run: InfraRun,
  resources: { address: string; action: string; seconds: number }[],
): Promise<void> {
  await db
    .transaction()
    .execute((tx) => appendEvent(tx, frameOf(run), { kind: "infra.stopping", data: { runId: run.id, resources } }));
}
