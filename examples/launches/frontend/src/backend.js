/**
 * @typedef {{ status: number, body: any, retryAfter: string | null, stale: boolean }} Answer
 * @typedef {ReturnType<typeof connectBackend>} Backend
 */

/** The backend could not be asked, twice. */
export class BackendAway extends Error {}

/**
 * The backend as the pages see it. Each question is asked a second time when no good answer came, which is safe: reads
 * change nothing, and an entry carries a key that makes its repetition return the first ticket. A read that still
 * fails is answered from memory for up to five minutes, marked `stale`; for the second after a failure memory answers
 * at once, so that a backend that hangs does not make every visitor wait for it in turn.
 * @param {{ url: string, timeoutMs?: number, pauseMs?: number, edgeKey?: string, now?: () => number }} options
 */
export function connectBackend({ url, timeoutMs = 2_000, pauseMs = 150, edgeKey, now = Date.now }) {
  const remembered = new Map();
  let failedAt = Number.NEGATIVE_INFINITY;
  const STALE_MS = 300_000;
  const MOST_REMEMBERED = 200;

  /** @returns {Promise<Answer>} */
  async function ask(path, init = {}) {
    try {
      return await askOnce(path, init);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      return askOnce(path, init);
    }
  }

  async function askOnce(path, init) {
    const response = await fetch(url + path, { ...init, signal: AbortSignal.timeout(timeoutMs) });
    const body = await response.json();
    if (response.status >= 500) throw new BackendAway(`The backend answered ${response.status}.`);
    return { status: response.status, body, retryAfter: response.headers.get("retry-after"), stale: false };
  }

  function remember(path, answer) {
    remembered.delete(path);
    if (remembered.size >= MOST_REMEMBERED) remembered.delete(remembered.keys().next().value);
    remembered.set(path, { answer, at: now() });
  }

  return {
    /** @throws BackendAway */
    async get(path) {
      const known = remembered.get(path);
      const usable = known && now() - known.at < STALE_MS;
      if (usable && now() - failedAt < 1_000) return { ...known.answer, stale: true };
      try {
        const answer = await ask(path);
        if (answer.status === 200) remember(path, answer);
        return answer;
      } catch (cause) {
        failedAt = now();
        if (usable) return { ...known.answer, stale: true };
        throw new BackendAway("The backend does not answer.", { cause });
      }
    },

    /**
     * @param {string} slug
     * @param {{ email: string, size: string, requestKey: string }} entry
     * @param {string} clientAddress
     * @throws BackendAway
     */
    async enter(slug, entry, clientAddress) {
      const headers = { "content-type": "application/json", "x-client-address": clientAddress };
      if (edgeKey) headers["x-edge-key"] = edgeKey;
      try {
        return await ask(`/launches/${slug}/entries`, { method: "POST", headers, body: JSON.stringify(entry) });
      } catch (cause) {
        throw new BackendAway("The backend does not answer.", { cause });
      }
    },
  };
}
