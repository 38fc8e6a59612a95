import { randomBytes } from "node:crypto";
import { sql } from "kysely";
import { inject } from "vitest";
import { until } from "../shared/until.ts";
import { openStore, type Store } from "./open-store.ts";
import { onServer } from "./test-server.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Of the server that `test-postgres.ts` started; its database `shipway_template` is migrated. */
    postgresUrl: string;
  }
}

const silent = { error: () => undefined };

/** A store on a database of its own, cloned from the migrated template; `close` drops it. */
export async function newTestStore(): Promise<Store> {
  const serverUrl = inject("postgresUrl");
  const name = `test_${randomBytes(6).toString("hex")}`;
  await onServer(serverUrl, `create database ${name} template shipway_template`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const store = await openStore(url.href, silent);
  return {
    ...store,
    async close() {
      await store.close();
      await onServer(serverUrl, `drop database ${name} with (force)`);
    },
  };
}

/** Resolves once a session of this database waits for a lock that another one holds: for tests of transactions that cross. */
export async function untilSomebodyWaits({ db }: Pick<Store, "db">): Promise<void> {
  await until("a transaction that waits", async () => {
    const { rows } = await sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.execute(db);
    return rows.length > 0;
  });
}
