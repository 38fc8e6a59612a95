import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { lastEventId, readEvents } from "../events/event-stream.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { getVariable, listVariables, removeVariable, resolveVariables, setVariable } from "./variables.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store?.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db
    .insertInto("apps")
    .values([{ name: "shop" }, { name: "blog" }])
    .execute();
});

const production = { app: "shop", environment: "production" };
const set = (name: string, value: string, place = production) => setVariable(store.db, place, name, value, "ada");

it("gives the newest value, or for a rollback exactly what the release ran with", async () => {
  await set("COLOR", "red");
  await set("SIZE", "small");
  const before = await resolveVariables(store.db, production);
  expect(before).toEqual({ values: { COLOR: "red", SIZE: "small" }, versions: { COLOR: 1, SIZE: 1 } });
  await set("COLOR", "blue");
  await set("NEW", "not known then");
  await removeVariable(store.db, production, "SIZE", "ada");
  expect((await resolveVariables(store.db, production)).values).toEqual({ COLOR: "blue", NEW: "not known then" });
  expect(await resolveVariables(store.db, production, before.versions)).toEqual(before);
  expect(await resolveVariables(store.db, production, {})).toEqual({ values: {}, versions: {} });
});

it("makes a new version for a new value only, and goes on counting after a removal", async () => {
  const first = await set("COLOR", "red");
  expect(await set("COLOR", "red")).toEqual(first);
  expect(await set("COLOR", "")).toMatchObject({ value: "", version: 2 });
  await removeVariable(store.db, production, "COLOR", "ada");
  expect(await set("COLOR", "")).toMatchObject({ version: 3 });
});

it("numbers versions without a gap when several set one at once", async () => {
  const all = await Promise.all(["a", "b", "c", "d"].map((value) => set("COLOR", value)));
  expect(all.map(({ version }) => version).sort()).toEqual([1, 2, 3, 4]);
});

it("keeps environments and apps apart, and lists by name", async () => {
  await set("SIZE", "small");
  await set("COLOR", "red");
  await set("COLOR", "of blog", { app: "blog", environment: "production" });
  await set("COLOR", "of staging", { app: "shop", environment: "staging" });
  const listed = await listVariables(store.db, production);
  expect(listed.map(({ name, value }) => [name, value])).toEqual([
    ["COLOR", "red"],
    ["SIZE", "small"],
  ]);
  expect(await getVariable(store.db, production, "SIZE")).toMatchObject({ value: "small", version: 1 });
});

it("says that what is not there is not there", async () => {
  await set("COLOR", "red");
  await removeVariable(store.db, production, "COLOR", "ada");
  const gone = { code: "NOT_FOUND", hint: expect.stringContaining("shipway var list") };
  await expect(getVariable(store.db, production, "COLOR")).rejects.toMatchObject(gone);
  await expect(removeVariable(store.db, production, "COLOR", "ada")).rejects.toMatchObject(gone);
});

it("records who set and removed what, and nothing where nothing changed", async () => {
  const after = await lastEventId(store.db);
  await set("COLOR", "red");
  await set("COLOR", "red");
  await removeVariable(store.db, production, "COLOR", "bob");
  const events = (await readEvents(store.db, { app: "shop", after, limit: 1_000 })).map(({ kind, actor, data }) => [
    kind,
    actor,
    data,
  ]);
  expect(events).toEqual([
    ["variable.set", "ada", { name: "COLOR", version: 1 }],
    ["variable.removed", "bob", { name: "COLOR", version: 1 }],
  ]);
});
