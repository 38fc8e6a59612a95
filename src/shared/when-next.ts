import type { EventEmitter } from "node:events";

/**
 * Resolves at the next event `name`, when `signal` aborts or after `withinMs`, whichever comes first; it never rejects.
 * `release` gives up waiting. Not `events.once` with `AbortSignal.any`: on Node 20 a long-lived signal keeps every signal ever derived from it.
 */
export function whenNext(
  emitter: EventEmitter,
  name: string,
  { withinMs, signal }: { withinMs: number; signal: AbortSignal },
): { promise: Promise<void>; release(): void } {
  let release = () => {};
  const promise = new Promise<void>((resolve) => {
    const settle = () => {
      clearTimeout(timer);
      emitter.off(name, settle);
      signal.removeEventListener("abort", settle);
      resolve();
    };
    const timer = setTimeout(settle, withinMs);
    emitter.on(name, settle);
    signal.addEventListener("abort", settle);
    release = settle;
    if (signal.aborted) settle();
  });
  return { promise, release: () => release() };
}
