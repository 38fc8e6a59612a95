import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";

/**
 * MySQL commits each DDL statement by itself, so a file can be half applied when the process dies.
 * Running it again meets these, and they mean "this part is done".
 */
const ALREADY_THERE = new Set(["ER_TABLE_EXISTS_ERROR", "ER_DUP_FIELDNAME", "ER_DUP_KEYNAME"]);

/**
 * Applies what is missing, one runner at a time. A database that is *ahead* of these files is fine: after a rollback
 * the older release finds columns it does not know, and every migration here only adds.
 * @param {import("./database.js").Database} database
 * @param {URL} directory
 * @returns {Promise<{ applied: string[], unknown: string[] }>}
 */
export async function migrate(database, directory) {
  const files = await readMigrations(directory);
  return database.session(async (query) => {
    const [{ locked }] = await query("SELECT GET_LOCK('launches-migrate', 60) AS locked");
    if (locked !== 1) throw new Error("Another migration has held the lock for 60 s; look for a stuck release task.");
    await query(
      "CREATE TABLE IF NOT EXISTS schema_migrations (name VARCHAR(120) PRIMARY KEY, checksum CHAR(64) NOT NULL, applied_at DATETIME(3) NOT NULL)",
    );
    const done = new Map(
      (await query("SELECT name, checksum FROM schema_migrations")).map((row) => [row.name, row.checksum]),
    );
    const applied = [];
    for (const { name, checksum, statements } of files) {
      if (done.has(name) && done.get(name) !== checksum)
        throw new Error(`${name} was changed after it had been applied. Restore it and write a new migration.`);
      if (done.has(name)) continue;
      for (const statement of statements) await query(statement).catch(ignoreAlreadyThere);
      await query("INSERT INTO schema_migrations VALUES (?, ?, UTC_TIMESTAMP(3))", [name, checksum]);
      applied.push(name);
    }
    const known = new Set(files.map((file) => file.name));
    return { applied, unknown: [...done.keys()].filter((name) => !known.has(name)) };
  });
}

async function readMigrations(directory) {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(new URL(name, directory), "utf8");
      return { name, checksum: createHash("sha256").update(sql).digest("hex"), statements: splitStatements(sql) };
    }),
  );
}

/** Statements end with a semicolon at the end of a line. */
export function splitStatements(sql) {
  return sql
    .split(/;[ \t]*(?:\n|$)/)
    .map((statement) => statement.replace(/^\s*--.*$/gm, "").trim())
    .filter((statement) => statement !== "");
}

function ignoreAlreadyThere(error) {
  if (!ALREADY_THERE.has(error.code)) throw error;
}
