import type { PlatformEvent, StoredEvent } from "../events/event.ts";
import { fail } from "../shared/errors.ts";
import { didYouMean } from "../shared/yaml-problems.ts";

/** What a hook may ask to be told: every kind of the platform's events, with the outcomes that can be told apart. The type keeps it complete. */
const KINDS: Record<PlatformEvent["kind"], readonly string[]> = {
  "app.created": [],
  "app.removed": [],
  "delivery.started": [],
  "delivery.note": [],
  "delivery.waiting": [],
  "delivery.ended": ["live", "stopped", "superseded", "nothing-to-deploy"],
  "release.recorded": [],
  "deployment.waiting": [],
  "deployment.approved": [],
  "deployment.rejected": [],
  "deployment.queued": [],
  "deployment.started": [],
  "deployment.ended": ["succeeded", "failed", "canceled", "superseded", "rejected", "expired", "rollback"],
  "environment.frozen": [],
  "environment.resumed": [],
  "environment.mended": [],
  "environment.declared": [],
  "environment.stopped": [],
  "environment.removed": [],
  "teardown.started": [],
  "teardown.ended": ["succeeded", "failed", "canceled"],
  "variable.set": [],
  "variable.removed": [],
  "backing.declared": [],
  "backing.removed": [],
  "backing.drifted": [],
  "environment.driftFound": [],
  "environment.driftGone": [],
  "secret.set": [],
  "secret.removed": [],
  "infra.queued": [],
  "infra.started": [],
  "infra.planned": [],
  "infra.waiting": [],
  "infra.approved": [],
  "infra.cancelRequested": [],
  "infra.stopping": [],
  "infra.resource": [],
  "infra.ended": ["succeeded", "failed", "unknown", "superseded", "canceled"],
  "infra.driftFound": [],
  "infra.driftGone": [],
  "infra.driftIgnored": [],
  "infra.driftUnignored": [],
  "infra.codeDiffers": [],
  "infra.lockForced": [],
  "infra.stateRestored": [],
  "infra.recovered": [],
  "infra.repositoryCreated": [],
  "infra.repositoryRemoved": [],
  "run.started": [],
  "run.cancelRequested": [],
  "run.ended": ["succeeded", "failed", "canceled", "timed-out", "unknown"],
  "exec.started": [],
  "exec.ended": ["exited", "cut-off", "failed"],
  "notify.added": [],
  "notify.removed": [],
  "notify.failing": [],
  "notify.recovered": [],
  "token.created": [],
  "token.revoked": [],
};

/** What somebody has to act on: an hour without any of it needs no message. */
export const DEFAULT_SELECTORS: readonly string[] = [
  "infra.driftFound",
  "environment.driftFound",
  "infra.waiting",
  "deployment.waiting",
  "infra.ended:failed",
  "infra.ended:unknown",
  "deployment.ended:failed",
  "deployment.ended:rollback",
  "environment.frozen",
  "teardown.ended:failed",
  "backing.drifted",
];

const domains = () => [...new Set(Object.keys(KINDS).map((kind) => kind.slice(0, kind.indexOf("."))))];

/** All that can be written, wildcards left out. */
export function knownSelectors(): string[] {
  return Object.entries(KINDS).flatMap(([kind, outcomes]) => [kind, ...outcomes.map((one) => `${kind}:${one}`)]);
}

/**
 * Each is a kind (`infra.waiting`), a kind with an outcome (`deployment.ended:failed`), a domain (`infra.*`) or everything (`*`).
 * @throws REQUEST_INVALID naming the first that selects nothing
 */
export function checkSelectors(selectors: readonly string[]): void {
  const known = new Set(["*", ...domains().map((domain) => `${domain}.*`), ...knownSelectors()]);
  const wrong = selectors.find((one) => !known.has(one));
  if (wrong === undefined) return;
  const meant = didYouMean(wrong, [...known]);
  throw fail("REQUEST_INVALID", {
    message: `There is no event ${wrong}${meant === undefined ? "" : `: did you mean ${meant}?`}`,
    hint: "`shipway notify add --help` says how events are named; docs/operating.md lists them.",
  });
}

export function selects(selectors: readonly string[], { kind, data }: Pick<StoredEvent, "kind" | "data">): boolean {
  const domain = kind.slice(0, kind.indexOf("."));
  return selectors.some((one) => {
    const [wanted = "", outcome] = one.split(":");
    if (wanted !== "*" && wanted !== kind && wanted !== `${domain}.*`) return false;
    return outcome === undefined || outcomesOf(data).includes(outcome);
  });
}

/** A deployment that failed after traffic moved was rolled back by itself: both of its outcomes are true. */
function outcomesOf({ status, kind, rolledBack }: Record<string, unknown>): unknown[] {
  return [status, ...(kind === "rollback" || rolledBack === true ? ["rollback"] : [])];
}
