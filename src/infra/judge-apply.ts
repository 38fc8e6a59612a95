import type { StreamEvent } from "./terraform-stream.ts";

/** What is known after the process of an apply is gone. */
export type ApplyTraces = {
  events: readonly StreamEvent[];
  /** The state lock is still held by this run. */
  lockHeld: boolean;
  /** Terraform could not save the state and left it in a file. */
  erroredState: boolean;
  /** Of one that was stopped at once, what its state may lack. */
  unsaved?: Unsaved;
};

export type ApplyVerdict =
  | { outcome: "applied" }
  /** It ended by itself; what it did is in the state. */
  | { outcome: "failed"; errors: string[]; interrupted: boolean }
  /** It was cut off, or its state was not saved: what exists and what the state says may differ. */
  | { outcome: "unknown"; why: string };

/**
 * Judges by what Terraform wrote and left behind, not by its exit code: 1 stands for interrupted, partly applied and "applied, but the unlock failed"
 * alike, and of a process that outlived Shipway there is none.
 */
export function judgeApply({ events, lockHeld, erroredState, unsaved }: ApplyTraces): ApplyVerdict {
  if (erroredState)
    return { outcome: "unknown", why: "Terraform could not save the state and left it in errored.tfstate" };
  const errors = events.flatMap((event) =>
    event.type === "diagnostic" && event.diagnostic.severity === "error" ? [event.diagnostic.summary] : [],
  );
  // Said last, after everything was done and the state written; the lock is taken back from here.
  if (errors.length > 0 && errors.every((summary) => summary === UNLOCK_FAILED)) return { outcome: "applied" };
  if (errors.length === 0 && events.some((event) => event.type === "summary" && event.operation === "apply"))
    return { outcome: "applied" };
  // Stopped at once, it gives its lock back, too, but not what it was making.
  if (events.some(({ type }) => type === "forced") && !isNothing(unsaved))
    return { outcome: "unknown", why: `Terraform was stopped at once${whileAt(unsaved)}` };
  // A process that ends by itself, well or not, gives its lock back last.
  if (errors.length > 0 && !lockHeld)
    return { outcome: "failed", errors, interrupted: events.some(({ type }) => type === "interrupted") };
  if (errors.length > 0)
    return { outcome: "unknown", why: "Terraform reported an error and then did not end as it should" };
  return { outcome: "unknown", why: "Terraform was killed before it came to its end" };
}

const UNLOCK_FAILED = "Error releasing the state lock";

const isNothing = (unsaved: Unsaved | undefined) =>
  unsaved !== undefined && [unsaved.finished, unsaved.uncertain, unsaved.beside].every((list) => list.length === 0);

function whileAt(unsaved: Unsaved | undefined): string {
  const at = unsaved?.uncertain.map(({ address }) => address) ?? [];
  return at.length === 0 ? "" : ` while it was at ${at.slice(0, 3).join(", ")}${at.length > 3 ? " and more" : ""}`;
}

export type Unsaved = {
  /** Made or changed, and said so; the state may not know. */
  finished: { address: string; action: string; id: string | undefined }[];
  /** Begun, and never heard of again. `beside`: what the state has at that address was not said to be destroyed. */
  uncertain: { address: string; action: string; beside: boolean }[];
  /** Made beside what the state has at that address (create_before_destroy), which was not said to be destroyed: one of the two is too many. */
  beside: { address: string; id: string }[];
};

/** What an apply that was cut off did after the state was last saved, by what the state knows. Pure. */
export function findUnsaved(
  events: readonly StreamEvent[],
  idsInState: ReadonlyMap<string, string | undefined>,
): Unsaved {
  const last = new Map<string, StreamEvent & { type: "started" | "done" | "failed" }>();
  const finished: Unsaved["finished"] = [];
  for (const event of events) {
    if (event.type !== "started" && event.type !== "done" && event.type !== "failed") continue;
    last.set(event.address, event);
    if (event.type === "done" && isUnsaved(event, idsInState)) finished.push(event);
  }
  const destroyed = new Set(
    events.flatMap((event) => (event.type === "done" && event.action === "delete" ? [event.address] : [])),
  );
  const isBeside = ({ address, action }: { address: string; action: string }) =>
    action === "create" && idsInState.has(address) && !destroyed.has(address);
  return {
    finished: finished.filter((one) => !isBeside(one)).map(({ address, action, id }) => ({ address, action, id })),
    uncertain: [...last.values()]
      .filter(({ type }) => type === "started")
      .map(({ address, action }) => ({ address, action, beside: isBeside({ address, action }) })),
    beside: finished.filter(isBeside).flatMap(({ address, id }) => (id === undefined ? [] : [{ address, id }])),
  };
}

function isUnsaved(
  { address, action, id }: { address: string; action: string; id: string | undefined },
  ids: ReadonlyMap<string, string | undefined>,
): boolean {
  if (action === "delete" || action === "remove") return ids.has(address);
  if (!ids.has(address)) return true;
  const known = ids.get(address);
  return id !== undefined && known !== undefined && known !== id;
}
