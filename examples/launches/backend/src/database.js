import { setTimeout as sleep } from "node:timers/promises";
import mysql from "mysql2/promise";

/** The connection is gone (restart, failover, a pause longer than the server waits); the statement may be sent again. */
const LOST = new Set([
  "PROTOCOL_CONNECTION_LOST",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ER_SERVER_SHUTDOWN",
  "ER_CON_COUNT_ERROR",
]);
/** InnoDB rolled this transaction back in favour of another; it asks for a retry. */
const CONTENDED = new Set(["ER_LOCK_DEADLOCK", "ER_LOCK_WAIT_TIMEOUT"]);

export const isLost = (error) => LOST.has(error?.code) || error?.fatal === true;
export const isContended = (error) => CONTENDED.has(error?.code);
export const isDuplicate = (error) => error?.code === "ER_DUP_ENTRY";

/**
 * @typedef {ReturnType<typeof openDatabase>} Database
 * @param {import("./config.js").DatabaseConfig} config
 * @param {{ connections?: number, multipleStatements?: boolean }} [options]
 */
export function openDatabase(config, { connections = 10 } = {}) {
  const pool = mysql.createPool({
    ...config,
    connectionLimit: connections,
    connectTimeout: 3_000,
    enableKeepAlive: true,
    timezone: "Z",
    charset: "utf8mb4",
  });

  return {
    /**
     * Runs one statement that is safe to send twice: a lost connection or a deadlock is retried on a fresh one.
     * @returns {Promise<any[]>} rows, or the result header of a write
     */
    async query(sql, values = []) {
      return retrying(async () => (await pool.query(sql, values))[0]);
    },

    /** Runs `work` in a transaction of its own; repeated as a whole after a deadlock or a lost connection. */
    async transaction(work) {
      return retrying(async () => {
        const connection = await pool.getConnection();
        try {
          await connection.beginTransaction();
          const result = await work(async (sql, values = []) => (await connection.query(sql, values))[0]);
          await connection.commit();
          connection.release();
          return result;
        } catch (error) {
          // A connection in an unknown state must not go back to the pool.
          connection.destroy();
          throw error;
        }
      });
    },

    /** One connection for as long as `work` lasts, for session locks. Never retried. */
    async session(work) {
      const connection = await pool.getConnection();
      try {
        return await work(async (sql, values = []) => (await connection.query(sql, values))[0]);
      } finally {
        connection.destroy();
      }
    },

    close: () => pool.end(),
  };
}

async function retrying(attempt, attempts = 4) {
  for (let left = attempts - 1; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0 || !(isLost(error) || isContended(error))) throw error;
      await sleep(20 + Math.random() * 80);
    }
  }
}

/**
 * Waits until the database answers, with growing pauses.
 * @param {Database} database
 * @param {{ deadlineMs: number, signal?: AbortSignal, onWait?: (error: Error) => void }} options
 */
export async function awaitDatabase(database, { deadlineMs, signal, onWait }) {
  const endsAt = Date.now() + deadlineMs;
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
    try {
      await database.query("SELECT 1");
      return;
    } catch (error) {
      if (Date.now() + pauseMs > endsAt) throw error;
      onWait?.(error);
      await sleep(pauseMs, undefined, { signal });
    }
  }
}
