import type { Sealer } from "../environment/sealing.ts";
import type { StoredEvent } from "../events/event.ts";
import { appendEvent, readEvents } from "../events/event-stream.ts";
import { newId } from "../shared/new-id.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { type Attempt, type Judged, judgeAttempt } from "./attempts.ts";
import { type Hook, type NotifyDelivery, openHook } from "./hooks.ts";
import { renderBody, tellOf } from "./render.ts";
import { selects } from "./selectors.ts";
import { KEPT_BYTES, type Send } from "./send.ts";
import { signatureOf } from "./sign.ts";

export type NotifyDeps = {
  db: Database;
  sealer: Sealer;
  send: Send;
  /** What links of messages begin with. */
  apiUrl: string;
  now(): number;
  /** In [0, 1). */
  random(): number;
};

/** How many events are looked through at a time. */
const PAGE = 200;
/** Events that nobody is told of move the stored cursor only now and then: there are twenty in a deployment. */
const SAVE_CURSOR_EVERY = 500;
const KEPT_DAYS = 30;
const DAY_MS = 86_400_000;

/**
 * `more`: look again. `idle`: nothing to tell up to `position`. `wait`: not before `untilMs`.
 * `gone`: the hook was removed, or another process told its receiver and has moved on.
 */
export type Turn =
  | { is: "more"; position: number }
  | { is: "idle"; position: number }
  | { is: "wait"; untilMs: number; position: number }
  | { is: "gone" };

/**
 * Tells a hook the next event that it wants, or finds that there is none. The id of a notification is made from hook and event, and the cursor moves in
 * the transaction that records the outcome: whoever dies in between sends the same id again. Two processes may both send; only one of them records.
 * `position` is how far this process has looked, which may be further than the stored cursor.
 */
export async function takeTurn(deps: NotifyDeps, hook: Hook, position: number, signal: AbortSignal): Promise<Turn> {
  const { db } = deps;
  const from = Math.max(position, Number(hook.cursor));
  const page = await readEvents(db, { after: from, limit: PAGE, ...(hook.app !== null && { app: hook.app }) });
  const event = page.find((one) => selects(hook.selectors, one));
  if (event === undefined) return await passOver(db, hook, page.at(-1)?.id ?? from, page.length === PAGE);
  const id = notificationId(hook.id, event.id);
  const before = await findDelivery(db, id);
  if (before?.next_at && before.next_at.getTime() > deps.now())
    return { is: "wait", untilMs: before.next_at.getTime(), position: event.id - 1 };
  const attempt = await trySend(deps, hook, id, event, signal);
  // Stopping is no fault of the receiver: the next start sends it again.
  if (signal.aborted) return { is: "gone" };
  const attempts = (before?.attempts ?? 0) + 1;
  const judged = judgeAttempt(attempt, attempts, deps.random());
  const isOurs = await db
    .transaction()
    .execute((tx) => record(tx, deps, hook, { id, event, attempt, attempts, judged }));
  if (!isOurs) return { is: "gone" };
  if (judged.is === "again") return { is: "wait", untilMs: deps.now() + judged.inMs, position: event.id - 1 };
  return { is: "more", position: event.id };
}

