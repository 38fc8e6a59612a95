/**
 * `plan` only looks; `apply` plans, waits at the gate where it must, and applies; `destroy` does so with a plan that leaves nothing; `drift` compares
 * reality with what was applied.
 */
export type InfraRunKind = "plan" | "apply" | "destroy" | "drift";

/** Whether it may change what exists: one of them at a time, under the state's lock, with its plan kept and its steps journaled. */
export const isApplying = (kind: InfraRunKind): kind is "apply" | "destroy" => kind === "apply" || kind === "destroy";

/** `waiting` for an approval; `unknown`: it was cut off while it changed things, and the environment is blocked until somebody recovered it. */
export type InfraRunStatus =
  | "queued"
  | "running"
  | "waiting"
  | "succeeded"
  | "failed"
  | "unknown"
  | "superseded"
  | "canceled";

export type PlannedAction = "create" | "update" | "replace" | "delete" | "forget" | "import" | "move" | "read";

/** One attribute that differs, as people read it; what is sensitive reads `(sensitive)`. */
export type ChangedAttribute = { path: string; before: string; after: string };

export type PlannedChange = {
  address: string;
  action: PlannedAction;
  /** Terraform's reason, in words; such as `it is no longer in the code`. */
  reason?: string;
  attributes: ChangedAttribute[];
};

/**
 * Of an apply that changes nothing real and makes the state say what exists (`-refresh-only`): the addresses it is confined to, none for all of the
 * environment.
 */
export type Takeover = { addresses: string[] };

/** What a plan will do, read from `terraform show -json`. */
export type PlanSummary = {
  changes: PlannedChange[];
  /** Names of outputs that change. */
  outputs: string[];
  /** Why somebody has to approve it; empty when nobody has to. */
  approval: string[];
  /** Why nobody can let it pass: protected objects, or too many at once. Absent when nothing stands against it. */
  refused?: string[];
};

/**
 * `reverting`: the next apply would undo it; `informational`: nothing would be done about it (computed, ignored, or equal to the code again);
 * `undeployed`: not drift, but code that was never applied to the end; `ignored`: known, with somebody's reason.
 */
export type DriftKind = "reverting" | "informational" | "undeployed" | "ignored";

export type DriftedResource = {
  address: string;
  kind: DriftKind;
  /** What happened to it, or, for `undeployed`, what the code wants. */
  action: PlannedAction;
  attributes: ChangedAttribute[];
  reason?: string;
};

export type DriftReport = { commit: string; runId: string; resources: DriftedResource[] };

/** Who holds the state. `runId` is null for a lock that belongs to no run we know: one of a state that Shipway does not keep itself. */
export type StateLock = {
  id: string;
  operation: string;
  who: string;
  created: string;
  runId: string | null;
  actor?: string;
};

/** Where the state lies: `shipway`, or the type of the code's own backend with what names the place in it (bucket, key); never a credential. */
export type StateIn = { type: string; config: Record<string, string> };

export type InfraOutputs = Record<string, { value?: unknown; sensitive: boolean }>;
