import { getEnvironment } from "../environment/environments.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database } from "../store/open-store.ts";
import { type Deployment, requestDeployment } from "./deployments.ts";
import { findRule } from "./gate.ts";
import type { RequestedByHand } from "./promotion.ts";
import { getRelease } from "./releases.ts";

/**
 * Asks for a rollback to `to`, or to the release that served well before the one that serves now. Nothing is built.
 * @throws RELEASE_NOT_FOUND, ENVIRONMENT_NOT_FOUND, RELEASE_NOT_RESTORABLE when there is nothing to go back to, or when it never served where releases need an approval
 */
export async function requestRollback(
  db: Database,
  place: Place,
  to: number | undefined,
  actor: string,
): Promise<RequestedByHand> {
  const environment = await getEnvironment(db, place);
  const release = to ?? previousGood(await succeeded(db, place), environment.live_release);
  if (release === undefined) {
    throw fail("RELEASE_NOT_RESTORABLE", {
      message: `${place.app} has no earlier release in ${place.environment} to go back to${environment.live_release === null ? "" : `: r${environment.live_release} is the first`}.`,
      hint: `See \`shipway releases --app ${place.app}\`, or push a fix.`,
    });
  }
  const { spec } = await getRelease(db, place.app, release);
  if (!environment.declared && !Object.hasOwn(spec.environments, place.environment)) {
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
  await refuseUnproved(db, place, release);
  const deliveryId = newId("r");
  const { id, start } = await db
    .transaction()
    .execute((tx) => requestDeployment(tx, { ...place, release, kind: "rollback", actor, deliveryId }));
  return { deliveryId, deploymentId: id, start };
}

/** A rollback waits for nobody, so where releases need an approval it leads only to what served there: else it would lead around the approval. */
async function refuseUnproved(db: Database, place: Place, release: number): Promise<void> {
  if ((await findRule(db, place, release)) === undefined) return;
  const served = await db
    .selectFrom("deployments")
    .select("id")
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("release", "=", release)
    .where("status", "=", "succeeded")
    .executeTakeFirst();
  if (served) return;
  throw fail("RELEASE_NOT_RESTORABLE", {
    message: `r${release} of ${place.app} never served in ${place.environment}, where releases need an approval: a rollback goes back to one that did.`,
    hint: `Deploy it and have it approved: \`shipway deploy --app ${place.app} --env ${place.environment} --release r${release}\`.`,
  });
}

type Succeeded = Pick<Deployment, "kind" | "release">;

/**
 * The release that served well before the one that serves now; `history` is what succeeded, oldest first. A rollback undoes what came after its
 * release, so that the next one goes further back and never forward again to what was just left. Pure.
 */
export function previousGood(history: readonly Succeeded[], live: number | null): number | undefined {
  let served: number[] = [];
  for (const { kind, release } of history) {
    const before = kind === "rollback" ? served.lastIndexOf(release) : -1;
    if (before >= 0) served = served.slice(0, before + 1);
    else if (served.at(-1) !== release) served.push(release);
  }
  return served.at(-1) === live ? served.at(-2) : served.at(-1);
}

/** Far more than releases are kept for. */
const HISTORY = 200;

async function succeeded(db: Database, place: Place): Promise<Succeeded[]> {
  const rows = await db
    .selectFrom("deployments")
    .select(["kind", "release"])
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("status", "=", "succeeded")
    .orderBy("ended_at", "desc")
    .limit(HISTORY)
    .execute();
  return rows.reverse();
}
