import { createHash } from "node:crypto";
import type { InfraSpec } from "../spec/app-spec.ts";
import { matchesAddress } from "./address.ts";
import {
  allChangedAttributes,
  changedValues,
  type Difference,
  MOST_ATTRIBUTES,
  sensitiveTexts,
} from "./changed-attributes.ts";
import type { ChangedAttribute, PlannedAction, PlannedChange, PlanSummary, Takeover } from "./infra-run.ts";
import type { PlanJson, ResourceChange } from "./plan-json.ts";

const REASONS: Record<string, string> = {
  replace_because_tainted: "its creation did not end well",
  replace_because_cannot_update: "this cannot be changed in place",
  replace_by_request: "a replacement was asked for",
  replace_by_triggers: "replace_triggered_by says so",
  delete_because_no_resource_config: "it is no longer in the code",
  delete_because_wrong_repetition: "the code repeats it in another way now",
  delete_because_count_index: "count is smaller now",
  delete_because_each_key: "for_each has its key no longer",
  delete_because_no_module: "its module is no longer in the code",
  delete_because_no_move_target: "it was moved to an address that is not in the code",
};

/** What a plan will do, and why somebody has to approve it. */
export function readPlan(plan: PlanJson, rule: InfraSpec["approval"], hasImports = false): PlanSummary {
  const changes = plan.resource_changes.flatMap(readChange);
  const outputs = outputsOf(plan);
  return { changes, outputs, approval: approvalReasons(changes, outputs, rule, hasImports) };
}

/** Said of an object that a refresh did not find. */
const GONE = "it was not found: somebody removed it, or these credentials do not see it";

/**
 * What a refresh-only plan will take over into the state. Nothing real is changed by it; somebody has to agree all the same, since with the wrong
 * credentials everything looks as if it were gone.
 */
export function readTakeover(plan: PlanJson, { addresses }: Takeover): PlanSummary {
  const changes = plan.resource_drift.flatMap((resource): PlannedChange[] => {
    const action = actionOf(resource);
    if (action === undefined || action === "move") return [];
    if (action === "delete") return [{ address: resource.address, action: "forget", reason: GONE, attributes: [] }];
    const attributes = attributesOf(resource);
    return attributes.length === 0 ? [] : [{ address: resource.address, action: "update", attributes }];
  });
  const outputs = outputsOf(plan);
  const where = addresses.length === 0 ? "" : ` of ${addresses.join(", ")}`;
  const approval =
    changes.length === 0 && outputs.length === 0
      ? []
      : [
          `from then on the state says what exists${where}, and no longer what was applied (${changes.map(({ address }) => address).join(", ") || "only outputs"})`,
          ...changes.flatMap(({ address, action, reason }) =>
            action === "forget" ? [`it drops ${address} from the state: ${reason}`] : [],
          ),
        ];
  return { changes, outputs, approval };
}

const outputsOf = (plan: PlanJson): string[] =>
  Object.entries(plan.output_changes)
    .filter(([, { actions }]) => !actions.includes("no-op"))
    .map(([name]) => name);

function readChange(resource: ResourceChange): PlannedChange[] {
  const action = actionOf(resource);
  if (action === undefined) return [];
  const leftOver =
    resource.deposed === undefined ? undefined : `left behind by an earlier replacement (deposed ${resource.deposed})`;
  const reason = leftOver ?? (resource.action_reason === undefined ? undefined : REASONS[resource.action_reason]);
  const moved = action === "move" ? `from ${resource.previous_address}` : undefined;
  const text = reason ?? moved;
  return [
    {
      address: resource.address,
      action,
      ...(text !== undefined && { reason: text }),
      attributes: action === "update" || action === "replace" ? attributesOf(resource) : [],
    },
  ];
}

export const attributesOf = (resource: ResourceChange): ChangedAttribute[] =>
  allAttributesOf(resource).slice(0, MOST_ATTRIBUTES);

export const allAttributesOf = (resource: ResourceChange): ChangedAttribute[] =>
  allChangedAttributes(differenceOf(resource));

const differenceOf = ({ change }: ResourceChange): Difference => ({
  before: change.before,
  after: change.after,
  beforeSensitive: change.before_sensitive,
  afterSensitive: change.after_sensitive,
  afterUnknown: change.after_unknown,
});

