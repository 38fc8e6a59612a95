import { getEnvironment } from "../environment/environments.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database } from "../store/open-store.ts";
import { requestDeployment } from "./deployments.ts";
import type { RequestedByHand } from "./promotion.ts";
import { getRelease } from "./releases.ts";

/**
 * Asks for a rollback to `to`, or to the release that served well before the one that serves now. Nothing is built.
 * @throws RELEASE_NOT_FOUND, ENVIRONMENT_NOT_FOUND, RELEASE_NOT_RESTORABLE when there is nothing to go back to
 */
export async function requestRollback(
  db: Database,
  place: Place,
  to: number | undefined,
  actor: string,
): Promise<RequestedByHand> {
  const environment = await getEnvironment(db, place);
  const release = to ?? environment.standby_release ?? (await findPreviousGood(db, place, environment.live_release));
  if (release === undefined) {
    throw fail("RELEASE_NOT_RESTORABLE", {
      message: `${place.app} has no earlier release in ${place.environment} to go back to${environment.live_release === null ? "" : `: r${environment.live_release} is the first`}.`,
      hint: `See \`shipway releases --app ${place.app}\`, or push a fix.`,
    });
  }
  const { spec } = await getRelease(db, place.app, release);
  if (!Object.hasOwn(spec.environments, place.environment)) {
    throw fail("RELEASE_NOT_RESTORABLE", {
      message: `r${release} of ${place.app} knows no environment ${place.environment}: it declares ${Object.keys(spec.environments).join(", ")}.`,
      hint: `Name another release with --to rN; \`shipway releases --app ${place.app}\` lists them.`,
    });
  }
  if (release === environment.live_release) {
    throw fail("RELEASE_NOT_RESTORABLE", {
      message: `r${release} of ${place.app} serves in ${place.environment} already.`,
      hint: "Name another release with --to rN.",
    });
  }
  const deliveryId = newId("r");
  const { id, start } = await db
    .transaction()
    .execute((tx) => requestDeployment(tx, { ...place, release, kind: "rollback", actor, deliveryId }));
  return { deliveryId, deploymentId: id, start };
}

/** The release of the newest successful deployment before the one that serves now. */
async function findPreviousGood(db: Database, place: Place, live: number | null): Promise<number | undefined> {
  let query = db
    .selectFrom("deployments")
    .select("release")
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("status", "=", "succeeded")
    .orderBy("ended_at", "desc");
  if (live !== null) query = query.where("release", "!=", live);
  return (await query.executeTakeFirst())?.release;
}
