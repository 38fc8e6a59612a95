import { errorCode } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";

/** Postgres restarts, or starts (57P0x, 08…); it ended one of two transactions that crossed (40P01), or a session that stood idle (25P03). */
const SQL_STATES = /^(57P0[123]|08...|40P01|40003|25P03)$/;
const SYSTEM_ERRORS = /^(ECONNRESET|ECONNREFUSED|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)$/;
/** Of node-postgres, which gives these no code. */
const MESSAGES =
  /connection terminated|client has encountered a connection error|timeout exceeded when trying to connect/i;

/** Whether work on the database failed by nothing that it did, and may be done once more. */
export function isOutage(error: unknown): boolean {
  if (errorCode(error) !== undefined || typeof error !== "object" || error === null) return false;
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof code === "string" && (SQL_STATES.test(code) || SYSTEM_ERRORS.test(code))) return true;
  return typeof message === "string" && MESSAGES.test(message);
}

const AGAIN_MS = 500;
/** An update of Postgres, with time to spare. */
const WITHIN_MS = 600_000;

/** Does work again until the database is back; what it does must bear repetition, as it would after a crash. */
export async function throughOutages<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const endsAt = Date.now() + WITHIN_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isOutage(error) || signal.aborted || Date.now() >= endsAt) throw error;
      await sleep(AGAIN_MS, signal);
    }
  }
}
