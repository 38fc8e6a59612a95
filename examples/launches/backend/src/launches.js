import { maskEmail } from "./email.js";

/**
 * The database's clock decides what is open, for every copy of every service alike. A launch whose time
 * is up but which is not drawn yet is `drawing`: it takes no entries, and the worker will have it within a second or two.
 */
const COLUMNS = `
  l.id, l.slug, l.title, l.subtitle, l.story, l.art, l.price_cents, l.currency, l.sizes, l.pieces, l.hidden,
  l.opens_at, l.closes_at, l.seed, l.commitment, l.drawn_at,
  CASE WHEN l.drawn_at IS NOT NULL THEN 'closed'
       WHEN l.closes_at <= UTC_TIMESTAMP(3) THEN 'drawing'
       WHEN l.opens_at > UTC_TIMESTAMP(3) THEN 'upcoming'
       ELSE 'open' END AS state,
  COALESCE(l.drawn_entries, (SELECT COUNT(*) FROM entries e WHERE e.launch_id = l.id)) AS entry_count
  FROM launches l`;

/** @param {import("./database.js").Database} database */
export async function listLaunches(database) {
  const rows = await database.query(`SELECT ${COLUMNS} WHERE l.hidden = 0 ORDER BY l.closes_at, l.id`);
  return rows.map(toLaunch);
}

/** @returns the launch, hidden or not, or undefined */
export async function findLaunch(database, slug) {
  const [row] = await database.query(`SELECT ${COLUMNS} WHERE l.slug = ?`, [slug]);
  return row && toLaunch(row);
}

/**
 * Everything needed to repeat the draw. The seed is shown only once there is nothing left to influence.
 * @returns the draw, or undefined when there is no such launch
 */
export async function findDraw(database, slug) {
  const [row] = await database.query(`SELECT ${COLUMNS} WHERE l.slug = ?`, [slug]);
  if (!row) return undefined;
  const base = {
    slug,
    state: row.state,
    commitment: row.commitment,
    entries: Number(row.entry_count),
    pieces: row.pieces,
  };
  if (row.state !== "closed") return base;
  const winners = await database.query(
    "SELECT w.place, w.ticket, e.email, e.size FROM winners w JOIN entries e ON e.ticket = w.ticket WHERE w.launch_id = ? ORDER BY w.place",
    [row.id],
  );
  return {
    ...base,
    seed: row.seed,
    drawnAt: row.drawn_at.toISOString(),
    winners: winners.map(({ place, ticket, email, size }) => ({ place, ticket, email: maskEmail(email), size })),
  };
}

/** All tickets of a drawn launch, sorted; undefined while it is not drawn. */
export async function findTickets(database, slug) {
  const [drawn] = await database.query("SELECT id FROM launches WHERE slug = ? AND drawn_at IS NOT NULL", [slug]);
  if (!drawn) return undefined;
  const rows = await database.query("SELECT ticket FROM entries WHERE launch_id = ? ORDER BY ticket", [drawn.id]);
  return rows.map((row) => row.ticket);
}

/** What the holder of a ticket may know: that it counts, and how it fared. */
export async function findTicket(database, ticket) {
  const [row] = await database.query(
    `SELECT e.ticket, e.size, e.entered_at, l.slug, l.drawn_at, w.place
     FROM entries e JOIN launches l ON l.id = e.launch_id
     LEFT JOIN winners w ON w.ticket = e.ticket
     WHERE e.ticket = ?`,
    [ticket],
  );
  if (!row) return undefined;
  const outcome = row.place ? "won" : row.drawn_at ? "lost" : "waiting";
  return {
    ticket: row.ticket,
    size: row.size,
    enteredAt: row.entered_at.toISOString(),
    slug: row.slug,
    outcome,
    place: row.place ?? null,
  };
}

function toLaunch(row) {
  return {
    slug: row.slug,
    title: row.title,
    subtitle: row.subtitle,
    story: row.story,
    art: row.art,
    price: { cents: row.price_cents, currency: row.currency },
    sizes: row.sizes.split(","),
    pieces: row.pieces,
    state: row.state,
    opensAt: row.opens_at.toISOString(),
    closesAt: row.closes_at.toISOString(),
    drawnAt: row.drawn_at?.toISOString() ?? null,
    entries: Number(row.entry_count),
    commitment: row.commitment,
  };
}
