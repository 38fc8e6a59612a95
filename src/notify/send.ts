/** One HTTP POST. `text` of the answer is its beginning, at most `KEPT_BYTES`. */
export type Outgoing = { url: string; headers: Record<string, string>; body: string };
export type Answer = { status: number; text: string; retryAfterMs?: number };

/**
 * Posts once and gives the answer, whatever its status; redirects are an answer too and are not followed. Rejects where there was none, with a
 * message that does not hold the URL: it may be a secret.
 */
export type Send = (request: Outgoing, signal: AbortSignal) => Promise<Answer>;

export const KEPT_BYTES = 2_048;
