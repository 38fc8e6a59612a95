import { UNKNOWN } from "./changed-attributes.ts";
import type { ChangedAttribute, DriftedResource } from "./infra-run.ts";
import type { PlanJson, ResourceChange } from "./plan-json.ts";
import { actionOf, attributesOf } from "./read-plan.ts";

export type Acceptance = { address: string; reason: string };

/**
 * What one normal plan at the applied commit says about drift. Exit codes are not asked: a refresh-only plan reports changes where there are none,
 * and a normal one none where only a computed attribute moved (measured with Terraform 1.11).
 */
export function readDrift(plan: PlanJson, accepted: readonly Acceptance[]): DriftedResource[] {
  const planned = new Map(
    plan.resource_changes
      .filter((change) => actionOf(change) !== undefined)
      .map((change) => [change.address, change] as const),
  );
  const drifted = plan.resource_drift.flatMap((change) => readDrifted(change, planned, accepted));
  const seen = new Set(drifted.map(({ address }) => address));
  const undeployed = [...planned.values()].flatMap((change): DriftedResource[] => {
    const action = actionOf(change);
    if (action === undefined || seen.has(change.address) || isFollowUp(change, plan)) return [];
    return [{ address: change.address, kind: "undeployed", action, attributes: attributesOf(change) }];
  });
  return [...drifted, ...undeployed];
}

function readDrifted(
  change: ResourceChange,
  planned: ReadonlyMap<string, ResourceChange>,
  accepted: readonly Acceptance[],
): DriftedResource[] {
  const action = actionOf(change);
  // A resource that only moved to another address did not drift.
  if (action === undefined || action === "move") return [];
  const attributes = action === "delete" ? [] : attributesOf(change).filter((one) => !isNothing(one));
  if (action === "update" && attributes.length === 0) return [];
  const found = { address: change.address, action, attributes };
  const acceptance = accepted.find(({ address }) => address === change.address);
  if (acceptance) return [{ ...found, kind: "accepted", reason: acceptance.reason }];
  return [{ ...found, kind: planned.has(change.address) ? "reverting" : "informational" }];
}

const NOTHING = new Set(["null", "{}", "[]", '""']);

/** Providers read "no tags" back as an empty map where the configuration had none: right after an apply that is no drift (seen with hashicorp/aws 5). */
const isNothing = ({ before, after }: ChangedAttribute) => NOTHING.has(before) && NOTHING.has(after);

/**
 * Changes that another resource's drift drags along are not code that waits: what it depends on is made anew, so nothing of it is known yet. One known
 * difference (beside the computed attributes that every write makes unknown) and the code wants it.
 */
function isFollowUp(change: ResourceChange, plan: PlanJson): boolean {
  if (plan.resource_drift.length === 0 || actionOf(change) === "create") return false;
  const attributes = attributesOf(change);
  return attributes.length > 0 && attributes.every(({ after }) => after === UNKNOWN);
}

/** Drift that was not there before, so that somebody is told once and not every hour. */
export function newDrift(before: readonly DriftedResource[], now: readonly DriftedResource[]): DriftedResource[] {
  const known = new Set(before.map(keyOf));
  return now.filter((one) => one.kind === "reverting" && !known.has(keyOf(one)));
}

const keyOf = ({ address, kind, action, attributes }: DriftedResource) =>
  JSON.stringify([address, kind, action, attributes]);
