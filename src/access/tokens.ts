import { createHash, randomBytes } from "node:crypto";
import { appendEvent } from "../events/event-stream.ts";
import { fail } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import type { Database, Tx } from "../store/open-store.ts";
import { type Identity, mayActAs, type Role } from "./roles.ts";

/** Recognisable in a leak scan; 192 random bits. */
const PREFIX = "shw_";

// The tokens are random and long: a plain hash cannot be guessed back, and it keeps the look-up to one index read.
const hashOf = (token: string): Buffer => createHash("sha256").update(token).digest();

export type TokenRecord = { id: string; name: string; role: Role; app: string | null; createdAt: Date };

/** Makes a token. Its text is returned this once and stored only as a hash. */
export async function createToken(
  db: Database,
  wanted: { name: string; role: Role; app?: string | undefined },
  actor: string,
  token = PREFIX + randomBytes(24).toString("base64url"),
): Promise<{ token: string; record: TokenRecord }> {
  const row = { id: newId("t"), name: wanted.name, role: wanted.role, app: wanted.app ?? null };
  const createdAt = new Date();
  await db.transaction().execute(async (tx) => {
    await tx
      .insertInto("tokens")
      .values({ ...row, hash: hashOf(token), revoked_at: null })
      .execute();
    await appendEvent(
      tx,
      { app: row.app, subject: `token:${row.id}`, actor },
      { kind: "token.created", data: { name: row.name, role: row.role } },
    );
  });
  return { token, record: { ...row, createdAt } };
}

/** Who holds this token; undefined when it is unknown or revoked. */
export async function findIdentity(db: Database, token: string): Promise<Identity | undefined> {
  if (!token.startsWith(PREFIX)) return undefined;
  const row = await db
    .selectFrom("tokens")
    .select(["id", "name", "role", "app"])
    .where("hash", "=", hashOf(token))
    .where("revoked_at", "is", null)
    .executeTakeFirst();
  return row && { tokenId: row.id, name: row.name, role: row.role, app: row.app };
}

export async function listTokens(db: Database): Promise<TokenRecord[]> {
  const rows = await db
    .selectFrom("tokens")
    .selectAll()
    .where("revoked_at", "is", null)
    .orderBy("created_at")
    .execute();
  return rows.map((row) => ({ id: row.id, name: row.name, role: row.role, app: row.app, createdAt: row.created_at }));
}

/** Names of those who may act in that role in an app. */
export async function namesWithRole(db: Database | Tx, role: Role, app: string): Promise<string[]> {
  const rows = await db
    .selectFrom("tokens")
    .select(["id", "name", "role", "app"])
    .where("revoked_at", "is", null)
    .orderBy("created_at")
    .execute();
  const able = rows.filter((row) => mayActAs({ ...row, tokenId: row.id }, role, app));
  return [...new Set(able.map(({ name }) => name))];
}

/** @throws NOT_FOUND */
export async function revokeToken(db: Database, id: string, actor: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    const row = await tx
      .updateTable("tokens")
      .set({ revoked_at: new Date() })
      .where("id", "=", id)
      .where("revoked_at", "is", null)
      .returning(["name", "role", "app"])
      .executeTakeFirst();
    if (!row)
      throw fail("NOT_FOUND", {
        message: `There is no token ${id}.`,
        hint: "List the tokens with `shipway token list`.",
      });
    await appendEvent(
      tx,
      { app: row.app, subject: `token:${id}`, actor },
      { kind: "token.revoked", data: { name: row.name, role: row.role } },
    );
  });
}
