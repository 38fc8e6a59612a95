import { hostname } from "node:os";
import pg from "pg";
import { fail } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";

/** Told in turn: who has it while we wait, that we have it again after the connection broke, and that somebody else has it now. */
export type LockEvents = { onWait(holder: string): void; onLost(holder: string): void };

export type HeldLock = { release(): Promise<void> };

const LOCK = "hashtext('shipway-control-plane')";
const LOOK_EVERY_MS = 1_000;
const AGAIN_MS = 500;
const BEAT_EVERY_MS = 5_000;
const BEAT_WITHIN_MS = 10_000;
/**
 * The server ends the session of a holder that is gone with its machine after some 25 s instead of two hours (PostgreSQL, "TCP Settings"). On a Unix socket
 * they are ignored. A holder that lives finds within 15 s that it cannot reach the database, before anybody else can get the lock.
 */
const SESSION = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3";

/**
 * Makes this process the only control plane of a database, on a connection of its own: the lock is a session of Postgres, so it ends with its holder however
 * that ends, and a waiting process takes over. The connection must lead to Postgres itself: a pooler that lends sessions by transaction keeps no lock.
 * `waitMs` is how long to wait for another holder's end, `name` what others see of us.
 * @throws DATABASE_IN_USE, POSTGRES_UNREACHABLE
 */
export async function holdLock(
  connectionString: string,
  { waitMs, name = `shipway ${hostname()} ${process.pid}` }: { waitMs: number; name?: string },
  events: LockEvents,
): Promise<HeldLock> {
  const ending = new AbortController();
  const endsAt = Date.now() + waitMs;
  const ourName = name.slice(0, MOST_NAME);
  let client = await connect(connectionString, ourName);
  for (let told = ""; !(await take(client)); ) {
    const holder = await holderOf(client);
    if (Date.now() >= endsAt) {
      await client.end();
      throw inUse(holder);
    }
    if (holder !== told) events.onWait(holder);
    told = holder;
    await sleep(LOOK_EVERY_MS);
  }

  /** Until it is held again. False when somebody else has it. */
  const takeAgain = async (): Promise<boolean> => {
    while (!ending.signal.aborted) {
      const next = await connect(connectionString, ourName).catch(() => undefined);
      if (next === undefined) {
        await sleep(AGAIN_MS, ending.signal).catch(() => undefined);
        continue;
      }
      client = next;
      if (await take(next).catch(() => undefined)) return true;
      const holder = await holderOf(next).catch(() => undefined);
      await next.end().catch(() => undefined);
      // Nobody: the server has not noticed yet that our own old session is gone.
      if (holder === undefined || holder === NOBODY || holder === ourName) {
        await sleep(AGAIN_MS, ending.signal).catch(() => undefined);
        continue;
      }
      if (!ending.signal.aborted) events.onLost(holder);
      return false;
    }
    return false;
  };
  const keep = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      await sleep(BEAT_EVERY_MS, ending.signal).catch(() => undefined);
      if (ending.signal.aborted || (await answers(client))) continue;
      client.end().catch(() => undefined);
      if (!(await takeAgain())) return;
    }
  };
  const keeping = keep();
  return {
    async release() {
      ending.abort();
      await keeping;
      await client.end().catch(() => undefined);
    },
  };
}

const NOBODY = "";
/** Postgres cuts names of sessions there (NAMEDATALEN). */
const MOST_NAME = 63;

async function connect(connectionString: string, name: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString,
    application_name: name,
    connectionTimeoutMillis: BEAT_WITHIN_MS,
    keepAlive: true,
    query_timeout: BEAT_WITHIN_MS,
  });
  // A connection that breaks is found by the next query.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query(SESSION);
    return client;
  } catch (cause) {
    await client.end().catch(() => undefined);
    const message = cause instanceof Error ? cause.message : String(cause);
    throw fail("POSTGRES_UNREACHABLE", {
      message: `Postgres at ${new URL(connectionString).host} cannot be used: ${message}`,
      hint: "Check DATABASE_URL, then start Shipway again.",
      cause,
    });
  }
}

async function take(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ got: boolean }>(`select pg_try_advisory_lock(${LOCK}) as got`);
  return rows[0]?.got === true;
}

/** As it named its session. A lock of one number is kept as two halves (PostgreSQL, pg_locks). */
async function holderOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `select coalesce(a.application_name, '') as name from pg_locks l left join pg_stat_activity a using (pid)
     where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = (select oid from pg_database where datname = current_database())
       and ((l.classid::bigint << 32) | l.objid::bigint) = ${LOCK}::bigint`,
  );
  return rows[0]?.name ?? NOBODY;
}

const answers = (client: pg.Client): Promise<boolean> =>
  client.query("select 1").then(
    () => true,
    () => false,
  );

function inUse(holder: string) {
  return fail("DATABASE_IN_USE", {
    message: `Another Shipway works on this database${holder === NOBODY ? "" : ` (${holder})`}.`,
    hint: "Stop that one, or give this one a database of its own. Two would undo each other's work.",
  });
}
