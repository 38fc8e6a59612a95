import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fail } from "../shared/errors.ts";
import { until } from "../shared/until.ts";
import type { Store } from "./open-store.ts";
import { isOutage, throughOutages } from "./outage.ts";
import { newTestStore } from "./testing.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store?.close());

const loseConnection = (): Promise<unknown> =>
  store.db.transaction().execute(async (tx) => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx);
    await sql`select pg_terminate_backend(${rows[0]?.pid})`.execute(store.db);
    // Nothing is asked while the connection goes: it says so to whoever has it, and a process in which nobody listens dies of it.
    await until("the end of the session", async () => {
      const left = await sql`select 1 from pg_stat_activity where pid = ${rows[0]?.pid}`.execute(store.db);
      return left.rows.length === 0;
    });
    await sql`select 1`.execute(tx);
  });

describe("a connection to Postgres that is lost", () => {
  it("fails the transaction that had it, as an outage, and nothing else", async () => {
    const error = await loseConnection().catch((cause: unknown) => cause);
    expect(isOutage(error)).toBe(true);
    expect((await sql`select 1`.execute(store.db)).rows).toHaveLength(1);
  });

  it("lets work be done again, which ends as it does then", async () => {
    let attempts = 0;
    const work = async () => (attempts++ === 0 ? loseConnection() : "done");
    expect(await throughOutages(work, new AbortController().signal)).toBe("done");
  });

  it("is not what work itself did wrong, which is not repeated", async () => {
    const wrong = [fail("API_UNREACHABLE", { message: "away" }), new Error("a bug"), { code: "23505" }, "text"];
    expect(wrong.map(isOutage)).toEqual([false, false, false, false]);
    let attempts = 0;
    const work = () => sql`select 1/0`.execute(store.db).finally(() => attempts++);
    await expect(throughOutages(work, new AbortController().signal)).rejects.toMatchObject({ code: "22012" });
    expect(attempts).toBe(1);
  });

  it("is not waited for by an engine that stops", async () => {
    const stopping = new AbortController();
    stopping.abort();
    await expect(throughOutages(loseConnection, stopping.signal)).rejects.toSatisfy(isOutage);
  });
});
