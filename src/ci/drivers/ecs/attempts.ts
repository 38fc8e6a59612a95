import { z } from "zod";
import type { Bucket } from "../../../aws/bucket.ts";
import type { Keys } from "./names.ts";

/** One task for a step. A second one is begun only where nothing of the user's ran in the first. */
const Attempt = z.object({
  number: z.number(),
  begunAt: z.number(),
  /** Keeps this step's markers apart from what its script prints. */
  nonce: z.string(),
  /** How many lines of the step were logged before those that the task prints. */
  linesBefore: z.number(),
  taskDefinition: z.string(),
  /** For which RunTask gives the same task again. */
  token: z.string(),
  /** The same token is good for the same request only. */
  orderAddress: z.string(),
  /** Where the caches that are missing are to be kept, by name. */
  cacheObjects: z.record(z.string(), z.string()),
});
export type Attempt = z.infer<typeof Attempt>;

export type Attempts = {
  /** The last one that was begun, unless it is known that nothing ran in it; and how many came before the next. */
  find(): Promise<{ attempt?: Attempt; arn?: string; before: number }>;
  /** Written before its task is started. @returns what is there: an earlier life may have been here just now */
  begin(attempt: Attempt): Promise<Attempt>;
  started(attempt: Attempt, arn: string): Promise<void>;
  /** Nothing ran in it, and nothing will. */
  giveUp(attempt: Attempt, why: string): Promise<void>;
};

/** The journal of a step: objects that are written once. So it is known after any crash what may have been started. */
export function newAttempts(bucket: Bucket, keys: Keys, runId: string, stepId: string): Attempts {
  const prefix = keys.step(runId, stepId);
  const keyOf = (number: number, part: "begun" | "task" | "over") => `${prefix}attempt-${number}.${part}`;
  return {
    async find() {
      const names = (await bucket.list(`${prefix}attempt-`)).map(({ key }) => key);
      const numbers = names.flatMap((name) => /attempt-(\d+)\.begun$/.exec(name)?.[1] ?? []).map(Number);
      const last = Math.max(0, ...numbers);
      if (last === 0 || names.includes(keyOf(last, "over"))) return { before: last };
      const text = await bucket.get(keyOf(last, "begun"));
      if (text === undefined) return { before: last };
      const arn = names.includes(keyOf(last, "task")) ? await bucket.get(keyOf(last, "task")) : undefined;
      return { attempt: parseAttempt(text), ...(arn !== undefined && { arn }), before: last - 1 };
    },
    begin: async (attempt) =>
      parseAttempt(await bucket.putNew(keyOf(attempt.number, "begun"), JSON.stringify(attempt))),
    started: async (attempt, arn) => bucket.put(keyOf(attempt.number, "task"), arn),
    giveUp: async (attempt, why) => bucket.put(keyOf(attempt.number, "over"), why),
  };
}

const parseAttempt = (text: string): Attempt => Attempt.parse(JSON.parse(text));
