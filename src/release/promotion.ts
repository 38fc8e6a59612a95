import { declaredEnvironments } from "../environment/environments.ts";
import type { Place } from "../rollout/release.ts";
import { newId } from "../shared/new-id.ts";
import { resolveEnvironment, withEnvironments } from "../spec/resolve-environment.ts";
import type { Database } from "../store/open-store.ts";
import { requestDeployment } from "./deployments.ts";
import { getRelease } from "./releases.ts";

/** A deployment that was asked for by hand. `start` must be handed to the workflow engine. */
export type RequestedByHand = { deliveryId: string; deploymentId: string; start: string | undefined };

/**
 * Asks for an existing release in an environment: the same images, nothing is built.
 * @throws RELEASE_NOT_FOUND, ENVIRONMENT_NOT_FOUND when neither the release nor the API declares the environment
 */
export async function requestPromotion(
  db: Database,
  place: Place,
  release: number,
  actor: string,
): Promise<RequestedByHand> {
  const { spec } = await getRelease(db, place.app, release);
  resolveEnvironment(withEnvironments(spec, await declaredEnvironments(db, place.app)), place.environment);
  const deliveryId = newId("r");
  const { id, start } = await db
    .transaction()
    .execute((tx) => requestDeployment(tx, { ...place, release, kind: "deploy", actor, deliveryId }));
  return { deliveryId, deploymentId: id, start };
}
