import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readEvents } from "../events/event-stream.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { type Identity, mayActAs, ROLES } from "./roles.ts";
import { createToken, findIdentity, listTokens, revokeToken } from "./tokens.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store?.close());

describe("a token", () => {
  it("tells who holds it until it is revoked, and who made and revoked it stays on the record", async () => {
    const { token, record } = await createToken(store.db, { name: "maria", role: "tester", app: "shop" }, "admin");
    expect(await findIdentity(store.db, token)).toEqual({
      tokenId: record.id,
      name: "maria",
      role: "tester",
      app: "shop",
    });
    await revokeToken(store.db, record.id, "ada");
    expect(await findIdentity(store.db, token)).toBeUndefined();
    expect(await listTokens(store.db)).toEqual([]);
    const events = await readEvents(store.db, { app: "shop" });
    expect(events.map(({ kind, actor }) => [kind, actor])).toEqual([
      ["token.created", "admin"],
      ["token.revoked", "ada"],
    ]);
  });

  it("is in no row, event or list of the store", async () => {
    const { token } = await createToken(store.db, { name: "hidden", role: "viewer" }, "admin");
    const rows = await store.db.selectFrom("tokens").selectAll().where("name", "=", "hidden").execute();
    const kept = [rows, await listTokens(store.db), await readEvents(store.db, {})];
    expect(JSON.stringify(kept)).not.toContain(token.slice(4));
    expect(rows[0]?.hash.toString("latin1")).not.toContain(token.slice(4));
  });

  it("is long, and another one each time", async () => {
    const made = await Promise.all([1, 2].map(() => createToken(store.db, { name: "x", role: "viewer" }, "admin")));
    const texts = made.map(({ token }) => token);
    expect(new Set(texts).size).toBe(2);
    for (const text of texts) expect(text).toMatch(/^shw_[\w-]{32}$/);
  });

  it.each(["", "shw_", "shw_nothing", "Bearer x", "' or 1=1 --"])("is not %j", async (text) => {
    expect(await findIdentity(store.db, text)).toBeUndefined();
  });

  it("is revoked once: a second time says that it is not there", async () => {
    const { record } = await createToken(store.db, { name: "x", role: "viewer" }, "admin");
    await revokeToken(store.db, record.id, "ada");
    await expect(revokeToken(store.db, record.id, "ada")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("mayActAs", () => {
  const identity = (changes: Partial<Identity>): Identity => ({
    tokenId: "t",
    name: "x",
    role: "viewer",
    app: null,
    ...changes,
  });

  it("gives each role what the ones before it may, and nothing of those after it", () => {
    for (const [have, role] of ROLES.entries())
      for (const [need, needed] of ROLES.entries()) expect(mayActAs(identity({ role }), needed)).toBe(have >= need);
  });

  it.each([
    [null, "shop", true],
    [null, undefined, true],
    ["shop", "shop", true],
    ["shop", "blog", false],
    ["shop", undefined, false],
  ])("keeps a token of %s in its app (asked for %s)", (app, wanted, expected) => {
    expect(mayActAs(identity({ role: "admin", app }), "viewer", wanted)).toBe(expected);
  });
});
