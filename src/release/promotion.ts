import { declaredEnvironments } from "../environment/environments.ts";
import type { Place } from "../rollout/release.ts";
import { newId } from "../shared/new-id.ts";
import { resolveEnvironment, withEnvironments } from "../spec/resolve-environment.ts";
import { requestDeployments } from "./deployments.ts";
import { getRelease } from "./releases.ts";
import { findReview, type ReviewDeps } from "./review.ts";

/** A deployment that was asked for by hand. `start` must be handed to the workflow engine. */
export type RequestedByHand = { deliveryId: string; deploymentId: string; start: string | undefined };

/**
 * Asks for an existing release in an environment: the same images, nothing is built. Where releases need an approval there, this one waits for it.
 * @throws RELEASE_NOT_FOUND, ENVIRONMENT_NOT_FOUND when neither the release nor the API declares the environment
 */
export async function requestPromotion(
  deps: ReviewDeps,
  place: Place,
  release: number,
  actor: string,
): Promise<RequestedByHand> {
  const { db } = deps;
  const { spec } = await getRelease(db, place.app, release);
  resolveEnvironment(withEnvironments(spec, await declaredEnvironments(db, place.app)), place.environment);
  const deliveryId = newId("r");
  const request = { environment: place.environment, release, kind: "deploy" as const };
  const review = await findReview(deps, place, release);
  const [asked] = await db
    .transaction()
    .execute((tx) => requestDeployments(tx, { app: place.app, deliveryId, actor }, [{ ...request, ...review }]));
  if (asked === undefined) throw new Error(`no deployment of r${release} was made`);
  return { deliveryId, deploymentId: asked.id, start: asked.start };
}
