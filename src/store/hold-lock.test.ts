import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import { until } from "../shared/until.ts";
import { type HeldLock, holdLock } from "./hold-lock.ts";
import type { Store } from "./open-store.ts";
import { onServer } from "./test-server.ts";
import { newTestStore } from "./testing.ts";

let store: Store;
const locks: HeldLock[] = [];
let told: string[];
beforeEach(async () => {
  store = await newTestStore();
  told = [];
});
afterEach(async () => {
  for (const lock of locks.splice(0)) await lock.release();
  await store.close();
});

async function hold(name: string, waitMs = 0, at = store): Promise<HeldLock> {
  const lock = await holdLock(
    at.connectionString,
    { waitMs, name },
    {
      onWait: (holder) => void told.push(`${name} waits for ${holder}`),
      onLost: (holder) => void told.push(`${name} lost it to ${holder}`),
    },
  );
  locks.push(lock);
  return lock;
}

/** As when the holder's process is killed, its machine is gone, or the network between breaks. */
const cut = (name: string) =>
  onServer(
    store.connectionString,
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = '${name}'`,
  );

describe("the lock of a control plane", () => {
  it("is held by one, and a second that does not wait is told by whom", async () => {
    await hold("one");
    const refused = await hold("two").catch((error: unknown) => error);
    expect(hasCode(refused, "DATABASE_IN_USE")).toBe(true);
    expect(String(refused)).toContain("(one)");
  });

  it("is nothing to who works on another database of the same server", async () => {
    const other = await newTestStore();
    await hold("one");
    const lock = await hold("two", 0, other);
    await lock.release();
    locks.pop();
    await other.close();
  });

  it("goes to who waits once its holder ends", async () => {
    const one = await hold("one");
    const two = hold("two", 60_000);
    await until("two waiting", () => told.includes("two waits for one"));
    await one.release();
    await two;
  });

  it("goes to who waits once its holder is cut off, and that one is told", async () => {
    await hold("one");
    const two = hold("two", 60_000);
    await until("two waiting", () => told.includes("two waits for one"));
    await cut("one");
    await two;
    await until("one being told", () => told.includes("one lost it to two"), { withinMs: 60_000 });
  }, 90_000);

  it("is taken again by its holder where nobody else wants it", async () => {
    await hold("one");
    await cut("one");
    const holders = async () =>
      (
        await sql<{ name: string }>`
          select application_name as name from pg_locks join pg_stat_activity using (pid)
          where locktype = 'advisory' and granted and datname = current_database()`.execute(store.db)
      ).rows.map(({ name }) => name);
    await until("one having it again", async () => (await holders()).includes("one"), { withinMs: 60_000 });
    expect(told).toEqual([]);
  }, 90_000);
});
