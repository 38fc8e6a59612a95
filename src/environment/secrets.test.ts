import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { readEvents } from "../events/event-stream.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { newestVersions, openValues, pipelineScopes } from "./pipeline-values.ts";
import { newSealer } from "./sealing.ts";
import { newSecrets, type Secrets } from "./secrets.ts";
import { removeVariable, setVariable } from "./variables.ts";

let store: Store;
let secrets: Secrets;
beforeAll(async () => {
  store = await newTestStore();
  secrets = newSecrets(store.db, newSealer(Buffer.alloc(32, 3)));
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
const staging = { app: "shop", environment: "staging" };
const reveal = async (names: string[], versions?: Record<string, number>) => {
  const { values } = await secrets.resolve(production, names, versions);
  return Object.fromEntries(Object.entries(values).map(([name, secret]) => [name, secret.reveal()]));
};

it("gives the newest value, or for a rollback the one that release ran with", async () => {
  await secrets.set(production, "KEY", "first", "ada");
  await secrets.set(production, "KEY", "second", "ada");
  expect(await reveal(["KEY"])).toEqual({ KEY: "second" });
  expect(await reveal(["KEY"], { KEY: 1 })).toEqual({ KEY: "first" });
  expect((await secrets.resolve(production, ["KEY"])).versions).toEqual({ KEY: 2 });
});

it("gives the newest value for a version that was removed since: what somebody took back stays away", async () => {
  await secrets.set(production, "KEY", "leaked", "ada");
  await secrets.remove(production, "KEY", "ada");
  const { version } = await secrets.set(production, "KEY", "safe", "ada");
  expect(version).toBe(2);
  expect(await reveal(["KEY"], { KEY: 1 })).toEqual({ KEY: "safe" });
});

it("names all that are missing at once, with the commands that set them", async () => {
  await secrets.set(production, "KEY", "value", "ada");
  const resolving = secrets.resolve(production, ["KEY", "A", "B"]);
  await expect(resolving).rejects.toMatchObject({ code: "SECRET_MISSING", message: expect.stringContaining("A, B") });
  await expect(resolving).rejects.toMatchObject({
    hint: expect.stringMatching(/secret set A .*\n.*secret set B .*--env production/),
  });
});

it("makes a new version for a new value only, and tells a name's version without its value", async () => {
  const first = await secrets.set(production, "KEY", "value", "ada");
  expect(await secrets.set(production, "KEY", "value", "ada")).toEqual(first);
  expect(await secrets.get(production, "KEY")).toEqual(first);
  expect(first).toEqual({ name: "KEY", version: 1, updatedAt: expect.any(Date) });
  expect(await secrets.set(production, "KEY", "value two", "ada")).toMatchObject({ version: 2 });
  await secrets.remove(production, "KEY", "ada");
  await expect(secrets.get(production, "KEY")).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(await secrets.set(production, "KEY", "value two", "ada")).toMatchObject({ version: 3 });
  await secrets.internal(production, "backing-db");
  await expect(secrets.get(production, "backing-db")).rejects.toMatchObject({ code: "NOT_FOUND" });
});

it("takes a value anew that the key does not open any more", async () => {
  await newSecrets(store.db, newSealer(Buffer.alloc(32, 4))).set(production, "KEY", "value", "ada");
  expect(await secrets.set(production, "KEY", "value", "ada")).toMatchObject({ version: 2 });
  expect(await reveal(["KEY"])).toEqual({ KEY: "value" });
});

it("refuses a value that could not be masked, and keeps nothing of it", async () => {
  await expect(secrets.set(production, "KEY", "abc", "ada")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  expect(await secrets.list(production)).toEqual([]);
});

it("keeps environments and apps apart", async () => {
  await secrets.set(production, "KEY", "of production", "ada");
  await secrets.set(staging, "KEY", "of staging", "ada");
  await secrets.set({ app: "blog", environment: "production" }, "KEY", "of blog", "ada");
  expect((await secrets.all(production)).map((one) => one.reveal())).toEqual(["of production"]);
  expect((await secrets.allOfApp("shop")).map((one) => one.reveal()).sort()).toEqual(["of production", "of staging"]);
});

it("lists names with their newest version, without passwords of its own", async () => {
  await secrets.internal(production, "backing-db");
  for (const value of ["first", "second"]) await secrets.set(production, "KEY", value, "ada");
  expect(await secrets.list(production)).toEqual([{ name: "KEY", version: 2, updatedAt: expect.any(Date) }]);
  expect(await secrets.all(production)).toHaveLength(3);
});

it("numbers versions without a gap when several set one at once", async () => {
  const set = await Promise.all(
    ["a", "b", "c", "d"].map((text) => secrets.set(production, "KEY", `value ${text}`, "ada")),
  );
  expect(set.map(({ version }) => version).sort()).toEqual([1, 2, 3, 4]);
});

it("makes one password for a backing service, also when two ask for it at once", async () => {
  const asked = await Promise.all([1, 2, 3].map(() => secrets.internal(production, "backing-db")));
  const again = await secrets.internal(production, "backing-db");
  expect(new Set([...asked, again].map((one) => one.reveal())).size).toBe(1);
});

it("does not open a value that was copied to another row", async () => {
  await secrets.set(production, "KEY", "of production", "ada");
  await store.db.updateTable("secrets").set({ environment: "staging" }).execute();
  await expect(secrets.resolve(staging, ["KEY"])).rejects.toMatchObject({ code: "SECRET_KEY_WRONG" });
});

it("records who set and removed what, never the value", async () => {
  await secrets.set(production, "KEY", "do-not-show", "ada");
  await secrets.remove(production, "KEY", "bob");
  await expect(secrets.remove(production, "KEY", "bob")).rejects.toMatchObject({ code: "NOT_FOUND" });
  const events = (await readEvents(store.db, { app: "shop", limit: 1_000 })).slice(-2);
  expect(events.map(({ kind, actor, data }) => [kind, actor, data])).toEqual([
    ["secret.set", "ada", { name: "KEY", version: 1 }],
    ["secret.removed", "bob", { name: "KEY", version: 1 }],
  ]);
});

const everyStep = { app: "shop", pipelines: true as const };
const productionSteps = { ...everyStep, environment: "production" };

it("keeps apart what tasks, every pipeline step, and steps with a deployment have", async () => {
  await secrets.set(production, "KEY", "of tasks", "ada");
  await secrets.set(everyStep, "KEY", "of steps", "ada");
  await secrets.set(productionSteps, "KEY", "of deployments", "ada");
  expect(await reveal(["KEY"])).toEqual({ KEY: "of tasks" });
  for (const [scope, value] of [[everyStep, "of steps"] as const, [productionSteps, "of deployments"] as const])
    expect((await secrets.exact(scope, { KEY: 1 })).KEY?.reveal()).toBe(value);
  await secrets.remove(productionSteps, "KEY", "ada");
  expect([await secrets.list(productionSteps), await secrets.list(production)]).toEqual([
    [],
    [expect.objectContaining({ name: "KEY" })],
  ]);
  expect(await pipelineScopes(store.db, "shop")).toEqual([everyStep]);
  await expect(secrets.remove(productionSteps, "KEY", "ada")).rejects.toMatchObject({
    hint: "List them with `shipway secret list --app shop --pipelines --env production`.",
  });
  expect((await readEvents(store.db, { app: "shop", limit: 1_000 })).at(-1)).toMatchObject({
    environment: "production",
    kind: "secret.removed",
    data: { name: "KEY", version: 1, for: "pipelines" },
  });
});

it("ends a pipeline with the values with which it began, also those removed since", async () => {
  const deps = { db: store.db, secrets };
  await secrets.set(everyStep, "KEY", "first", "ada");
  await secrets.set(productionSteps, "OTHER", "other", "ada");
  await setVariable(store.db, everyStep, "COLOR", "red", "ada");
  const versions = await newestVersions(deps, "shop", ["production", "staging"]);
  await secrets.set(everyStep, "KEY", "second", "ada");
  await secrets.set(everyStep, "NEW", "not known then", "ada");
  await secrets.remove(productionSteps, "OTHER", "ada");
  await removeVariable(store.db, everyStep, "COLOR", "ada");
  const { every, deployments } = await openValues(deps, "shop", JSON.parse(JSON.stringify(versions)));
  expect(every.variables).toEqual({ COLOR: "red" });
  expect(Object.values(every.secrets).map((secret) => secret.reveal())).toEqual(["first"]);
  expect(deployments.production?.secrets.OTHER?.reveal()).toBe("other");
});

it.each(["CI", "BITBUCKET_COMMIT", "SHIPWAY_TOKEN"])(
  "refuses %s for pipelines, where Shipway sets it",
  async (name) => {
    const refusal = { code: "REQUEST_INVALID", message: expect.stringContaining(name) };
    await expect(secrets.set(everyStep, name, "long enough", "ada")).rejects.toMatchObject(refusal);
    await expect(setVariable(store.db, productionSteps, name, "x", "ada")).rejects.toMatchObject(refusal);
  },
);
