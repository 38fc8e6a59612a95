import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { declareEnvironment } from "../environment/environments.ts";
import { gitRepositories } from "../source/repositories.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { endDeployment, requestDeployment } from "./deployments.ts";
import { requestPromotion } from "./promotion.ts";
import { getRelease, imagesToKeep, KEPT_RELEASES, recordRelease } from "./releases.ts";
import { addressesOf, type ReleaseRecord, resolveRelease } from "./resolve-release.ts";
import { previousGood, requestRollback } from "./rollback.ts";
import { forgetPublished, registriesOf } from "./runtimes.ts";

const spec = parseAppSpec(`
app: shop
services:
  web: { build: {}, port: 3000, domains: [shop.example] }
  api: { build: {}, port: 4000 }
  job: { build: {} }
environments:
  production: { branch: main }
  staging: { branch: "**", services: { web: { domains: [] } } }
`);
/** Git is asked only where releases need an approval. */
const repositories = gitRepositories({ dir: "/nowhere" });
const imagesOf = (number: number) =>
  ["job", "api", "web"].map((service) => ({
    service,
    name: `shop/${service}:${number}`,
    digest: `sha256:${service}${number}`,
    reused: false,
  }));
const recordOf = (number: number): ReleaseRecord => ({
  app: "shop",
  number,
  commit: "c".repeat(40),
  refName: "main",
  subject: "s",
  author: "Ada",
  createdAt: new Date(0),
  spec,
  images: imagesOf(number),
});

describe("resolveRelease", () => {
  it("gives the same for the same record, in the user's order of services, with the digest that was built", () => {
    const first = resolveRelease(recordOf(7), "production");
    expect(resolveRelease(structuredClone(recordOf(7)), "production")).toEqual(first);
    expect(first.release.services.map(({ name, image }) => [name, image])).toEqual([
      ["web", "sha256:web7"],
      ["api", "sha256:api7"],
      ["job", "sha256:job7"],
    ]);
    expect(first.release.services[0]?.env).toMatchObject({ SHIPWAY_RELEASE: "r7", SHIPWAY_ENVIRONMENT: "production" });
  });

  it.each([
    ["production", 80, ["http://shop.example", "http://api.production.shop.localhost"]],
    ["production", 8080, ["http://shop.example:8080", "http://api.production.shop.localhost:8080"]],
    ["staging", 80, ["http://web.staging.shop.localhost", "http://api.staging.shop.localhost"]],
  ])("leads to one address per service that a browser can open: %s at %i", (environment, port, expected) => {
    expect(addressesOf(resolveRelease(recordOf(1), environment).release, port)).toEqual(expected);
  });

  it("runs every service in an environment that was declared after it was made, at default addresses alone", () => {
    const { release } = resolveRelease(recordOf(1), "demo");
    expect(release.services.map(({ name }) => name)).toEqual(["web", "api", "job"]);
    expect(addressesOf(release, 80)).toEqual(["http://web.demo.shop.localhost", "http://api.demo.shop.localhost"]);
  });
});

describe("previousGood", () => {
  const deploy = (release: number) => ({ kind: "deploy" as const, release });
  const rollback = (release: number) => ({ kind: "rollback" as const, release });
  it.each([
    ["nothing served yet", [], null, undefined],
    ["the first release", [deploy(1)], 1, undefined],
    ["the one before", [deploy(1), deploy(2)], 2, 1],
    ["the same release deployed again", [deploy(1), deploy(2), deploy(2)], 2, 1],
    ["further back after a rollback", [deploy(1), deploy(2), deploy(3), rollback(2)], 2, 1],
    ["nowhere after the last rollback", [deploy(1), deploy(2), rollback(1)], 1, undefined],
    ["not what was rolled back from", [deploy(1), deploy(2), rollback(1), deploy(3)], 3, 1],
    ["what served before an older release was promoted", [deploy(1), deploy(2), deploy(1)], 1, 2],
    ["a release that no history knows", [deploy(2), rollback(1)], 1, 2],
    ["the last good one when a bad one is stuck live", [deploy(1), deploy(2)], 3, 2],
  ])("is %s", (_, history, live, expected) => {
    expect(previousGood(history, live)).toBe(expected);
  });
});

