import { judgeApprover, suchAs } from "../access/approvers.ts";
import { appendEvent } from "../events/event-stream.ts";
import { fail, toProblem } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { requireNothingRuns } from "./ask-destroy.ts";
import {
  blocked,
  canceledUnchanged,
  closeRun,
  commandFor,
  frameOf,
  getRun,
  type InfraRun,
  lockEnvironment,
  recovers,
  releaseEnvironment,
  type StartedRun,
  startNextRun,
} from "./runs.ts";

/** Plans older than this are made anew: what they were made from may have changed by hand, and Terraform does not look again. */
export const PLAN_GOOD_FOR_MS = 24 * 3_600_000;

/** The run stands at its gate: it gives the environment free and waits for `approveRun`. Returns the run to start instead. */
export async function waitForApproval(db: Database, run: InfraRun, reasons: string[]): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    await lockEnvironment(tx, run);
    const { cancel_requested_by: canceledBy, approved_by: approvedBy } = await getRun(tx, run.id);
    // Repeated after a crash: it waited, somebody let it go on, and it is at work.
    if (approvedBy !== null) return undefined;
    if (canceledBy !== null) {
      await closeRun(tx, run, "canceled", toProblem(canceledUnchanged(run, canceledBy)));
      await releaseEnvironment(tx, run);
      return startNextRun(tx, run);
    }
    const updated = await tx
      .updateTable("infra_runs")
      .set({ status: "waiting", credential: null })
      .where("id", "=", run.id)
      .where("status", "=", "running")
      .executeTakeFirst();
    if (updated.numUpdatedRows > 0n) {
      await releaseEnvironment(tx, run);
      await appendEvent(tx, frameOf(run), { kind: "infra.waiting", data: { runId: run.id, reasons } });
    }
    return startNextRun(tx, run);
  });
}

/**
 * Lets a waiting run go on.
 * @throws INFRA_APPROVAL_REFUSED when it does not wait, or when its environment wants somebody else's approval; INFRA_BLOCKED; INFRA_PLAN_STALE;
 * ENVIRONMENT_BUSY when it destroys, and something was started there meanwhile
 */
export async function approveRun(db: Database, id: string, actor: string): Promise<StartedRun | undefined> {
  return db.transaction().execute(async (tx) => {
    const seen = await getRun(tx, id);
    if (seen.kind === "destroy" && seen.status === "waiting") await requireNothingRuns(tx, seen);
    const environment = await lockEnvironment(tx, seen);
    const run = await getRun(tx, id);
    if (run.status !== "waiting") {
      throw fail("INFRA_APPROVAL_REFUSED", {
        message: `Run ${id} does not wait for an approval: it is ${run.status}.`,
        hint: `Plan anew: \`${commandFor(run)}\`.`,
      });
    }
    await refuseOwnApproval(tx, run, actor);
    if (environment.blocked_by !== null && !recovers(run)) throw blocked(run, environment.blocked_by);
    if (run.planned_at !== null && Date.now() - run.planned_at.getTime() > PLAN_GOOD_FOR_MS) {
      throw fail("INFRA_PLAN_STALE", {
        message: `The plan of run ${id} is older than a day; what exists may differ from it by now.`,
        hint: `Plan anew: \`${commandFor(run)}\`.`,
      });
    }
    await tx.updateTable("infra_runs").set({ status: "queued", approved_by: actor }).where("id", "=", id).execute();
    await appendEvent(tx, { ...frameOf(run), actor }, { kind: "infra.approved", data: { runId: id, by: actor } });
    return startNextRun(tx, run);
  });
}

/** What no code says (that everything goes, that the state is to say something else) is an operator's to approve. */
export const approverOf = ({ kind, takeover }: Pick<InfraRun, "kind" | "takeover">): "operator" | "tester" =>
  kind === "destroy" || takeover !== null ? "operator" : "tester";

/** Whoever asked for the run, or pushed or deployed its commit, is its author. */
async function refuseOwnApproval(tx: Tx, run: InfraRun, actor: string): Promise<void> {
  const authors = await authorsOf(tx, run);
  const { mayApprove, others } = await judgeApprover(
    tx,
    { ...run, authors, approvers: run.spec.approvers, role: approverOf(run) },
    actor,
  );
  if (mayApprove) return;
  throw fail("INFRA_APPROVAL_REFUSED", {
    message: `${actor} asked for run ${run.id} or pushed its commit; ${run.environment} wants the approval of somebody else${suchAs(others)}.`,
    hint: "Ask a colleague, or set `approvers: anyone` for the environment in shipway.yml.",
  });
}

async function authorsOf(tx: Tx, run: InfraRun): Promise<Set<string>> {
  // What is destroyed or taken over was written by nobody's commit.
  if (approverOf(run) === "operator") return new Set([run.actor]);
  const pushed = await tx
    .selectFrom("changes")
    .select("actor")
    .distinct()
    .where("app", "=", run.app)
    .where("commit", "=", run.commit)
    .execute();
  // Who pushed to a connected repository is known to its host alone.
  const pushedApart = await tx
    .selectFrom("infra_pushes")
    .select("actor")
    .where("repository", "=", run.spec.repository ?? "")
    .where("commit", "=", run.commit)
    .execute();
  return new Set([run.actor, ...[...pushed, ...pushedApart].map((change) => change.actor)]);
}
