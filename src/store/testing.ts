import { randomBytes } from "node:crypto";
import { inject } from "vitest";
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
