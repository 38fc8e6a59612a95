import { drawOrder } from "./draw.js";

/**
 * Draws every launch whose time is up, each in a transaction of its own. Any number of workers may do this at once:
 * the launch's row lock lets one of them through and the others pass by.
 * @param {import("./database.js").Database} database
 * @returns {Promise<{ slug: string, entries: number, winners: number, durationMs: number }[]>}
 */
export async function drawDue(database) {
  const due = await database.query(
    "SELECT id FROM launches WHERE drawn_at IS NULL AND closes_at <= UTC_TIMESTAMP(3) ORDER BY closes_at",
  );
  const drawn = [];
  for (const { id } of due) {
    const draw = await drawOne(database, id);
    if (draw) drawn.push(draw);
  }
  return drawn;
}

async function drawOne(database, id) {
  const startedAt = Date.now();
  return database.transaction(async (query) => {
    // An entry that is being written right now holds a shared lock: then the launch is skipped and comes again a second later.
    const [launch] = await query(
      "SELECT slug, seed, pieces FROM launches WHERE id = ? AND drawn_at IS NULL FOR UPDATE SKIP LOCKED",
      [id],
    );
    if (!launch) return undefined;
    // A locking read sees the newest committed rows, not the snapshot the transaction began with.
    const rows = await query("SELECT ticket FROM entries WHERE launch_id = ? LOCK IN SHARE MODE", [id]);
    const tickets = rows.map((row) => row.ticket);
    const winners = drawOrder(launch.seed, tickets).slice(0, launch.pieces);
    await query("UPDATE launches SET drawn_at = UTC_TIMESTAMP(3), drawn_entries = ? WHERE id = ?", [
      tickets.length,
      id,
    ]);
    if (winners.length > 0)
      await query("INSERT INTO winners (launch_id, place, ticket) VALUES ?", [
        winners.map((ticket, index) => [id, index + 1, ticket]),
      ]);
    return { slug: launch.slug, entries: tickets.length, winners: winners.length, durationMs: Date.now() - startedAt };
  });
}

/** Acceptance tests enter a hidden launch after every deployment; their entries are kept for a day. */
export async function forgetTestEntries(database) {
  const result = await database.query(
    "DELETE e FROM entries e JOIN launches l ON l.id = e.launch_id WHERE l.hidden = 1 AND e.entered_at < UTC_TIMESTAMP(3) - INTERVAL 1 DAY",
  );
  return result.affectedRows;
}

/** Ends an open launch now; the worker then draws it. @returns whether it was open */
export async function closeLaunch(database, slug) {
  const result = await database.query(
    "UPDATE launches SET closes_at = UTC_TIMESTAMP(3) WHERE slug = ? AND opens_at <= UTC_TIMESTAMP(3) AND closes_at > UTC_TIMESTAMP(3)",
    [slug],
  );
  return result.affectedRows === 1;
}
