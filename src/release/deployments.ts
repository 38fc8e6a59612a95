import type { Selectable } from "kysely";
import { newEnvironment } from "../environment/environments.ts";
import type { DeploymentKind, Review } from "../events/event.ts";
import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import type { Evidence } from "../rollout/target.ts";
import { fail, type Problem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { DeploymentStatus, DeploymentsTable } from "../store/schema.ts";
import { settleDelivery } from "./deliveries.ts";
import { findGate, judge } from "./gate.ts";

export type Deployment = Selectable<DeploymentsTable>;

export type DeploymentRequest = Place & {
  release: number;
  kind: DeploymentKind;
  actor: string;
  deliveryId: string;
  /** Told to those who are to approve it, where somebody has to. */
  review?: Review;
};

/** Of those who may approve, so many are named. */
const SOME = 5;

/**
 * Queues a deployment and starts it when its environment is idle, in one transaction. One runs per environment; the newest
 * waiting deploy wins and those it overtakes are superseded; a rollback never waits behind deploys and asks the running one to stop.
 * Where the environment wants an approval a deploy waits for that first, and holds nothing up; a rollback needs none: going back must not wait for anybody.
 * Repeating a request (same delivery, environment and release) returns the deployment that is there.
 * The returned `start` must be handed to the workflow engine after the commit; recovery does so too.
 */
export async function requestDeployment(
  tx: Tx,
  request: DeploymentRequest,
): Promise<{ id: string; start: string | undefined }> {
  const environment = await lockEnvironment(tx, request);
  const existing = await findRequested(tx, request);
  if (existing) return { id: existing, start: undefined };
  const id = newId("d");
  const approval = request.kind === "rollback" ? undefined : await findGate(tx, request, request.release);
  const isWaiting = approval !== undefined && approval.decision === undefined;
  await tx
    .insertInto("deployments")
    .values({
      id,
      app: request.app,
      environment: request.environment,
      release: request.release,
      kind: request.kind,
      status: isWaiting ? "waiting" : "queued",
      actor: request.actor,
      delivery_id: request.deliveryId,
      from_release: null,
      live_after_ms: null,
      phases: "[]",
      phase: null,
      problem: "null",
      evidence: "[]",
      addresses: "[]",
      secret_versions: "{}",
      ...(approval && { approval: JSON.stringify(approval) }),
      started_at: null,
      ended_at: null,
    })
    .execute();
  if (isWaiting) {
    const { others } = await judge(tx, request, approval.approvers, request.actor);
    await appendEvent(tx, frameOf({ ...request, id }), {
      kind: "deployment.waiting",
      data: {
        deploymentId: id,
        release: request.release,
        ...approval,
        mayApprove: others.slice(0, SOME),
        ...request.review,
      },
    });
    // What was approved is overtaken by what is: nobody may ever approve this one.
    await supersede(tx, request, id, { kinds: ["deploy"], statuses: ["waiting"] });
    return { id, start: undefined };
  }
  const waitsFor = environment.running_deployment ?? environment.teardown ?? undefined;
  await appendEvent(tx, frameOf({ ...request, id }), {
    kind: "deployment.queued",
    data: { deploymentId: id, kind: request.kind, release: request.release, ...(waitsFor && { waitsFor }) },
  });
  // A push never overtakes a rollback that somebody asked for.
  await (request.kind === "rollback"
    ? supersede(tx, request, id, { kinds: ["deploy", "rollback"], statuses: ["queued"] })
    : supersede(tx, request, id, { kinds: ["deploy"], statuses: ["queued", "waiting"] }));
  if (environment.running_deployment && request.kind === "rollback")
    await askToCancel(tx, environment.running_deployment);
  return { id, start: await startNext(tx, request) };
}

/** Several environments of one delivery at once, so that it ends when the last of them has, and is told to wait when all that is left of it does. */
export async function requestDeployments(
  tx: Tx,
  { app, deliveryId, actor }: { app: string; deliveryId: string; actor: string },
  requests: readonly Omit<DeploymentRequest, "app" | "deliveryId" | "actor">[],
): Promise<{ id: string; start: string | undefined }[]> {
  await lockEnvironments(
    tx,
    app,
    requests.map(({ environment }) => environment),
  );
  const before = await tx.selectFrom("deployments").select("id").where("delivery_id", "=", deliveryId).execute();
  const requested: { id: string; start: string | undefined }[] = [];
  for (const request of requests) requested.push(await requestDeployment(tx, { ...request, app, deliveryId, actor }));
  if (before.length < requests.length) await settleDelivery(tx, { app, delivery_id: deliveryId, actor });
  return requested;
}

/**
 * Takes the environments' turns ahead of several `requestDeployment` in one transaction. An event holds the stream until the commit, so a transaction that
 * has written one must not wait for an environment: whoever has that may be waiting to write.
 */
export async function lockEnvironments(tx: Tx, app: string, environments: readonly string[]): Promise<void> {
  for (const environment of [...environments].sort()) await lockEnvironment(tx, { app, environment });
}

export async function lockEnvironment(tx: Tx, { app, environment }: Place) {
  await tx
    .insertInto("environments")
    .values(newEnvironment({ app, environment }))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return tx
    .selectFrom("environments")
    .selectAll()
    .where("app", "=", app)
    .where("name", "=", environment)
    .forUpdate()
    .executeTakeFirstOrThrow();
}

async function findRequested(tx: Tx, request: DeploymentRequest): Promise<string | undefined> {
  const row = await tx
    .selectFrom("deployments")
    .select("id")
    .where("delivery_id", "=", request.deliveryId)
    .where("environment", "=", request.environment)
    .where("release", "=", request.release)
    .executeTakeFirst();
  return row?.id;
}

/** A rollback leaves what waits for an approval: whoever approves that decides for themselves. */
export async function supersede(
  tx: Tx,
  place: Place,
  by: string,
  { kinds, statuses }: { kinds: DeploymentKind[]; statuses: ("queued" | "waiting")[] },
): Promise<void> {
  const overtaken = await tx
    .updateTable("deployments")
    .set({ status: "superseded", ended_at: new Date() })
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("status", "in", statuses)
    .where("kind", "in", kinds)
    .where("id", "!=", by)
    .returningAll()
    .execute();
  for (const deployment of overtaken) await announceEnd(tx, deployment);
}

const askToCancel = (tx: Tx, id: string) =>
  tx.updateTable("deployments").set({ cancel_requested: true }).where("id", "=", id).execute();

/** Gives an idle environment its next deployment. The caller holds the environment's row. */
export async function startNext(tx: Tx, { app, environment }: Place): Promise<string | undefined> {
  const row = await tx
    .selectFrom("environments")
    .select(["running_deployment", "live_release", "teardown"])
    .where("app", "=", app)
    .where("name", "=", environment)
    .executeTakeFirstOrThrow();
  // What is being stopped is not started in the middle of it.
  if (row.running_deployment !== null || row.teardown !== null) return undefined;
  const next = await tx
    .selectFrom("deployments")
    .selectAll()
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "=", "queued")
    .orderBy("kind", "desc") // "rollback" before "deploy"
    .orderBy("created_at", "desc")
    .executeTakeFirst();
  if (!next) return undefined;
  await tx
    .updateTable("deployments")
    .set({ status: "running", started_at: new Date(), from_release: row.live_release })
    .where("id", "=", next.id)
    .execute();
  await tx
    .updateTable("environments")
    // What was stopped is not tidy any more, whatever comes of this.
    .set({ running_deployment: next.id, stopped_at: null })
    .where("app", "=", app)
    .where("name", "=", environment)
    .execute();
  await appendEvent(tx, frameOf(next), {
    kind: "deployment.started",
    data: {
      deploymentId: next.id,
      kind: next.kind,
      release: next.release,
      ...(row.live_release !== null && { from: row.live_release }),
    },
  });
  return next.id;
}

