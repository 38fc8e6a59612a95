/** Waits `ms`, or until `signal` aborts (then it rejects with the signal's reason). */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Asks `probe` again and again until it gives something other than `undefined` or `false`, at most `withinMs`.
 * @throws an Error naming `what` and the last error seen when the time is over.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { withinMs?: number; everyMs?: number; signal?: AbortSignal } = {},
): Promise<T> {
  const { withinMs = 30_000, everyMs = 50, signal } = options;
  const endsAt = Date.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= endsAt) {
      throw new Error(`${what} did not happen within ${withinMs} ms${last === undefined ? "" : `: ${String(last)}`}`, {
        cause: last,
      });
    }
    await sleep(everyMs, signal);
  }
}
