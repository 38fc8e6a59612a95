import { isDuplicate } from "./database.js";
import { emailKey } from "./email.js";
import { newTicket } from "./ticket.js";

/**
 * @typedef {{ status: "entered", ticket: string, repeated: boolean } | { status: "already-entered" } | { status: "not-open" }} EntryResult
 */

/**
 * Enters an address once. The unique key decides, not a look beforehand, so any number of requests at the same moment
 * leave one row. Repeating a request with its own `requestKey` returns the ticket it got.
 *
 * The statement reads the launch with a shared lock, and the worker draws under an exclusive one: an entry is either
 * in the database before the draw looks, or it is refused. None is accepted and then left out.
 * @param {import("./database.js").Database} database
 * @param {{ slug: string, email: string, size: string, requestKey: string }} entry
 * @returns {Promise<EntryResult>}
 */
export async function enter(database, { slug, email, size, requestKey }) {
  const key = emailKey(email);
  try {
    const ticket = newTicket();
    const result = await database.query(
      `INSERT INTO entries (ticket, launch_id, email_key, email, size, entered_at, request_key)
       SELECT ?, l.id, ?, ?, ?, UTC_TIMESTAMP(3), ? FROM launches l
       WHERE l.slug = ? AND l.opens_at <= UTC_TIMESTAMP(3) AND l.closes_at > UTC_TIMESTAMP(3)
         AND l.drawn_at IS NULL
       LOCK IN SHARE MODE`,
      [ticket, key, email.trim(), size, requestKey, slug],
    );
    return result.affectedRows === 1 ? { status: "entered", ticket, repeated: false } : { status: "not-open" };
  } catch (error) {
    if (!isDuplicate(error)) throw error;
    const [mine] = await database.query(
      "SELECT e.ticket FROM entries e JOIN launches l ON l.id = e.launch_id WHERE l.slug = ? AND e.email_key = ? AND e.request_key = ?",
      [slug, key, requestKey],
    );
    return mine ? { status: "entered", ticket: mine.ticket, repeated: true } : { status: "already-entered" };
  }
}
