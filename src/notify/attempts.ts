import type { Answer } from "./send.ts";

/** With the delays below about half an hour in all: longer than a restart or a deployment of the receiver takes. */
export const MOST_ATTEMPTS = 8;
const FIRST_DELAY_MS = 2_000;
const LONGEST_DELAY_MS = 600_000;
/** A refusal that says "later" rather than "never": too early, too busy, a conflict that passes. */
const WORTH_TRYING = new Set([408, 409, 425, 429]);

export type Attempt = { answer: Answer } | { noAnswer: string };
export type Judged = { is: "delivered" } | { is: "failed" } | { is: "again"; inMs: number };

/** What follows from attempt number `attempts` (from 1). `random` is in [0, 1): hooks that failed together do not come back together. */
export function judgeAttempt(attempt: Attempt, attempts: number, random: number): Judged {
  const status = "answer" in attempt ? attempt.answer.status : undefined;
  if (status !== undefined && status >= 200 && status < 300) return { is: "delivered" };
  const isFinal = status !== undefined && status >= 300 && status < 500 && !WORTH_TRYING.has(status);
  if (isFinal || attempts >= MOST_ATTEMPTS) return { is: "failed" };
  const delayMs = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 4 ** (attempts - 1)) * (0.75 + random / 2);
  const askedMs = "answer" in attempt ? (attempt.answer.retryAfterMs ?? 0) : 0;
  return { is: "again", inMs: Math.max(Math.round(delayMs), Math.min(askedMs, LONGEST_DELAY_MS)) };
}
