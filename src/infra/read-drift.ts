import { MOST_ATTRIBUTES, UNKNOWN } from "./changed-attributes.ts";
import type { ChangedAttribute, DriftedResource } from "./infra-run.ts";
import type { PlanJson, ResourceChange } from "./plan-json.ts";
import { actionOf, allAttributesOf, attributesOf } from "./read-plan.ts";
import type { FoundAttribute } from "./rollout-writes.ts";

/** What somebody wants to hear no more of: a resource, or (`path`) one attribute of it and what is below. */
export type Ignored = { address: string; path: string; reason: string };

export type DriftRules = {
  ignored: readonly Ignored[];
  /** Whether a rollout of ours put there what is there. */
  isOurs(found: FoundAttribute): boolean;
};

/**
 * What one normal plan at the applied commit says about drift. Exit codes are not asked: a refresh-only plan reports changes where there are none,
 * and a normal one none where only a computed attribute moved (measured with Terraform 1.11). A resource is listed once for each kind that its
 * attributes are of.
 */
export function readDrift(plan: PlanJson, rules: DriftRules): DriftedResource[] {
  const changes = plan.resource_changes.filter((change) => actionOf(change) !== undefined);
  // An object that an earlier replacement left behind has the address of its successor.
  const planned = new Map(changes.flatMap((one) => (one.deposed === undefined ? [[one.address, one] as const] : [])));
  const drifted = plan.resource_drift.flatMap((change) => readDrifted(change, planned.get(change.address), rules));
  const seen = new Set(drifted.map(({ address }) => address));
  const undeployed = changes.flatMap((change): DriftedResource[] => {
    const action = actionOf(change);
    if (action === undefined || isFollowUp(change, plan)) return [];
    if (change.deposed === undefined && seen.has(change.address)) return [];
    return [{ address: change.address, kind: "undeployed", action, attributes: attributesOf(change) }];
  });
  return [...drifted, ...undeployed];
}

function readDrifted(
  change: ResourceChange,
  planned: ResourceChange | undefined,
  { ignored, isOurs }: DriftRules,
): DriftedResource[] {
  const action = actionOf(change);
  // A resource that only moved to another address did not drift.
  if (action === undefined || action === "move") return [];
  const { address } = change;
  const all = action === "delete" ? [] : allAttributesOf(change).filter((one) => !isNothing(one));
  if (action === "update" && all.length === 0) return [];
  const put = planned === undefined ? ("informational" as const) : ("reverting" as const);
  const found = (attributes: ChangedAttribute[]) => ({
    address,
    action,
    attributes: attributes.slice(0, MOST_ATTRIBUTES),
  });
  const whole = ignored.find((one) => one.address === address && one.path === "");
  if (whole) return [{ ...found(all), kind: "ignored", reason: whole.reason }];
  if (action !== "update") return [{ ...found(all), kind: put }];

  const object = change.change.after;
  const ours = all.filter(({ path }) => isOurs({ type: change.type ?? "", object, path }));
  const quiet = all.filter((one) => !ours.includes(one) && isIgnored(ignored, address, one.path));
  const rest = all.filter((one) => !ours.includes(one) && !quiet.includes(one));
  const undone = plannedPaths(planned);
  const isUndone = ({ path }: ChangedAttribute) =>
    undone === "all" || undone.some((one) => isWithin(one, path) || isWithin(path, one));
  // What the plan does to the others is not for the sake of these.
  const otherWork =
    undone === "all" || undone.some((path) => ![...ours, ...quiet].some((one) => isWithin(path, one.path)));
  return [
    ...(rest.length === 0 ? [] : [{ ...found(rest), kind: otherWork ? put : ("informational" as const) }]),
    ...(ours.length === 0
      ? []
      : [
          {
            ...found(ours),
            kind: "informational" as const,
            reason: planned && ours.some(isUndone) ? OURS_UNDONE : OURS,
          },
        ]),
    ...(quiet.length === 0
      ? []
      : [{ ...found(quiet), kind: "ignored" as const, reason: reasonsOf(ignored, address, quiet) }]),
  ];
}

const OURS = "a rollout set it";
const OURS_UNDONE = "a rollout set it, but the next apply would undo that: name it in lifecycle.ignore_changes";

/** Which attributes an apply would touch; all, where it would not just update. */
function plannedPaths(planned: ResourceChange | undefined): string[] | "all" {
  if (planned === undefined) return [];
  return actionOf(planned) === "update" ? allAttributesOf(planned).map(({ path }) => path) : "all";
}

/** Whether `path` is `parent` or below it. */
const isWithin = (path: string, parent: string): boolean =>
  path === parent || path.startsWith(`${parent}.`) || path.startsWith(`${parent}[`);

const isIgnored = (ignored: readonly Ignored[], address: string, path: string): boolean =>
  ignored.some((one) => one.address === address && (one.path === "" || isWithin(path, one.path)));

function reasonsOf(ignored: readonly Ignored[], address: string, quiet: readonly ChangedAttribute[]): string {
  const reasons = ignored.filter(
    (one) => one.address === address && quiet.some(({ path }) => isWithin(path, one.path)),
  );
  return [...new Set(reasons.map(({ reason }) => reason))].join("; ");
}

/** What a report says once somebody wants to hear no more of something: known drift is not told again because a part of it is ignored. */
export function ignoreIn(resources: readonly DriftedResource[], ignored: Ignored): DriftedResource[] {
  return resources.flatMap((one): DriftedResource[] => {
    if (one.address !== ignored.address || one.kind === "undeployed" || one.kind === "ignored") return [one];
    if (ignored.path === "") return [{ ...one, kind: "ignored", reason: ignored.reason }];
    const quiet = one.attributes.filter(({ path }) => isWithin(path, ignored.path));
    if (quiet.length === 0) return [one];
    const rest = one.attributes.filter((attribute) => !quiet.includes(attribute));
    return [
      ...(rest.length === 0 ? [] : [{ ...one, attributes: rest }]),
      { ...one, kind: "ignored", reason: ignored.reason, attributes: quiet },
    ];
  });
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
  const attributes = allAttributesOf(change);
  return attributes.length > 0 && attributes.every(({ after }) => after === UNKNOWN);
}

/** Drift that was not there before, so that somebody is told once and not every hour. */
export function newDrift(before: readonly DriftedResource[], now: readonly DriftedResource[]): DriftedResource[] {
  const known = new Set(before.map(keyOf));
  return now.filter((one) => one.kind === "reverting" && !known.has(keyOf(one)));
}

const keyOf = ({ address, kind, action, attributes }: DriftedResource) =>
  JSON.stringify([address, kind, action, attributes]);
