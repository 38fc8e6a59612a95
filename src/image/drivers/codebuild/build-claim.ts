import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Bucket } from "../../../aws/bucket.ts";
import type { ImagePlan } from "../../builder.ts";
import { contentHash } from "./build-job.ts";

/**
 * One build of an image, from the moment that somebody wants it until its outcome is told. Whoever wants the same image meanwhile, or again after Shipway was killed, finds it and
 * follows that build. `token` is the build's idempotency token and stands in its environment.
 */
const Claim = z.strictObject({ token: z.string(), at: z.number(), build: z.string().optional() });
export type Claim = z.infer<typeof Claim>;

export function newClaims(bucket: Bucket, install: string, now: () => number) {
  const keyOf = (plan: ImagePlan) =>
    `shipway/images/${install}/claims/${plan.app}/${plan.service}/${contentHash(plan)}.json`;
  return {
    /** Whether somebody wants the image, or wanted it and never heard what became of it. */
    isTaken: async (plan: ImagePlan): Promise<boolean> => (await bucket.find(keyOf(plan))) !== undefined,
    /** Makes the claim, or finds the one that is there. */
    async take(plan: ImagePlan): Promise<{ claim: Claim; isNew: boolean }> {
      const mine: Claim = { token: randomUUID(), at: now() };
      const claim = Claim.parse(JSON.parse(await bucket.putNew(keyOf(plan), JSON.stringify(mine))));
      return { claim, isNew: claim.token === mine.token };
    },
    /** So that the build is found without looking through all of the project's. */
    record: (plan: ImagePlan, claim: Claim) => bucket.put(keyOf(plan), JSON.stringify(claim)),
    /**
     * The outcome was told, or there is none to come. Two who find an old claim at the same time may both begin anew: the registry's tag, which cannot be moved, then
     * decides between their images.
     */
    forget: (plan: ImagePlan) => bucket.remove([keyOf(plan)]),
  };
}
