import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import type { Database } from "../store/open-store.ts";
import { splitAddress } from "./address.ts";
import { type Ignored, ignoreIn } from "./read-drift.ts";
import { lockEnvironment } from "./runs.ts";

export type IgnoredDrift = Ignored & { actor: string; until: Date | null; createdAt: Date };

/**
 * Keeps quiet about a resource, or about one attribute of it (`aws_ecs_service.web.desired_count`), until then. An apply still puts it back. What is known
 * already is told anew by it, at once. @throws REQUEST_INVALID for what names no resource
 */
export async function ignoreDrift(
  db: Database,
  place: Place,
  ignored: { what: string; reason: string; until: Date | null },
  actor: string,
): Promise<void> {
  const { address, path } = addressIn(ignored.what);
  const { reason, until } = ignored;
  await db.transaction().execute(async (tx) => {
    const { drift } = await lockEnvironment(tx, place);
    await tx
      .insertInto("infra_ignored")
      .values({ app: place.app, environment: place.environment, address, path, reason, actor, until })
      .onConflict((conflict) =>
        conflict.columns(["app", "environment", "address", "path"]).doUpdateSet({ reason, actor, until }),
      )
      .execute();
    if (drift) {
      const resources = ignoreIn(drift.resources, { address, path, reason });
      await tx
        .updateTable("infra_environments")
        .set({ drift: JSON.stringify({ ...drift, resources }) })
        .where("app", "=", place.app)
        .where("environment", "=", place.environment)
        .execute();
    }
    await appendEvent(tx, frame(place, actor), {
      kind: "infra.driftIgnored",
      data: { address, path, reason, until: until?.toISOString() ?? null },
    });
  });
}

/** Ends the quiet; the next check tells again. @throws REQUEST_INVALID, NOT_FOUND when it was not ignored */
export async function unignoreDrift(db: Database, place: Place, what: string, actor: string): Promise<void> {
  const { address, path } = addressIn(what);
  await db.transaction().execute(async (tx) => {
    const removed = await tx
      .deleteFrom("infra_ignored")
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .where("address", "=", address)
      .where("path", "=", path)
      .executeTakeFirst();
    if (removed.numDeletedRows === 0n) {
      throw fail("NOT_FOUND", {
        message: `Drift of ${what} in ${place.environment} is not ignored.`,
        hint: `See what is: \`shipway infra drift --ignored --app ${place.app} --env ${place.environment}\`.`,
      });
    }
    await appendEvent(tx, frame(place, actor), { kind: "infra.driftUnignored", data: { address, path } });
  });
}

/** What is ignored now, the oldest first; what has run out is not. */
export async function listIgnored(db: Database, place: Place, now: number): Promise<IgnoredDrift[]> {
  const rows = await db
    .selectFrom("infra_ignored")
    .selectAll()
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .orderBy("created_at")
    .execute();
  return rows
    .filter(({ until }) => until === null || until.getTime() > now)
    .map(({ address, path, reason, actor, until, created_at: createdAt }) => ({
      address,
      path,
      reason,
      actor,
      until,
      createdAt,
    }));
}

const frame = ({ app, environment }: Place, actor: string) => ({
  app,
  environment,
  subject: `environment:${environment}`,
  actor,
});

function addressIn(what: string): { address: string; path: string } {
  const found = splitAddress(what);
  if (found) return found;
  throw fail("REQUEST_INVALID", {
    message: `${what} names no resource.`,
    hint: "Write the address as `shipway infra drift` shows it, with an attribute or without: aws_ecs_service.web.desired_count.",
  });
}
