import { suchAs } from "../access/approvers.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail, type Problem } from "../shared/errors.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { DeploymentApproval } from "../store/schema.ts";
import {
  type Deployment,
  endUnstarted,
  frameOf,
  getDeployment,
  lockEnvironment,
  startNext,
  supersede,
} from "./deployments.ts";
import { judge } from "./gate.ts";

type Waiting = Deployment & { approval: DeploymentApproval };

/**
 * Lets a deployment that waits go on. Returns what is to be started, when its environment is idle.
 * @throws DEPLOYMENT_NOT_FOUND; APPROVAL_REFUSED when it does not wait, or when its environment wants somebody else's approval
 */
export async function approveDeployment(
  db: Database,
  id: string,
  by: string,
  comment: string | undefined,
): Promise<string | undefined> {
  return decide(db, id, async (tx, deployment, runs) => {
    await refuseOwnApproval(tx, deployment, by);
    await record(tx, deployment, { approved: true, by, comment });
    if (runs !== null) {
      const { kind, release } = deployment;
      const data = { deploymentId: id, kind, release, waitsFor: runs };
      await appendEvent(tx, frameOf(deployment), { kind: "deployment.queued", data });
    }
    // What was approved before it, and has not begun, is overtaken as by any newer one.
    await supersede(tx, deployment, id, { kinds: ["deploy"], statuses: ["queued"] });
    return startNext(tx, deployment);
  });
}

/** Turns down a deployment that waits: it ends, and its release stays. @throws as `approveDeployment`, but anybody with the role may */
export async function rejectDeployment(db: Database, id: string, by: string, why: string): Promise<void> {
  await decide(db, id, async (tx, deployment) => {
    await record(tx, deployment, { approved: false, by, comment: why });
    await endUnstarted(tx, id, "rejected", {
      code: "REJECTED",
      message: `${by} turned it down: ${why}`,
      hint: `Mend it and push again, or ask once more: ${deployAgain(deployment)}.`,
    });
  });
}

/** Ends what has waited for longer than its environment allows. */
export async function expireApprovals(db: Database, now: Date): Promise<void> {
  const waiting = await db.selectFrom("deployments").selectAll().where("status", "=", "waiting").execute();
  for (const { id } of waiting.filter(({ approval }) => isExpired(approval, now))) {
    await db.transaction().execute(async (tx) => {
      await lockEnvironment(tx, await getDeployment(tx, id));
      const deployment = await getDeployment(tx, id);
      if (deployment.status === "waiting") await endUnstarted(tx, id, "expired", expiredProblem(deployment));
    });
  }
}

/** Ends those that wait, for an approval or for their turn, in an environment which is being removed. */
export async function endWaitingIn(tx: Tx, { app, environment }: Place, problem: Problem): Promise<void> {
  const waiting = await tx
    .selectFrom("deployments")
    .select("id")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "in", ["waiting", "queued"])
    .execute();
  for (const { id } of waiting) await endUnstarted(tx, id, "canceled", problem);
}

async function decide<T>(
  db: Database,
  id: string,
  work: (tx: Tx, waiting: Waiting, runs: string | null) => Promise<T>,
): Promise<T> {
  // Looked at before its environment's turn is taken, too: that would bring back the row of an environment that was removed.
  await requireWaiting(db, id);
  return db.transaction().execute(async (tx) => {
    const { running_deployment: deployment, teardown } = await lockEnvironment(tx, await getDeployment(tx, id));
    return work(tx, await requireWaiting(tx, id), deployment ?? teardown);
  });
}

async function record(
  tx: Tx,
  { approval, ...deployment }: Waiting,
  { approved, by, comment }: { approved: boolean; by: string; comment: string | undefined },
): Promise<void> {
  const { id, release } = deployment;
  const said = comment === undefined ? {} : { comment };
  const decision = { approved, by, at: new Date().toISOString(), ...said };
  await tx
    .updateTable("deployments")
    .set({ approval: JSON.stringify({ ...approval, decision }), ...(approved && { status: "queued" as const }) })
    .where("id", "=", id)
    .execute();
  await appendEvent(
    tx,
    { ...frameOf(deployment), actor: by },
    {
      kind: approved ? "deployment.approved" : "deployment.rejected",
      data: { deploymentId: id, release, by, digest: approval.digest, ...said },
    },
  );
}

async function refuseOwnApproval(tx: Tx, deployment: Waiting, by: string): Promise<void> {
  const { mayApprove, others } = await judge(tx, deployment, deployment.approval.approvers, by);
  if (mayApprove) return;
  const { id, release, environment } = deployment;
  throw fail("APPROVAL_REFUSED", {
    message: `${by} asked for ${id} or pushed what r${release} was made of; ${environment} wants the approval of somebody else${suchAs(others)}.`,
    hint: "Ask a colleague; `approvers: anyone` in shipway.yml would let you, once a release with that was approved.",
  });
}

async function requireWaiting(db: Database | Tx, id: string): Promise<Waiting> {
  const deployment = await getDeployment(db, id);
  const { approval, status } = deployment;
  if (approval === null || status !== "waiting" || isExpired(approval, new Date())) throw await refused(db, deployment);
  return { ...deployment, approval };
}

const isExpired = (approval: DeploymentApproval | null, now: Date) =>
  approval?.expiresAt !== undefined && new Date(approval.expiresAt) <= now;

/** Whoever is late is told what became of it, and what to do instead. */
async function refused(db: Database | Tx, deployment: Deployment): Promise<Error> {
  const { id, app, environment, release, status, approval } = deployment;
  const decision = approval?.decision;
  const refuse = (why: string, hint: string) =>
    fail("APPROVAL_REFUSED", {
      message: `${id} (r${release} to ${environment}) does not wait for an approval${why}`,
      hint,
    });
  if (status === "waiting")
    return refuse(`: ${expiredProblem(deployment).message}`, `Ask once more: ${deployAgain(deployment)}.`);
  if (status === "superseded") {
    const newer = await findWaiting(db, deployment);
    return refuse(
      " any more: something newer overtook it.",
      newer === undefined
        ? `See what runs: \`shipway status --app ${app}\`.`
        : `r${newer.release} waits instead: \`shipway approve ${newer.id}\`.`,
    );
  }
  if (decision === undefined) return refuse(`: it is ${status}.`, `See it: \`shipway deployments ${id}\`.`);
  const how = decision.approved ? "approved" : "turned down";
  return refuse(
    `: ${decision.by} has ${how} it at ${decision.at}; its status is ${status}.`,
    `See it: \`shipway deployments ${id}\`.`,
  );
}

const findWaiting = (db: Database | Tx, { app, environment }: Place) =>
  db
    .selectFrom("deployments")
    .select(["id", "release"])
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "=", "waiting")
    .executeTakeFirst();

const expiredProblem = (deployment: Deployment): Problem => ({
  code: "EXPIRED",
  message: `nobody approved it until ${deployment.approval?.expiresAt}.`,
  hint: `Ask once more: ${deployAgain(deployment)}.`,
});

const deployAgain = ({ app, environment, release }: Deployment) =>
  `\`shipway deploy --app ${app} --env ${environment} --release r${release}\``;