describe("releases in the store", () => {
  let store: Store;
  beforeAll(async () => {
    store = await newTestStore();
  });
  afterAll(() => store?.close());
  beforeEach(async () => {
    await store.db.deleteFrom("apps").execute();
    await store.db.insertInto("apps").values({ name: "shop" }).execute();
  });

  const place = { app: "shop", environment: "production" };
  async function record(changeId: string): Promise<number> {
    const change = {
      id: changeId,
      app: "shop",
      refKind: "branch" as const,
      refName: "main",
      commit: "c".repeat(40),
      subject: "s",
      actor: "ada",
      author: "Ada",
    };
    await store.db
      .insertInto("changes")
      .values({
        id: changeId,
        app: "shop",
        ref_kind: "branch",
        ref_name: "main",
        commit: change.commit,
        previous_commit: null,
        subject: "s",
        author: "Ada",
        actor: "ada",
        skip_ci: false,
        only_environment: null,
        ended_at: null,
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return recordRelease(store.db, change, spec, imagesOf(Number(changeId.slice(2))));
  }
  async function deployed(release: number, standby: number | null = null) {
    const request = { ...place, release, kind: "deploy" as const, actor: "ada", deliveryId: `c_${release}` };
    const { id } = await store.db.transaction().execute((tx) => requestDeployment(tx, request));
    await endDeployment(store.db, id, {
      status: "succeeded",
      live: release,
      standby,
      standbyMs: 1_000,
      phases: [],
      evidence: [],
      rolledBack: false,
    });
  }

  it("are numbered from 1 without a gap, one per change, however often the step is repeated", async () => {
    expect([await record("c_1"), await record("c_1"), await record("c_2"), await record("c_1")]).toEqual([1, 1, 2, 1]);
    const atOnce = await Promise.all([record("c_3"), record("c_3")]);
    expect(atOnce).toEqual([3, 3]);
    expect(await getRelease(store.db, "shop", 2)).toMatchObject({ number: 2, images: imagesOf(2), spec });
  });

  it("keep the images of the newest, and of every one that runs or stands by", async () => {
    const total = KEPT_RELEASES + 4;
    for (let n = 1; n <= total; n++) await record(`c_${n}`);
    await deployed(1);
    await deployed(3, 1);
    const kept = new Set((await imagesToKeep(store.db, "shop")).map((name) => Number(name.split(":")[1])));
    expect([...kept].sort((a, b) => a - b)).toEqual([1, 3, ...Array.from({ length: KEPT_RELEASES }, (_, n) => n + 5)]);
  });

  it("keep the images of one that a deployment is about to start, and of the one it would go back to", async () => {
    for (let n = 1; n <= KEPT_RELEASES + 4; n++) await record(`c_${n}`);
    await deployed(2);
    const image = (n: number) => ({
      app: "shop",
      service: "web",
      digest: `sha256:web${n}`,
      registry: "1.eu",
      reference: `r${n}`,
    });
    await store.db.insertInto("published_images").values([1, 2, 3, 4, 14].map(image)).execute();
    const request = { ...place, release: 3, kind: "deploy" as const, actor: "ada", deliveryId: "c_3" };
    await store.db.transaction().execute((tx) => requestDeployment(tx, request));
    const kept = await forgetPublished(store.db, "shop");
    expect(kept).toEqual(expect.arrayContaining(["sha256:web2", "sha256:web3", "sha256:web14"]));
    expect(kept).not.toContain("sha256:web4");
    const rows = await store.db.selectFrom("published_images").select("digest").orderBy("digest").execute();
    expect(rows.map(({ digest }) => digest)).toEqual(["sha256:web14", "sha256:web2", "sha256:web3"]);
    expect(await registriesOf(store.db, "shop")).toEqual(["1.eu"]);
  });

  it("keep what images that were built elsewhere are in a registry, and tell which registries those are", async () => {
    const reference = `123456789012.dkr.ecr.eu-west-1.amazonaws.com/shipway/i/shop/web@sha256:${"a".repeat(64)}`;
    const foreign = `210987654321.dkr.ecr.eu-west-1.amazonaws.com/team/cache@sha256:${"b".repeat(64)}`;
    const images = [
      { service: "web", name: "shipway/shop/web:1", digest: `sha256:${"a".repeat(64)}`, reference, reused: false },
      { service: "cache", name: foreign, digest: `sha256:${"b".repeat(64)}`, reference: foreign, reused: true },
    ];
    await record("c_1");
    await store.db
      .updateTable("releases")
      .set({ images: JSON.stringify(images) })
      .where("number", "=", 1)
      .execute();
    const row = (digest: string) => ({
      app: "shop",
      service: "web",
      digest,
      registry: "engine",
      reference: "sha256:c",
    });
    await store.db
      .insertInto("published_images")
      .values([row(reference), row("gone@sha256:0")])
      .execute();
    expect(await forgetPublished(store.db, "shop")).toEqual([reference, foreign]);
    const left = await store.db.selectFrom("published_images").select("digest").execute();
    expect(left).toEqual([{ digest: reference }]);
    expect(await registriesOf(store.db, "shop")).toEqual(["123456789012.eu-west-1"]);
  });

  it("are gone back to without naming one, once", async () => {
    for (const n of [1, 2]) await record(`c_${n}`).then(() => deployed(n, n === 1 ? null : 1));
    const { deploymentId, start } = await requestRollback(store.db, place, undefined, "ada");
    expect(start).toBe(deploymentId);
    const row = await store.db.selectFrom("deployments").selectAll().where("id", "=", deploymentId).executeTakeFirst();
    expect(row).toMatchObject({ kind: "rollback", release: 1, actor: "ada" });
  });

  it.each([
    [undefined, "RELEASE_NOT_RESTORABLE", /r1 is the first/],
    [1, "RELEASE_NOT_RESTORABLE", /serves in production already/],
    [9, "RELEASE_NOT_FOUND", /no release r9/],
  ])("are not gone back to when that makes no sense (to %s)", async (to, code, message) => {
    await record("c_1");
    await deployed(1);
    await expect(requestRollback(store.db, place, to, "ada")).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it("are promoted to, and gone back to in, an environment that was declared after them", async () => {
    for (const n of [1, 2]) await record(`c_${n}`);
    const demo = { app: "shop", environment: "demo" };
    await declareEnvironment(store.db, demo, { branch: null, tag: null }, "ada");
    for (const n of [1, 2]) {
      const { deploymentId, start } = await requestPromotion({ db: store.db, repositories }, demo, n, "ada");
      expect(start).toBe(deploymentId);
      await endDeployment(store.db, deploymentId, {
        status: "succeeded",
        live: n,
        standby: null,
        standbyMs: 0,
        phases: [],
        evidence: [],
        rolledBack: false,
      });
    }
    const { start } = await requestRollback(store.db, demo, undefined, "ada");
    expect(start).toMatch(/^d_/);
  });

  it("are neither promoted nor gone back to where they declare no such environment", async () => {
    await record("c_1");
    await record("c_2");
    await deployed(2);
    const elsewhere = { app: "shop", environment: "preview" };
    await expect(requestPromotion({ db: store.db, repositories }, elsewhere, 1, "ada")).rejects.toMatchObject({
      code: "ENVIRONMENT_NOT_FOUND",
    });
    await store.db
      .updateTable("releases")
      .set({ spec: JSON.stringify({ ...spec, environments: { staging: {} } }) })
      .where("number", "=", 1)
      .execute();
    await expect(requestRollback(store.db, place, 1, "ada")).rejects.toMatchObject({ code: "RELEASE_NOT_RESTORABLE" });
  });
});
