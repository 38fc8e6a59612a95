import { randomBytes } from "node:crypto";
import type { Selectable } from "kysely";
import type { Sealer } from "../environment/sealing.ts";
import { appendEvent, lastEventId } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import { Secret } from "../shared/secret.ts";
import type { Database } from "../store/open-store.ts";
import type { NotifyDeliveriesTable, NotifyHooksTable } from "../store/schema.ts";
import { parseHookUrl, shortenUrl } from "./addresses.ts";
import type { Format } from "./render.ts";
import { checkSelectors, DEFAULT_SELECTORS } from "./selectors.ts";

export type Hook = Selectable<NotifyHooksTable>;
export type NotifyDelivery = Selectable<NotifyDeliveriesTable>;

export type WantedHook = {
  url: string;
  /** Null: of every app, and of the installation itself. */
  app: string | null;
  format: Format;
  selectors?: readonly string[] | undefined;
};

/** Recognisable in a leak scan. */
const SECRET_PREFIX = "shh_";

/**
 * Adds a hook that is told from now on. The secret is given this once; it and the URL are stored sealed.
 * @throws REQUEST_INVALID
 */
export async function addHook(
  db: Database,
  sealer: Sealer,
  wanted: WantedHook,
  actor: string,
): Promise<{ hook: Hook; secret: string }> {
  const url = parseHookUrl(wanted.url);
  const selectors = wanted.selectors ?? DEFAULT_SELECTORS;
  checkSelectors(selectors);
  const id = newId("n");
  const secret = SECRET_PREFIX + randomBytes(24).toString("base64url");
  const { app, format } = wanted;
  const shown = shortenUrl(url);
  const hook = await db.transaction().execute(async (tx) => {
    const row = await tx
      .insertInto("notify_hooks")
      .values({
        id,
        app,
        format,
        selectors: JSON.stringify(selectors),
        url: sealer.seal(url.href, urlContext(id)),
        shown_url: shown,
        secret: sealer.seal(secret, secretContext(id)),
        cursor: String(await lastEventId(tx)),
        failing_since: null,
        actor,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await appendEvent(
      tx,
      { app, subject: `hook:${id}`, actor },
      { kind: "notify.added", data: { hookId: id, url: shown, format, selectors: [...selectors] } },
    );
    return row;
  });
  return { hook, secret };
}

/** Of one app, or of all when none is named. */
export async function listHooks(db: Database, app?: string): Promise<Hook[]> {
  let query = db.selectFrom("notify_hooks").selectAll().orderBy("created_at").orderBy("id");
  if (app !== undefined) query = query.where("app", "=", app);
  return query.execute();
}

export async function findHook(db: Database, id: string): Promise<Hook | undefined> {
  return db.selectFrom("notify_hooks").selectAll().where("id", "=", id).executeTakeFirst();
}

/** @throws NOT_FOUND */
export async function getHook(db: Database, id: string): Promise<Hook> {
  const hook = await findHook(db, id);
  if (hook) return hook;
  throw fail("NOT_FOUND", { message: `There is no hook ${id}.`, hint: "`shipway notify list` shows what there is." });
}

/** Its deliveries go with it. What is being sent at this moment still arrives. @throws NOT_FOUND */
export async function removeHook(db: Database, id: string, actor: string): Promise<void> {
  const { app, shown_url: url } = await getHook(db, id);
  await db.transaction().execute(async (tx) => {
    await tx.deleteFrom("notify_hooks").where("id", "=", id).execute();
    await appendEvent(tx, { app, subject: `hook:${id}`, actor }, { kind: "notify.removed", data: { hookId: id, url } });
  });
}

/** The last ones first. */
export async function listNotifyDeliveries(db: Database, hookId: string, limit: number): Promise<NotifyDelivery[]> {
  return db
    .selectFrom("notify_deliveries")
    .selectAll()
    .where("hook_id", "=", hookId)
    .orderBy("created_at", "desc")
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
}

/** Where and under what secret a hook is sent to. @throws SECRET_KEY_WRONG */
export function openHook(sealer: Sealer, hook: Hook): { url: Secret; secret: Secret } {
  return {
    url: new Secret(`the URL of ${hook.id}`, sealer.open(hook.url, urlContext(hook.id))),
    secret: new Secret(`the secret of ${hook.id}`, sealer.open(hook.secret, secretContext(hook.id))),
  };
}

const urlContext = (id: string) => `notify-url/${id}`;
const secretContext = (id: string) => `notify-secret/${id}`;