/** Sends a message that says it is a test, now and once, and records it. What it answers says nothing about the events that wait. */
export async function sendTest(deps: NotifyDeps, hook: Hook, actor: string): Promise<NotifyDelivery> {
  const id = newId("nt");
  const { app } = hook;
  const at = new Date(deps.now()).toISOString();
  const event: StoredEvent = {
    ...{ id: 0, at, app, environment: null, subject: `hook:${hook.id}`, deliveryId: null },
    ...{ kind: "notify.test", actor, data: { hookId: hook.id } },
  };
  const attempt = await trySend(deps, hook, id, event, new AbortController().signal);
  const isDelivered = judgeAttempt(attempt, 1, 0).is === "delivered";
  return await deps.db
    .insertInto("notify_deliveries")
    .values({
      ...{ id, hook_id: hook.id, event_id: null, kind: event.kind, attempts: 1, next_at: null, ended_at: new Date() },
      status: isDelivered ? "delivered" : "failed",
      ...answerOf(attempt),
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

const notificationId = (hookId: string, eventId: number) => `${hookId}-${eventId}`;

async function passOver(db: Database, hook: Hook, position: number, isMore: boolean): Promise<Turn> {
  if (position - Number(hook.cursor) >= SAVE_CURSOR_EVERY) {
    await db
      .updateTable("notify_hooks")
      .set({ cursor: String(position) })
      .where("id", "=", hook.id)
      .where("cursor", "=", hook.cursor)
      .execute();
  }
  return { is: isMore ? "more" : "idle", position };
}

async function findDelivery(db: Database, id: string): Promise<NotifyDelivery | undefined> {
  return db.selectFrom("notify_deliveries").selectAll().where("id", "=", id).executeTakeFirst();
}

async function trySend(
  deps: NotifyDeps,
  hook: Hook,
  id: string,
  event: StoredEvent,
  signal: AbortSignal,
): Promise<Attempt> {
  const story = event.deliveryId === null ? [] : await readEvents(deps.db, { deliveryId: event.deliveryId });
  const lines = tellOf(story, event);
  const body = renderBody(hook.format, { notificationId: id, hookId: hook.id, event, lines, apiUrl: deps.apiUrl });
  try {
    const { url, secret } = openHook(deps.sealer, hook);
    const headers = {
      "user-agent": "Shipway",
      "shipway-delivery": id,
      "shipway-event": event.kind,
      "shipway-signature": signatureOf(secret.reveal(), body, deps.now()),
    };
    return { answer: await deps.send({ url: url.reveal(), headers, body }, signal) };
  } catch (error) {
    return { noAnswer: error instanceof Error ? error.message : String(error) };
  }
}

function answerOf(attempt: Attempt): { http_status: number | null; answer: string | null; problem: string | null } {
  if ("noAnswer" in attempt) return { http_status: null, answer: null, problem: attempt.noAnswer };
  // Postgres takes no NUL in a text.
  const answer = attempt.answer.text.replaceAll("\u0000", "").slice(0, KEPT_BYTES);
  return { http_status: attempt.answer.status, answer, problem: null };
}

type Sent = { id: string; event: StoredEvent; attempt: Attempt; attempts: number; judged: Judged };

/** @returns false when another process has recorded this event, or the hook is gone */
async function record(tx: Tx, { now }: NotifyDeps, hook: Hook, sent: Sent): Promise<boolean> {
  const { id, event, attempt, attempts, judged } = sent;
  const current = await tx
    .selectFrom("notify_hooks")
    .selectAll()
    .where("id", "=", hook.id)
    .forUpdate()
    .executeTakeFirst();
  if (current === undefined || Number(current.cursor) >= event.id) return false;
  const isOver = judged.is !== "again";
  const outcome = {
    ...answerOf(attempt),
    attempts,
    status: judged.is === "again" ? ("retrying" as const) : judged.is,
    next_at: judged.is === "again" ? new Date(now() + judged.inMs) : null,
    ended_at: isOver ? new Date(now()) : null,
  };
  await tx
    .insertInto("notify_deliveries")
    .values({ id, hook_id: hook.id, event_id: String(event.id), kind: event.kind, ...outcome })
    .onConflict((conflict) => conflict.column("id").doUpdateSet(outcome))
    .execute();
  if (!isOver) return true;
  const isFailing = judged.is === "failed";
  await tx
    .updateTable("notify_hooks")
    .set({
      cursor: String(event.id),
      failing_since: isFailing ? (current.failing_since ?? new Date(now())) : null,
    })
    .where("id", "=", hook.id)
    .execute();
  if (isFailing !== (current.failing_since !== null)) await tellTurn(tx, current, isFailing, attempt);
  await tx
    .deleteFrom("notify_deliveries")
    .where("hook_id", "=", hook.id)
    .where("created_at", "<", new Date(now() - KEPT_DAYS * DAY_MS))
    .execute();
  return true;
}

/** Said once when a hook begins to fail and once when it is well again. */
async function tellTurn(
  tx: Tx,
  { id, app, shown_url: url }: Hook,
  isFailing: boolean,
  attempt: Attempt,
): Promise<void> {
  const data = { hookId: id, url };
  await appendEvent(
    tx,
    { app, subject: `hook:${id}`, actor: "shipway" },
    isFailing
      ? { kind: "notify.failing", data: { ...data, reason: reasonOf(attempt) } }
      : { kind: "notify.recovered", data },
  );
}

const reasonOf = (attempt: Attempt) =>
  "noAnswer" in attempt ? attempt.noAnswer : `it answered ${attempt.answer.status}`;