/** Traffic moved: the release is what the environment runs from now on, even if Shipway dies before the deployment ends. */
export async function markLive(
  db: Database,
  deployment: Deployment,
  liveAfterMs: number,
  addresses: string[],
): Promise<void> {
  await db.transaction().execute(async (tx) => {
    await tx
      .updateTable("deployments")
      .set({ live_after_ms: liveAfterMs, addresses: JSON.stringify(addresses) })
      .where("id", "=", deployment.id)
      .execute();
    await tx
      .updateTable("environments")
      .set({ live_release: deployment.release })
      .where("app", "=", deployment.app)
      .where("name", "=", deployment.environment)
      .execute();
  });
}

export type DeploymentResult = {
  status: "succeeded" | "failed" | "canceled";
  /** What the environment runs now. */
  live: number | null;
  /** What is parked now; undefined leaves what was parked before. */
  standby: number | null | undefined;
  standbyMs: number;
  phases: { name: string; durationMs: number }[];
  phase?: string;
  problem?: Problem;
  evidence: Evidence[];
  rolledBack: boolean;
};

/** Writes the outcome and gives the environment to the next one, in one transaction. Repeating it is a no-op. Returns the deployment to start. */
export async function endDeployment(db: Database, id: string, result: DeploymentResult): Promise<string | undefined> {
  return db.transaction().execute(async (tx) => {
    const deployment = await tx.selectFrom("deployments").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
    await lockEnvironment(tx, deployment);
    if (deployment.status !== "running") return startNext(tx, deployment);
    const ended = await tx
      .updateTable("deployments")
      .set({
        status: result.status,
        ended_at: new Date(),
        phases: JSON.stringify(result.phases),
        phase: result.phase ?? null,
        problem: JSON.stringify(result.problem ?? null),
        evidence: JSON.stringify(result.evidence),
        rolled_back: result.rolledBack,
      })
      .where("id", "=", id)
      .returningAll()
      .executeTakeFirstOrThrow();
    await tx
      .updateTable("environments")
      .set({
        running_deployment: null,
        live_release: result.live,
        ...(result.live !== null && { stopped_release: null, stopped_by: null }),
        ...(result.standby !== undefined && {
          standby_release: result.standby,
          standby_until: result.standby === null ? null : new Date(Date.now() + result.standbyMs),
        }),
      })
      .where("app", "=", ended.app)
      .where("name", "=", ended.environment)
      .execute();
    if (ended.kind === "rollback" && ended.status === "succeeded") await freeze(tx, ended);
    await announceEnd(tx, ended);
    return startNext(tx, ended);
  });
}

