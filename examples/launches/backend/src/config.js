/**
 * @typedef {{ host: string, port: number, user: string, password: string, database: string }} DatabaseConfig
 * @typedef {{ port: number, database: DatabaseConfig, cacheUrl: string | undefined, release: string,
 *   rateLimit: { attempts: number, windowMs: number }, adminToken: string | undefined, edgeKey: string | undefined, demoData: boolean }} Config
 */

/**
 * Everything the processes take from their environment. Shipway injects `DB_*` and `CACHE_URL` for the backing services.
 * @param {Record<string, string | undefined>} env
 * @returns {Config}
 */
export function readConfig(env) {
  return {
    port: Number(env.PORT ?? 3001),
    database: readDatabase(env),
    cacheUrl: env.CACHE_URL,
    release: env.SHIPWAY_RELEASE ?? "local",
    rateLimit: { attempts: Number(env.RATE_LIMIT ?? 20), windowMs: Number(env.RATE_WINDOW_SECONDS ?? 60) * 1000 },
    adminToken: env.ADMIN_TOKEN,
    edgeKey: env.EDGE_KEY,
    demoData: env.DEMO_DATA === "true",
  };
}

function readDatabase(env) {
  if (env.DB_URL) {
    const url = new URL(env.DB_URL);
    return {
      host: url.hostname,
      port: Number(url.port || 3306),
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database: url.pathname.slice(1),
    };
  }
  if (!env.DB_HOST)
    throw new Error("Set DB_URL (mysql://user:password@host:3306/name) or DB_HOST, DB_USER, DB_PASSWORD and DB_NAME.");
  return {
    host: env.DB_HOST,
    port: Number(env.DB_PORT ?? 3306),
    user: env.DB_USER ?? "app",
    password: env.DB_PASSWORD ?? "",
    database: env.DB_NAME ?? "app",
  };
}
