import { parseLockInfo } from "./foreign-state.ts";
import type { StateLock } from "./infra-run.ts";
import { SHOWN_ERRORS } from "./run-terraform.ts";
import { describeDiagnostic, type StreamEvent } from "./terraform-stream.ts";

export const isLockError = (event: StreamEvent) =>
  event.type === "diagnostic" && /acquiring the state lock/.test(event.diagnostic.summary);

/** Whom Terraform names as the holder of a lock that it could not take. */
export const holderIn = (events: readonly StreamEvent[]): StateLock | undefined =>
  events.flatMap((event) => {
    const found =
      event.type === "diagnostic" && isLockError(event) ? parseLockInfo(event.diagnostic.detail) : undefined;
    return found === undefined ? [] : [found];
  })[0];

export const errorsIn = (events: readonly StreamEvent[]) =>
  events.flatMap((event) =>
    event.type === "diagnostic" && event.diagnostic.severity === "error" ? [event.diagnostic] : [],
  );

export function describeErrors(events: readonly StreamEvent[], mask: (text: string) => string): string {
  const errors = errorsIn(events).map(describeDiagnostic);
  const more = errors.length > SHOWN_ERRORS ? [`… and ${errors.length - SHOWN_ERRORS} more`] : [];
  return mask([...errors.slice(0, SHOWN_ERRORS), ...more].join("\n"));
}
