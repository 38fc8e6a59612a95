import type { PlannedChange } from "./infra-run.ts";
import type { StreamEvent } from "./terraform-stream.ts";

/** What a running Terraform would lose by being killed: nothing, its lock, or what it made since it last saved the state. */
export type AtStake = "nothing" | "lock" | "objects";

export type StopFacts = {
  atStake: AtStake;
  /** When somebody asked to stop it, and to stop it at once. Milliseconds, as all times here. */
  requestedAt: number | undefined;
  forcedAt: number | undefined;
  /** Written before the first interrupt is sent: it may have been sent. */
  interruptedAt: number | undefined;
  /** Since when this life of Shipway follows the process. */
  watchedSince: number;
  /** What Terraform has written so far. */
  events: readonly StreamEvent[];
  now: number;
};

export type StopStep = "wait" | "interrupt" | "interrupt again" | "kill";

/** A plan that was interrupted has nothing to finish. */
const PLAN_ENDS_WITHIN_MS = 10_000;
/** The second interrupt ends Terraform in some 10 ms (measured with 1.11); one that is still there does not listen. */
const FORCED_ENDS_WITHIN_MS = 10_000;
/** Terraform says that it was interrupted the moment it is. One that has not by then was not: we were killed before we sent it. */
export const SAYS_SO_WITHIN_MS = 3_000;

/**
 * What to do next so that a run stops. Terraform takes a second interrupt for "stop at once", and loses what it is making: the first one is sent
 * exactly once, also by a Shipway that was killed around it. What Terraform has said about it counts for more than what we noted.
 */
export function nextStop(facts: StopFacts): StopStep {
  const { atStake, requestedAt, forcedAt, now } = facts;
  if (requestedAt === undefined) return "wait";
  if (atStake === "nothing") return "kill";
  const patience = atStake === "lock" ? requestedAt + PLAN_ENDS_WITHIN_MS : (forcedAt ?? now) + FORCED_ENDS_WITHIN_MS;
  if (now >= patience) return "kill";
  const said = facts.events.some(({ type }) => type === "interrupted");
  if (said) return forcedAt === undefined || hasSaidForced(facts) ? "wait" : "interrupt again";
  return wantsFirst(facts) ? "interrupt" : "wait";
}

const hasSaidForced = ({ events }: StopFacts) => events.some(({ type }) => type === "forced");

function wantsFirst({ interruptedAt, watchedSince, events, now }: StopFacts): boolean {
  // Before its first line it may not listen yet, and would die of it.
  if (events.length === 0) return false;
  if (interruptedAt === undefined) return true;
  if (interruptedAt >= watchedSince) return false;
  // One that was sent while it got ready is kept until it works: only then does its silence say something.
  return events.length > 1 && now - watchedSince >= SAYS_SO_WITHIN_MS;
}

export type InFlight = { address: string; action: string; seconds: number };

/** What Terraform is at, the longest first. */
export function inFlight(events: readonly StreamEvent[], now: number): InFlight[] {
  const at = new Map<string, InFlight>();
  for (const event of events) {
    if (event.type === "started") {
      const seconds = event.at === undefined ? 0 : Math.max(0, Math.round((now - event.at) / 1_000));
      at.set(event.address, { address: event.address, action: event.action, seconds });
    }
    if (event.type === "done" || event.type === "failed") at.delete(event.address);
  }
  return [...at.values()].sort((left, right) => right.seconds - left.seconds);
}

const SHOWN = 5;

/** How far an apply came that was stopped, in words. */
export function describeStopped(changes: readonly PlannedChange[], events: readonly StreamEvent[]): string {
  const last = new Map<string, { type: string; action: string }>();
  for (const event of events)
    if (event.type === "started" || event.type === "done" || event.type === "failed") last.set(event.address, event);
  const work = changes.filter(({ action }) => action !== "move" && action !== "read");
  const of = (...types: (string | undefined)[]) =>
    work
      .filter(({ address, action }) => types.includes(stageOf(last.get(address), action)))
      .map(({ address }) => address);
  const done = of("done");
  const parts = [
    `done and in the state: ${listed(done)} (${done.length} of ${work.length})`,
    ...named("destroyed, and not made anew", of("half")),
    ...named("cut off", of("failed", "started")),
    ...named("not begun", of(undefined)),
  ];
  return parts.join("; ");
}

/** Terraform tells the two halves of a replacement one by one. */
function stageOf(last: { type: string; action: string } | undefined, planned: string): string | undefined {
  return last?.type === "done" && planned === "replace" && last.action === "delete" ? "half" : last?.type;
}

const named = (what: string, addresses: string[]) => (addresses.length === 0 ? [] : [`${what}: ${listed(addresses)}`]);

function listed(addresses: readonly string[]): string {
  if (addresses.length === 0) return "nothing";
  const more = addresses.length - SHOWN;
  return `${addresses.slice(0, SHOWN).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
