import { Kysely, Migrator, PostgresDialect, type Transaction } from "kysely";
import pg from "pg";
import { fail } from "../shared/errors.ts";
import { MIGRATIONS } from "./migrations.ts";
import type { Schema } from "./schema.ts";

export type Database = Kysely<Schema>;
export type Tx = Transaction<Schema>;

/** Postgres, migrated and ready. One per process. */
export type Store = {
  db: Database;
  connectionString: string;
  /** Calls `onNotify` for each NOTIFY on `channel`, and once more after every reconnection, since some may have been missed. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<{ close(): Promise<void> }>;
  close(): Promise<void>;
};

/**
 * Connects and applies the migrations that are missing; several processes may do so at once (Kysely takes a lock).
 * @throws POSTGRES_UNREACHABLE
 */
export async function openStore(
  connectionString: string,
  log: { error(details: object, text: string): void },
): Promise<Store> {
  const pool = new pg.Pool({ connectionString, max: 12, connectionTimeoutMillis: 10_000 });
  pool.on("error", (error) => log.error({ error }, "an idle Postgres connection broke"));
  // Who has a connection learns of its end by the query that fails; the pool listens to idle ones alone, and an error that nobody hears ends the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  await migrate(db, connectionString);
  return {
    db,
    connectionString,
    listen: (channel, onNotify) => listen(connectionString, channel, onNotify),
    close: () => db.destroy(),
  };
}

async function migrate(db: Database, connectionString: string): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } });
  const { error } = await migrator.migrateToLatest();
  if (error === undefined) return;
  const { host } = new URL(connectionString);
  throw fail("POSTGRES_UNREACHABLE", {
    message: `Postgres at ${host} cannot be used: ${error instanceof Error ? error.message : String(error)}`,
    hint: "Check DATABASE_URL and that its user may create tables, then start Shipway again.",
    cause: error,
  });
}

const RECONNECT_MS = 500;

async function listen(connectionString: string, channel: string, onNotify: (payload: string) => void) {
  let closed = false;
  let client: pg.Client | undefined;

  const connect = async (): Promise<void> => {
    const next = new pg.Client({ connectionString, keepAlive: true });
    next.on("notification", (message) => onNotify(message.payload ?? ""));
    next.on("error", () => undefined);
    next.on("end", () => {
      if (!closed) setTimeout(() => void reconnect(), RECONNECT_MS).unref();
    });
    await next.connect();
    await next.query(`listen ${next.escapeIdentifier(channel)}`);
    client = next;
  };
  const reconnect = async (): Promise<void> => {
    if (closed) return;
    await connect().then(
      () => onNotify(""),
      () => setTimeout(() => void reconnect(), RECONNECT_MS).unref(),
    );
  };

  await connect();
  return {
    async close() {
      closed = true;
      await client?.end();
    },
  };
}
