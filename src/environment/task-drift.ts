import { appendEvent } from "../events/event-stream.ts";
import type { Place } from "../rollout/release.ts";
import type { TaskDrift } from "../rollout/target.ts";
import type { Database } from "../store/open-store.ts";

/** What somebody has to see to: neither mended by itself nor taken over by the next deployment. */
const needsSomebody = ({ kind, mendsItself }: TaskDrift): boolean => kind !== "outdated" && !mendsItself;

/** What is in `now` and was not in `before`, so that somebody is told once and not every minute. A change that goes further is new. */
export function newTaskDrift(before: readonly TaskDrift[], now: readonly TaskDrift[]): TaskDrift[] {
  const known = new Set(before.map(keyOf));
  return now.filter((one) => needsSomebody(one) && !known.has(keyOf(one)));
}

/** By value: jsonb gives the keys of an object back in another order. */
const keyOf = ({ name, kind, attributes }: TaskDrift) =>
  JSON.stringify([name, kind, attributes.map(({ path, before, after }) => [path, before, after])]);

/** Keeps what was found, and says in the same transaction what is new of it, or that all of it is gone. */
export async function recordTaskDrift(db: Database, place: Place, found: readonly TaskDrift[]): Promise<void> {
  const now = found.filter(needsSomebody);
  await db.transaction().execute(async (tx) => {
    const stored = await tx
      .selectFrom("task_drift")
      .select("drift")
      .where("app", "=", place.app)
      .where("environment", "=", place.environment)
      .forUpdate()
      .executeTakeFirst();
    const before = stored?.drift ?? [];
    const drift = newTaskDrift(before, now);
    if (drift.length === 0 && now.length === before.length) return;
    await tx
      .insertInto("task_drift")
      .values({ ...place, drift: JSON.stringify(now) })
      .onConflict((conflict) => conflict.columns(["app", "environment"]).doUpdateSet({ drift: JSON.stringify(now) }))
      .execute();
    const frame = { ...place, subject: `environment:${place.environment}`, actor: "shipway" };
    if (drift.length > 0) await appendEvent(tx, frame, { kind: "environment.driftFound", data: { drift } });
    else if (now.length === 0) await appendEvent(tx, frame, { kind: "environment.driftGone", data: {} });
  });
}

export type Mended = { at: Date; text: string };

/** How much of what was mended is shown: a task that is killed every 15 s would fill the screen. */
const MOST_MENDED = 50;

/** What reconciliation put right since then, newest first. */
export async function listMended(db: Database, place: Place, since: Date): Promise<Mended[]> {
  const rows = await db
    .selectFrom("events")
    .select(["at", "data"])
    .where("app", "=", place.app)
    .where("environment", "=", place.environment)
    .where("kind", "=", "environment.mended")
    .where("at", ">", since)
    .orderBy("id", "desc")
    .limit(MOST_MENDED)
    .execute();
  return rows.flatMap(({ at, data: { text } }) => (typeof text === "string" ? [{ at, text }] : []));
}