/** Undefined when nothing is done: no-op, or a data source that is read. */
export function actionOf({ mode, change, previous_address }: ResourceChange): PlannedAction | undefined {
  const { actions } = change;
  if (mode === "data") return undefined;
  if (actions.includes("delete")) return actions.includes("create") ? "replace" : "delete";
  if (actions.includes("forget")) return "forget";
  if (actions.includes("create")) return "create";
  if (actions.includes("update")) return "update";
  if (change.importing !== undefined && change.importing !== null) return "import";
  return previous_address === undefined ? undefined : "move";
}

/**
 * What a plan begins with: of each object a hash of what is done to it and of the values that are there now, secret ones too. Of a takeover it is the other
 * end: what exists is what it leads to.
 */
export function startsOf(plan: PlanJson, isTakeover: boolean): Record<string, string> {
  const starts: Record<string, string> = {};
  for (const resource of isTakeover ? plan.resource_drift : plan.resource_changes) {
    const action = actionOf(resource);
    if (action === undefined || (isTakeover && action === "move")) continue;
    const changes = action === "update" || action === "replace";
    const values = changes ? changedValues(differenceOf(resource), isTakeover ? "after" : "before") : [];
    if (isTakeover && changes && values.length === 0) continue;
    const name =
      resource.deposed === undefined ? resource.address : `${resource.address} (deposed ${resource.deposed})`;
    starts[name] = createHash("sha256")
      .update(JSON.stringify([action, values]))
      .digest("hex");
  }
  return starts;
}

/** Addresses for which two plans of the same code do not begin with the same. What they lead to may differ (`plantimestamp()`). */
export const differingStarts = (before: Record<string, string>, now: Record<string, string>): string[] =>
  [...new Set([...Object.keys(before), ...Object.keys(now)])].filter((address) => before[address] !== now[address]);

const GATED: Partial<Record<PlannedAction, string>> = {
  delete: "destroys",
  replace: "destroys and makes anew",
  forget: "stops managing (it goes on existing)",
};

/** Why nobody can let this plan pass, whoever agrees; empty when nothing stands against it. */
export function refusalsOf(
  changes: readonly PlannedChange[],
  { protect = [], maxDestroy }: Pick<InfraSpec, "protect" | "maxDestroy">,
): string[] {
  const lost = changes.filter(({ action }) => GATED[action] !== undefined);
  const reasons = lost.flatMap(({ address, action, reason }) => {
    const rule = protect.find((one) => matchesAddress(one, address));
    if (rule === undefined) return [];
    const verb = reason === GONE ? "drops from the state" : GATED[action];
    return [`it ${verb} ${address}${reason === undefined ? "" : ` (${reason})`}, which is protected (${rule})`];
  });
  if (maxDestroy !== undefined && lost.length > maxDestroy)
    reasons.push(
      `it destroys, makes anew or stops managing ${lost.length} objects; at most ${maxDestroy} are allowed at once (maxDestroy)`,
    );
  return reasons;
}

function approvalReasons(
  changes: PlannedChange[],
  outputs: string[],
  rule: InfraSpec["approval"],
  hasImports: boolean,
): string[] {
  const destructive = changes.flatMap(({ action, address, reason }) => {
    const verb = GATED[action];
    return verb === undefined ? [] : [`it ${verb} ${address}${reason === undefined ? "" : `: ${reason}`}`];
  });
  if (destructive.length > 0) return destructive;
  if (changes.length === 0 && outputs.length === 0) return [];
  if (hasImports) return ["it takes over objects that a run which was cut off had made"];
  return rule === "always" ? ["this environment asks for an approval of every plan"] : [];
}

/** The sensitive values of a plan, so that they can be masked wherever else they appear. */
export function sensitiveValues(plan: PlanJson): string[] {
  const { variables } = plan.configuration.root_module;
  const ofVariables = Object.entries(plan.variables).flatMap(([name, { value }]) =>
    sensitiveTexts(value, variables[name]?.sensitive === true),
  );
  const ofChanges = [...plan.resource_changes, ...plan.resource_drift, ...Object.values(plan.output_changes)].flatMap(
    (one) => {
      const change = "change" in one ? one.change : one;
      return [
        ...sensitiveTexts(change.before, change.before_sensitive),
        ...sensitiveTexts(change.after, change.after_sensitive),
      ];
    },
  );
  return [...new Set([...ofVariables, ...ofChanges])];
}
