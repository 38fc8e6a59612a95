import type { LogSink } from "../../shared/log-line.ts";

type Shared<T> = { result: Promise<T>; sinks: Set<LogSink>; controller: AbortController };

/**
 * Lets callers who ask for the same `key` at the same time share one run: its lines go to all of them, and it is stopped when the last of them has gone away.
 * A caller whose signal aborts is rejected with the signal's reason at once, the others go on.
 */
export function shareInFlight<T>() {
  const running = new Map<string, Shared<T>>();

  const begin = (key: string, run: (log: LogSink, signal: AbortSignal) => Promise<T>): Shared<T> => {
    const sinks = new Set<LogSink>();
    const controller = new AbortController();
    const toAll: LogSink = (lines) => {
      for (const sink of sinks) sink(lines);
    };
    // Begins a tick later, when the first caller listens: no line is lost.
    const begun = Promise.resolve().then(() => run(toAll, controller.signal));
    const result = begun.finally(() => {
      if (running.get(key)?.controller === controller) running.delete(key);
    });
    // Everybody may have gone away by the time it fails.
    result.catch(() => {});
    return { result, sinks, controller };
  };

  return async (
    key: string,
    log: LogSink,
    signal: AbortSignal | undefined,
    run: (log: LogSink, signal: AbortSignal) => Promise<T>,
  ): Promise<T> => {
    signal?.throwIfAborted();
    const shared = running.get(key) ?? begin(key, run);
    running.set(key, shared);
    // A sink of its own per caller: two callers may hand in the same function.
    const sink: LogSink = (lines) => log(lines);
    shared.sinks.add(sink);
    const leave = () => {
      shared.sinks.delete(sink);
      if (shared.sinks.size > 0) return;
      // Nobody may join a run that is being stopped.
      if (running.get(key) === shared) running.delete(key);
      shared.controller.abort(signal?.reason);
    };
    try {
      return await orAborted(shared.result, signal);
    } finally {
      leave();
    }
  };
}

function orAborted<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return result;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    result.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
