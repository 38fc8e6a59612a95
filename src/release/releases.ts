import type { Selectable } from "kysely";
import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import type { Change } from "../source/change.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import type { Database } from "../store/open-store.ts";
import type { RecordedImage, ReleasesTable } from "../store/schema.ts";
import type { ReleaseRecord } from "./resolve-release.ts";

/** Releases an app keeps images for, beside those that run somewhere (DESIGN, section 5). */
export const KEPT_RELEASES = 10;

/** Records what was built for a change, once: a repeated call returns the release that is there. */
export async function recordRelease(
  db: Database,
  change: Change & { author: string },
  spec: AppSpec,
  images: RecordedImage[],
): Promise<number> {
  return db.transaction().execute(async (tx) => {
    const app = await tx
      .selectFrom("apps")
      .select("next_release")
      .where("name", "=", change.app)
      .forUpdate()
      .executeTakeFirstOrThrow();
    const found = await findReleaseOf(tx, change.app, change.id);
    if (found !== undefined) return found;
    const number = app.next_release;
    await tx
      .updateTable("apps")
      .set({ next_release: number + 1 })
      .where("name", "=", change.app)
      .execute();
    await tx
      .insertInto("releases")
      .values({
        app: change.app,
        number,
        change_id: change.id,
        commit: change.commit,
        ref_name: change.refName,
        subject: change.subject,
        author: change.author,
        spec: JSON.stringify(spec),
        images: JSON.stringify(images),
      })
      .execute();
    const frame = { app: change.app, subject: `release:${number}`, deliveryId: change.id, actor: change.actor };
    await appendEvent(tx, frame, {
      kind: "release.recorded",
      data: { release: number, commit: change.commit, images },
    });
    return number;
  });
}

export async function findRelease(db: Database, app: string, number: number): Promise<ReleaseRecord | undefined> {
  const row = await db
    .selectFrom("releases")
    .selectAll()
    .where("app", "=", app)
    .where("number", "=", number)
    .executeTakeFirst();
  return row && toRecord(row);
}

/** @throws RELEASE_NOT_FOUND */
export async function getRelease(db: Database, app: string, number: number): Promise<ReleaseRecord> {
  const found = await findRelease(db, app, number);
  if (found) return found;
  throw fail("RELEASE_NOT_FOUND", {
    message: `App ${app} has no release r${number}.`,
    hint: `List the releases you can return to with \`shipway releases --app ${app}\`.`,
  });
}

/** The release of a change, where it has one. */
export async function findReleaseOf(db: Database, app: string, changeId: string): Promise<number | undefined> {
  const row = await db
    .selectFrom("releases")
    .select("number")
    .where("app", "=", app)
    .where("change_id", "=", changeId)
    .executeTakeFirst();
  return row?.number;
}

export async function listReleases(db: Database, app: string, limit: number): Promise<ReleaseRecord[]> {
  const rows = await db
    .selectFrom("releases")
    .selectAll()
    .where("app", "=", app)
    .orderBy("number", "desc")
    .limit(limit)
    .execute();
  return rows.map(toRecord);
}

/** Names of images that must stay: those of every release that is kept. */
export async function imagesToKeep(db: Database, app: string): Promise<string[]> {
  return (await keptReleases(db, app)).flatMap(({ images }) => images.map((image) => image.name));
}

/** The newest releases, and every one that runs, stands by, is being deployed, waits for its approval or is what a deployment would go back to. */
export async function keptReleases(db: Database, app: string): Promise<{ number: number; images: RecordedImage[] }[]> {
  const environments = await db.selectFrom("environments").selectAll().where("app", "=", app).execute();
  const deployments = await db
    .selectFrom("deployments")
    .select(["release", "from_release"])
    .where("app", "=", app)
    .where("status", "in", ["waiting", "queued", "running"])
    .execute();
  const pinned = new Set([
    ...environments.flatMap((row) => [row.live_release, row.standby_release, row.stopped_release]),
    ...deployments.flatMap((row) => [row.release, row.from_release]),
  ]);
  const rows = await db
    .selectFrom("releases")
    .select(["number", "images"])
    .where("app", "=", app)
    .orderBy("number", "desc")
    .execute();
  return rows.filter((row, index) => index < KEPT_RELEASES || pinned.has(row.number));
}

function toRecord(row: Selectable<ReleasesTable>): ReleaseRecord {
  return {
    app: row.app,
    number: row.number,
    commit: row.commit,
    refName: row.ref_name,
    subject: row.subject,
    author: row.author,
    createdAt: row.created_at,
    spec: row.spec,
    images: row.images,
  };
}
