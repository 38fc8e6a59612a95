import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readEvents } from "../events/event-stream.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { createApp, getApp, removeApp } from "./apps.ts";
import type { PushedRef } from "./change.ts";
import { recordManualChange, recordMissedPushes, recordPush } from "./record-push.ts";
import { gitRepositories, type Repositories } from "./repositories.ts";
import { commitTo } from "./testing.ts";

let store: Store;
let dir: string;
let repositories: Repositories;
let app: string;
let apps = 0;
beforeAll(async () => {
  store = await newTestStore();
  dir = await mkdtemp(join(tmpdir(), "shipway-record-"));
  repositories = gitRepositories({ dir });
});
afterAll(async () => {
  await store?.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  app = `shop${++apps}`;
  await createApp(store.db, repositories, app, "ada");
});

const commit = (message = "Change", more: { ref?: string; parent?: string } = {}) =>
  commitTo(repositories, app, { message, ...more });
const main = (newCommit: string | undefined, oldCommit?: string): PushedRef => ({
  ref: "refs/heads/main",
  refKind: "branch",
  refName: "main",
  oldCommit,
  newCommit,
  forced: false,
});
const push = (refs: PushedRef[], options: string[] = []) =>
  recordPush(store.db, repositories, { app, actor: "ada", refs, options });
const changes = () => store.db.selectFrom("changes").selectAll().where("app", "=", app).orderBy("created_at").execute();
const recordedRef = async () =>
  (await store.db.selectFrom("refs").selectAll().where("app", "=", app).executeTakeFirst())?.commit;

describe("recordPush", () => {
  it("makes one change of a push, however often it is recorded", async () => {
    const id = await commit("Sell shoes");
    expect((await push([main(id)])).changes).toMatchObject([
      { commit: id, refName: "main", subject: "Sell shoes", actor: "ada" },
    ]);
    expect((await push([main(id)])).changes).toEqual([]);
    expect(await changes()).toMatchObject([{ commit: id, author: "Ada", skip_ci: false, only_environment: null }]);
  });

  it("makes one change when the same push is recorded twice at once", async () => {
    const id = await commit();
    await Promise.all([push([main(id)]), push([main(id)])]);
    expect(await changes()).toHaveLength(1);
  });

  it("keeps the newer commit when two pushes of one ref are recorded in the wrong order", async () => {
    const first = await commit("first");
    const second = await commit("second", { parent: first });
    await push([main(second, first)]);
    await push([main(first)]);
    expect(await recordedRef()).toBe(second);
    await recordMissedPushes(store.db, repositories);
    expect((await changes()).map(({ subject }) => subject).sort()).toEqual(["first", "second"]);
  });

  it.each([
    ["Fix a word [skip ci]", [], true],
    ["Fix a word\n\nlater in the text [CI SKIP]", [], true],
    ["Fix a word", ["skip-ci"], true],
    ["Talk about skip ci", [], false],
  ])("sees in %j with options %j that tests are to be skipped: %s", async (message, options, expected) => {
    await push([main(await commit(message))], options);
    expect((await changes())[0]?.skip_ci).toBe(expected);
  });

  it("forgets a ref that was deleted, and delivers it anew when it comes back", async () => {
    const id = await commit();
    await push([main(id)]);
    await repositories.git.run([`--git-dir=${repositories.dirOf(app)}`, "update-ref", "-d", "refs/heads/main"]);
    const { changes: none, remarks } = await push([main(undefined, id)]);
    expect([none, remarks]).toEqual([[], ["Branch main is deleted; nothing runs for it."]]);
    await commitTo(repositories, app, { message: "Change" });
    expect((await push([main(id)])).changes).toHaveLength(1);
  });
});

describe("recordMissedPushes", () => {
  it("delivers what git stored and nobody recorded, once", async () => {
    const first = await commit("first");
    await push([main(first)]);
    await commit("missed", { parent: first });
    await recordMissedPushes(store.db, repositories);
    await recordMissedPushes(store.db, repositories);
    expect((await changes()).map(({ subject, actor }) => [subject, actor])).toEqual([
      ["first", "ada"],
      ["missed", "shipway"],
    ]);
  });

  it("goes on with the other apps when one has lost its repository", async () => {
    await repositories.remove(app);
    app = `shop${++apps}`;
    await createApp(store.db, repositories, app, "ada");
    await commit("missed");
    await recordMissedPushes(store.db, repositories);
    expect(await changes()).toHaveLength(1);
  });
});

it("records a deployment by hand for one environment, without touching what was seen of the refs", async () => {
  const id = await commit("By hand");
  const wanted = { app, commit: id, refName: "main", environment: "staging", actor: "bob" };
  expect(await recordManualChange(store.db, repositories, wanted)).toMatchObject({ subject: "By hand", actor: "bob" });
  expect(await changes()).toMatchObject([{ only_environment: "staging" }]);
  expect(await recordedRef()).toBeUndefined();
  for (const ref of ["refs/tags/v1", "refs/tags/main"]) await commitTo(repositories, app, { ref });
  const kinds = ["v1", "main"].map((refName) => recordManualChange(store.db, repositories, { ...wanted, refName }));
  expect((await Promise.all(kinds)).map(({ refKind }) => refKind)).toEqual(["tag", "branch"]);
});

describe("an app", () => {
  it("is created once, with its repository", async () => {
    expect(await repositories.exists(app)).toBe(true);
    await expect(createApp(store.db, repositories, app, "ada")).rejects.toMatchObject({ code: "APP_EXISTS" });
  });

  it.each(["", "Shop", "-shop", "shop_1", "../shop", "s".repeat(31)])("cannot be named %j", async (name) => {
    await expect(createApp(store.db, repositories, name, "ada")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
  });

  it("is gone with its repository and history once removed, and its name is free again; what happened stays on the record", async () => {
    await push([main(await commit())]);
    await removeApp(store.db, repositories, app, "ada");
    await expect(getApp(store.db, app)).rejects.toMatchObject({ code: "APP_NOT_FOUND" });
    expect([await repositories.exists(app), await changes()]).toEqual([false, []]);
    await createApp(store.db, repositories, app, "bob");
    const events = await readEvents(store.db, { app });
    expect(events.map(({ kind, actor }) => [kind, actor])).toEqual([
      ["app.created", "ada"],
      ["app.removed", "ada"],
      ["app.created", "bob"],
    ]);
  });
});