/** After a rollback the next push must not bring the bad release back by itself. */
async function freeze(tx: Tx, deployment: Deployment): Promise<void> {
  const reason = `rolled back to r${deployment.release} by ${deployment.actor}`;
  await tx
    .updateTable("environments")
    .set({ frozen_reason: reason, frozen_at: new Date() })
    .where("app", "=", deployment.app)
    .where("name", "=", deployment.environment)
    .execute();
  await appendEvent(tx, frameOf(deployment), {
    kind: "environment.frozen",
    data: { reason, release: deployment.release },
  });
  await supersede(tx, deployment, deployment.id, { kinds: ["deploy"], statuses: ["queued"] });
}

/** Ends a deployment that has not begun, in whatever way. */
export async function endUnstarted(
  tx: Tx,
  id: string,
  status: "canceled" | "rejected" | "expired",
  problem?: Problem,
): Promise<void> {
  const ended = await tx
    .updateTable("deployments")
    .set({ status, ended_at: new Date(), ...(problem && { problem: JSON.stringify(problem) }) })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
  await announceEnd(tx, ended);
}

async function announceEnd(tx: Tx, deployment: Deployment): Promise<void> {
  const { status } = deployment;
  if (status === "waiting" || status === "queued" || status === "running")
    throw new Error(`deployment ${deployment.id} has not ended`);
  await appendEvent(tx, frameOf(deployment), {
    kind: "deployment.ended",
    data: {
      deploymentId: deployment.id,
      kind: deployment.kind,
      release: deployment.release,
      status,
      addresses: status === "succeeded" ? deployment.addresses : [],
      ...(deployment.live_after_ms !== null && { liveAfterMs: deployment.live_after_ms }),
      durationMs: Date.now() - (deployment.started_at ?? deployment.created_at).getTime(),
      ...(deployment.phase && { phase: deployment.phase }),
      ...(deployment.problem && { problem: deployment.problem }),
      evidence: deployment.evidence,
      rolledBack: deployment.rolled_back,
    },
  });
  await settleDelivery(tx, deployment);
}

/** The frame of a deployment's events. */
export function frameOf(
  deployment: { id: string; app: string; environment: string; actor: string } & (
    | { delivery_id: string }
    | { deliveryId: string }
  ),
) {
  return {
    app: deployment.app,
    environment: deployment.environment,
    subject: `deployment:${deployment.id}`,
    deliveryId: "delivery_id" in deployment ? deployment.delivery_id : deployment.deliveryId,
    actor: deployment.actor,
  };
}

/** @throws DEPLOYMENT_NOT_FOUND */
export async function getDeployment(db: Database, id: string): Promise<Deployment> {
  const row = await db.selectFrom("deployments").selectAll().where("id", "=", id).executeTakeFirst();
  if (row) return row;
  throw fail("DEPLOYMENT_NOT_FOUND", {
    message: `There is no deployment ${id}.`,
    hint: "List them with `shipway deployments`.",
  });
}

export async function listDeployments(
  db: Database,
  app: string,
  filter: { environment?: string | undefined; status?: DeploymentStatus | undefined; limit: number },
): Promise<Deployment[]> {
  let query = db
    .selectFrom("deployments")
    .selectAll()
    .where("app", "=", app)
    .orderBy("created_at", "desc")
    .limit(filter.limit);
  if (filter.environment !== undefined) query = query.where("environment", "=", filter.environment);
  if (filter.status !== undefined) query = query.where("status", "=", filter.status);
  return query.execute();
}

/** Asks a deployment to stop: a waiting one ends at once, a running one stops at its next safe point. An ended one is left alone. */
export async function cancelDeployment(db: Database, id: string): Promise<DeploymentStatus> {
  return db.transaction().execute(async (tx) => {
    // Held, it does not start between the look and the end: one that ran and was marked as ended would keep its environment for ever.
    await lockEnvironment(tx, await getDeployment(tx, id));
    const deployment = await getDeployment(tx, id);
    if (deployment.status === "running") await askToCancel(tx, id);
    if (deployment.status !== "queued" && deployment.status !== "waiting") return deployment.status;
    await endUnstarted(tx, id, "canceled");
    return "canceled";
  });
}

/** Deployments that the workflow engine must know of: a crash between commit and start would otherwise leave them waiting for ever. */
export async function runningDeployments(db: Database): Promise<string[]> {
  const rows = await db.selectFrom("deployments").select("id").where("status", "=", "running").execute();
  return rows.map((row) => row.id);
}

export async function isCancelRequested(db: Database, id: string): Promise<boolean> {
  const row = await db.selectFrom("deployments").select("cancel_requested").where("id", "=", id).executeTakeFirst();
  return row?.cancel_requested ?? false;
}
