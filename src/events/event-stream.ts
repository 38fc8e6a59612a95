import { EventEmitter } from "node:events";
import { sql } from "kysely";
import { whenNext } from "../shared/when-next.ts";
import type { Database, Store } from "../store/open-store.ts";
import type { PlatformEvent, StoredEvent } from "./event.ts";

const CHANNEL = "shipway_events";
/** A page of a reader that catches up. */
const PAGE = 500;
/** Readers look again this often even without a NOTIFY, in case one was lost. */
const RECHECK_MS = 5_000;

export type EventFrame = {
  app: string | null;
  environment?: string | null;
  subject: string;
  deliveryId?: string | null;
  actor: string;
};
/** A stage's own event, stored as `DOMAIN.TYPE`. */
export type StageEvent = { kind: `ci.${string}` | `image.${string}` | `rollout.${string}`; data: object };

/**
 * Writes an event in the caller's transaction, or in one of its own; readers see it when that commits.
 * Ids follow the order of commits, so a reader that knows the last id misses nothing.
 */
export async function appendEvent(db: Database, frame: EventFrame, event: PlatformEvent | StageEvent): Promise<void> {
  const { app, environment = null, subject, deliveryId = null, actor } = frame;
  // Without the lock two transactions could commit in the other order than they took their ids, and a reader between them would
  // skip one. `offset 0` keeps it a step of its own, before the id is drawn. One statement: there are twenty events in a deployment.
  await sql`
    insert into events (app, environment, subject, delivery_id, kind, actor, data)
    select ${app}, ${environment}, ${subject}, ${deliveryId}, ${event.kind}, ${actor}, ${JSON.stringify(event.data)}::jsonb
    from (select pg_advisory_xact_lock(hashtext(${CHANNEL})) offset 0) as locked
    returning pg_notify(${CHANNEL}, '')
  `.execute(db);
}

export type EventFilter = { after?: number; app?: string | undefined; deliveryId?: string | undefined; limit?: number };

export async function readEvents(db: Database, filter: EventFilter): Promise<StoredEvent[]> {
  let query = db
    .selectFrom("events")
    .selectAll()
    .orderBy("id")
    .limit(filter.limit ?? PAGE);
  if (filter.after !== undefined) query = query.where("id", ">", String(filter.after));
  if (filter.app !== undefined) query = query.where("app", "=", filter.app);
  if (filter.deliveryId !== undefined) query = query.where("delivery_id", "=", filter.deliveryId);
  return (await query.execute()).map((row) => ({
    id: Number(row.id),
    at: row.at.toISOString(),
    app: row.app,
    environment: row.environment,
    subject: row.subject,
    deliveryId: row.delivery_id,
    kind: row.kind,
    actor: row.actor,
    data: row.data,
  }));
}

/** The id of the newest event, 0 when there is none. */
export async function lastEventId(db: Database): Promise<number> {
  const row = await db
    .selectFrom("events")
    .select((eb) => eb.fn.max("id").as("id"))
    .executeTakeFirst();
  return Number(row?.id ?? 0);
}

/** The live end of the stream, one listener for all readers of this process. */
export type EventStream = {
  /** Every event after `filter.after` that matches, past and future, in order, until the signal aborts. */
  follow(filter: EventFilter & { after: number }, signal: AbortSignal): AsyncGenerator<StoredEvent, void, void>;
  /** Resolves when an event was written, after `withinMs` or when the signal aborts; for readers that keep their own place. Take it before you read. */
  nextRing(options: { withinMs: number; signal: AbortSignal }): { promise: Promise<void>; release(): void };
  close(): Promise<void>;
};

export async function openEventStream(store: Store): Promise<EventStream> {
  const bell = new EventEmitter().setMaxListeners(0);
  const listener = await store.listen(CHANNEL, () => bell.emit("ring"));

  async function* follow(filter: EventFilter & { after: number }, signal: AbortSignal) {
    let after = filter.after;
    while (!signal.aborted) {
      // Wait for the ring before reading: one that comes while we read must not be lost.
      const ring = whenNext(bell, "ring", { withinMs: RECHECK_MS, signal });
      try {
        const events = await readEvents(store.db, { ...filter, after });
        for (const event of events) {
          after = event.id;
          yield event;
        }
        if (events.length === 0) await ring.promise;
      } finally {
        ring.release();
      }
    }
  }

  return { follow, nextRing: (options) => whenNext(bell, "ring", options), close: () => listener.close() };
}
