import { createHash } from "node:crypto";
import { type Judged, judgeApprover } from "../access/approvers.ts";
import type { Place } from "../rollout/release.ts";
import type { ApprovalRule } from "../spec/app-spec.ts";
import type { Database, Tx } from "../store/open-store.ts";
import type { DeploymentApproval } from "../store/schema.ts";
import { findRelease } from "./releases.ts";
import { type ReleaseRecord, resolveRelease } from "./resolve-release.ts";

/** Of all that a release is: images by their digests, and the configuration it was recorded with. */
export function releaseDigest({ app, number, commit, spec, images }: ReleaseRecord): string {
  const content = JSON.stringify(sorted({ app, number, commit, spec, images }));
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** Postgres keeps the keys of an object in an order of its own. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

const STRICTNESS = ["anyone", undefined, "others"] as const;

/** Approval is wanted where any of the rules wants it, by those whom the strictest allows. The first one's time counts. Pure. */
export function strictestRule(rules: readonly (ApprovalRule | undefined)[]): ApprovalRule | undefined {
  const wanted = rules.filter((rule) => rule !== undefined);
  if (wanted.length === 0) return undefined;
  const approvers = STRICTNESS[Math.max(...wanted.map((rule) => STRICTNESS.indexOf(rule.approvers)))];
  const withinMs = wanted.find((rule) => rule.withinMs !== undefined)?.withinMs;
  return { ...(approvers && { approvers }), ...(withinMs !== undefined && { withinMs }) };
}

/**
 * The rule for a release in an environment: its own, and those of what was deployed there last and of what is on its way there. A commit that drops the rule
 * waits for an approval all the same: else it would approve itself.
 */
export async function findRule(db: Database | Tx, place: Place, release?: number): Promise<ApprovalRule | undefined> {
  const underWay = await forward(db, place).where("status", "in", ["queued", "running"]).execute();
  const before = await forward(db, place)
    .where("status", "=", "succeeded")
    .orderBy("ended_at", "desc")
    .limit(1)
    .execute();
  const own = release === undefined ? [] : [release];
  const numbers = [...new Set([...own, ...[...underWay, ...before].map((row) => row.release)])];
  const records = await Promise.all(numbers.map((number) => findRelease(db, place.app, number)));
  return strictestRule(
    records.map((record) => record && resolveRelease(record, place.environment).environmentSpec.approval),
  );
}

/** Deployments in a place, without those that went back. */
const forward = (db: Database | Tx, { app, environment }: Place) =>
  db
    .selectFrom("deployments")
    .select("release")
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("kind", "=", "deploy");

/**
 * What a deployment has to wait for; undefined where nobody has to approve it. A release that was approved here and failed is tried again under the same approval, as long as nothing else was tried since.
 */
export async function findGate(tx: Tx, place: Place, release: number): Promise<DeploymentApproval | undefined> {
  const rule = await findRule(tx, place, release);
  const record = await findRelease(tx, place.app, release);
  if (rule === undefined || record === undefined) return undefined;
  const digest = releaseDigest(record);
  const last = await lastEnded(tx, place);
  const isSame = last?.release === release && last.approval?.digest === digest;
  if (isSame && last.status === "failed" && last.approval?.decision?.approved) return last.approval;
  return {
    digest,
    ...(rule.approvers && { approvers: rule.approvers }),
    ...(rule.withinMs !== undefined && { expiresAt: new Date(Date.now() + rule.withinMs).toISOString() }),
  };
}

const lastEnded = (tx: Tx, { app, environment }: Place) =>
  tx
    .selectFrom("deployments")
    .select(["release", "status", "approval"])
    .where("app", "=", app)
    .where("environment", "=", environment)
    .where("status", "in", ["succeeded", "failed"])
    .orderBy("ended_at", "desc")
    .executeTakeFirst();

type Asked = Place & { release: number; actor: string };

/** Whether `by` may approve a deployment. Whoever asked for it, or pushed the commit of its release, is its author. */
export async function judge(
  db: Database | Tx,
  deployment: Asked,
  approvers: DeploymentApproval["approvers"],
  by: string,
): Promise<Judged> {
  const { app, actor } = deployment;
  const record = await findRelease(db, app, deployment.release);
  const pushed = record === undefined ? [] : await authorsOf(db, record);
  return judgeApprover(db, { app, authors: new Set([actor, ...pushed]), approvers }, by);
}

/** Who pushed a commit, or had it deployed. */
export async function authorsOf(
  db: Database | Tx,
  { app, commit }: { app: string; commit: string },
): Promise<Set<string>> {
  const pushed = await db
    .selectFrom("changes")
    .select("actor")
    .distinct()
    .where("app", "=", app)
    .where("commit", "=", commit)
    .execute();
  return new Set(pushed.map(({ actor }) => actor));
}
