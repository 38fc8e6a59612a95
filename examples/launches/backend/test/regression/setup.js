import { createApp } from "../../src/app.js";
import { readConfig } from "../../src/config.js";
import { awaitDatabase, openDatabase } from "../../src/database.js";
import { commitmentOf, newSeed } from "../../src/draw.js";
import { migrate } from "../../src/migrations.js";
import { redisRateLimiter } from "../../src/rate-limit.js";
import { serve } from "../../src/serve.js";

const MIGRATIONS = new URL("../../migrations/", import.meta.url);

/**
 * A database of its own in the MariaDB of the pipeline (root, since it creates one), the API on a free port in front of it,
 * and the Redis of the pipeline. `close` leaves nothing behind.
 */
export async function startBackend({ attempts = 100_000, withCache = true } = {}) {
  const { database: where } = readConfig(process.env);
  const admin = openDatabase(where, { connections: 1 });
  await awaitDatabase(admin, { deadlineMs: 30_000 });
  const name = `test_${Date.now().toString(36)}_${Math.random().toString(36).slice(2, 8)}`;
  await admin.query(`CREATE DATABASE ${name}`);
  const config = { ...where, database: name };
  const database = openDatabase(config, { connections: 20 });
  await migrate(database, MIGRATIONS);
  const limiter = redisRateLimiter(withCache ? process.env.CACHE_URL : "redis://127.0.0.1:1", {
    attempts,
    windowMs: 60_000,
  });
  if (withCache) await waitFor(async () => (await limiter.take(name)).available);
  const server = await serve(createApp({ database, limiter, isReady: () => true, release: "test", log: () => {} }), 0);
  const url = `http://127.0.0.1:${server.port}`;

  return {
    url,
    config,
    database,
    get: async (path) => answer(await fetch(url + path)),
    post: async (path, body, headers = {}) =>
      answer(await fetch(url + path, { method: "POST", body: JSON.stringify(body), headers })),
    async close() {
      await server.stop();
      limiter.close();
      await database.close();
      await admin.query(`DROP DATABASE ${name}`);
      await admin.close();
    },
  };
}

async function answer(response) {
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** Adds a launch; times are seconds from now. Its slug is unique, so tests share a database without meeting. */
export async function addLaunch(database, { opens = -60, closes = 3_600, pieces = 3, seed = newSeed() } = {}) {
  const slug = `launch-${Math.random().toString(36).slice(2, 10)}`;
  await database.query(
    `INSERT INTO launches (slug, title, subtitle, story, art, price_cents, currency, sizes, pieces, opens_at, closes_at, seed, commitment)
     VALUES (?, 'T', 'S', 'Story', 'tote', 100, 'EUR', '40,41', ?, UTC_TIMESTAMP(3) + INTERVAL ? SECOND, UTC_TIMESTAMP(3) + INTERVAL ? SECOND, ?, ?)`,
    [slug, pieces, opens, closes, seed, commitmentOf(seed)],
  );
  return slug;
}

export async function countEntries(database, slug) {
  const [{ count }] = await database.query(
    "SELECT COUNT(*) AS count FROM entries e JOIN launches l ON l.id = e.launch_id WHERE l.slug = ?",
    [slug],
  );
  return count;
}

/** Puts the end of a launch into the past, as if its time had come. */
export async function endLaunch(database, slug) {
  await database.query("UPDATE launches SET closes_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE slug = ?", [slug]);
}

export async function waitFor(condition) {
  const endsAt = Date.now() + 5_000;
  while (!(await condition())) {
    if (Date.now() > endsAt) throw new Error("It did not come true within 5 s.");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
