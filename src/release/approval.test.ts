import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createToken } from "../access/tokens.ts";
import { readEvents } from "../events/event-stream.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import type { Store } from "../store/open-store.ts";
import { newTestStore } from "../store/testing.ts";
import { approveDeployment, endWaitingIn, expireApprovals, rejectDeployment } from "./approval.ts";
import {
  cancelDeployment,
  type DeploymentRequest,
  endDeployment,
  getDeployment,
  requestDeployment,
  requestDeployments,
} from "./deployments.ts";
import { releaseDigest, strictestRule } from "./gate.ts";
import { getRelease, imagesToKeep, KEPT_RELEASES, recordRelease } from "./releases.ts";
import { requestRollback } from "./rollback.ts";

let store: Store;
beforeAll(async () => {
  store = await newTestStore();
});
afterAll(() => store.close());
beforeEach(async () => {
  await store.db.deleteFrom("apps").execute();
  await store.db.deleteFrom("tokens").execute();
  await store.db.insertInto("apps").values({ name: "shop" }).execute();
  for (const [name, role] of [
    ["ada", "tester"],
    ["tess", "tester"],
    ["olga", "operator"],
    ["dev", "developer"],
  ] as const)
    await createToken(store.db, { name, role }, "root");
});

const place = { app: "shop", environment: "production" };
const REQUIRED = "approval: required";

/** A release of ada's commit, whose production has these rules. */
async function released(rules: string): Promise<number> {
  const id = `c_${Math.random()}`;
  const change = { ...CHANGE, id, commit: id.padEnd(40, "0") };
  const { refKind: ref_kind, refName: ref_name, commit, subject, actor, author } = change;
  await store.db
    .insertInto("changes")
    .values({
      id,
      app: "shop",
      ref_kind,
      ref_name,
      commit,
      previous_commit: null,
      subject,
      author,
      actor,
      skip_ci: false,
      only_environment: null,
      ended_at: null,
    })
    .execute();
  const spec = parseAppSpec(
    `app: shop\nservices:\n  web: { image: "web:1", port: 80 }\nenvironments:\n  production: { branch: main, ${rules} }\n`,
  );
  return recordRelease(store.db, change, spec, [
    { service: "web", name: `web:${id}`, digest: `sha256:${id}`, reused: false },
  ]);
}
const CHANGE = {
  app: "shop",
  refKind: "branch" as const,
  refName: "main",
  subject: "Sell",
  author: "Ada",
  actor: "ada",
};

const request = (release: number, more: Partial<DeploymentRequest> = {}) =>
  store.db.transaction().execute((tx) =>
    requestDeployment(tx, {
      ...place,
      release,
      kind: "deploy",
      actor: "ada",
      deliveryId: `c_${Math.random()}`,
      ...more,
    }),
  );
const asked = async (rules = REQUIRED, more: Partial<DeploymentRequest> = {}) => request(await released(rules), more);
const end = (id: string, release: number, status: "succeeded" | "failed" = "succeeded") =>
  endDeployment(store.db, id, {
    status,
    live: release,
    standby: null,
    standbyMs: 0,
    phases: [],
    evidence: [],
    rolledBack: false,
  });
const statusOf = async (...ids: string[]) =>
  Promise.all(ids.map(async (id) => (await getDeployment(store.db, id)).status));
const approve = (id: string, by = "tess") => approveDeployment(store.db, id, by, undefined);
/** A release that was approved and serves. */
async function live(rules = REQUIRED): Promise<number> {
  const { id } = await asked(rules);
  await approve(id);
  const { release } = await getDeployment(store.db, id);
  await end(id, release);
  return release;
}

describe("a deployment to an environment with approval: required", () => {
  it("waits, holding nothing up, until a tester approves it; who did and what exactly is on the record", async () => {
    const { id, start } = await asked();
    expect([start, await statusOf(id)]).toEqual([undefined, ["waiting"]]);
    expect(await approveDeployment(store.db, id, "tess", "tried the checkout")).toBe(id);
    const { status, approval, release } = await getDeployment(store.db, id);
    const digest = releaseDigest(await getRelease(store.db, "shop", release));
    expect(status).toBe("running");
    expect(approval).toMatchObject({ digest, decision: { approved: true, by: "tess", comment: "tried the checkout" } });
    const told = (await readEvents(store.db, { app: "shop", limit: 1_000 })).findLast(
      ({ kind }) => kind === "deployment.approved",
    );
    expect(told).toMatchObject({ actor: "tess", data: { deploymentId: id, digest, by: "tess" } });
  });

  it.each([
    ["who pushed it", REQUIRED, "ada", "ada"],
    ["who pushed it, of somebody else's deployment", REQUIRED, "tess", "ada"],
    ["who asked for the deployment of somebody else's commit", REQUIRED, "tess", "tess"],
    ["who pushed it, where it says others", `${REQUIRED}, approvers: others`, "ada", "ada"],
  ])("is not approved by %s", async (_, rules, actor, by) => {
    const { id } = await asked(rules, { actor });
    await expect(approve(id, by)).rejects.toMatchObject({ code: "APPROVAL_REFUSED" });
    expect(await statusOf(id)).toEqual(["waiting"]);
  });

  it("is approved by who pushed it where anyone may, or where nobody else could and no rule says others", async () => {
    expect(await approve((await asked(`${REQUIRED}, approvers: anyone`)).id, "ada")).toBeDefined();
    await store.db.deleteFrom("tokens").where("name", "in", ["tess", "olga"]).execute();
    await expect(approve((await asked(`${REQUIRED}, approvers: others`)).id, "ada")).rejects.toThrow(
      /nobody else has the role/,
    );
  });

  it("lets one who is alone approve, without a rule", async () => {
    await store.db.deleteFrom("tokens").where("name", "in", ["tess", "olga"]).execute();
    expect(await approve((await asked()).id, "ada")).toBeDefined();
  });

  it("tells what became of it when it is approved twice, or after it was overtaken", async () => {
    const first = await asked();
    const second = await asked();
    expect(await statusOf(first.id, second.id)).toEqual(["superseded", "waiting"]);
    await expect(approve(first.id)).rejects.toMatchObject({
      code: "APPROVAL_REFUSED",
      hint: expect.stringContaining(`\`shipway approve ${second.id}\``),
    });
    await approve(second.id);
    await expect(approve(second.id, "olga")).rejects.toThrow(/tess has approved it at .*its status is running/);
    await expect(rejectDeployment(store.db, second.id, "olga", "no")).rejects.toThrow(/tess has approved it/);
  });

  it("is approved once by two at the same moment", async () => {
    const { id } = await asked();
    const both = await Promise.allSettled([approve(id, "tess"), approve(id, "olga")]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const kinds = (await readEvents(store.db, { app: "shop", limit: 1_000 })).map(({ kind, subject }) => [
      kind,
      subject,
    ]);
    expect(
      kinds.filter(([kind, subject]) => kind === "deployment.started" && subject === `deployment:${id}`),
    ).toHaveLength(1);
  });

  it("ends when it is turned down, with the reason, or canceled, and its delivery with it", async () => {
    const rejected = await asked(REQUIRED, { deliveryId: "c_no" });
    await rejectDeployment(store.db, rejected.id, "tess", "prices are wrong");
    expect(await getDeployment(store.db, rejected.id)).toMatchObject({
      status: "rejected",
      problem: { message: "tess turned it down: prices are wrong" },
    });
    expect((await readEvents(store.db, { deliveryId: "c_no" })).at(-1)).toMatchObject({
      kind: "delivery.ended",
      data: { status: "stopped", at: "approval" },
    });
    const canceled = await asked();
    expect(await cancelDeployment(store.db, canceled.id)).toBe("canceled");
  });

  it("is dropped when nobody approved it in the time that the environment gives", async () => {
    const { id } = await asked(`${REQUIRED}, approvalWithin: 2h`);
    await expireApprovals(store.db, new Date(Date.now() + 7_100_000));
    expect(await statusOf(id)).toEqual(["waiting"]);
    await expireApprovals(store.db, new Date(Date.now() + 7_300_000));
    expect(await statusOf(id)).toEqual(["expired"]);
    await expect(approve(id)).rejects.toMatchObject({ code: "APPROVAL_REFUSED" });
  });

  it("ends with its environment, and no approval brings that back", async () => {
    const { id } = await asked();
    await store.db.transaction().execute(async (tx) => {
      await tx.deleteFrom("environments").execute();
      await endWaitingIn(tx, place, { code: "CANCELED", message: "It was removed." });
    });
    await expect(approve(id)).rejects.toThrow(/it is canceled/);
    expect(await store.db.selectFrom("environments").selectAll().execute()).toEqual([]);
  });

  it("leaves what was approved before it to go live, and overtakes that once it is approved itself", async () => {
    const running = await asked();
    await approve(running.id);
    const queued = await asked();
    await approve(queued.id);
    const waiting = await asked();
    expect(await statusOf(running.id, queued.id, waiting.id)).toEqual(["running", "queued", "waiting"]);
    expect(await approve(waiting.id)).toBeUndefined();
    expect(await statusOf(queued.id, waiting.id)).toEqual(["superseded", "queued"]);
    expect(await end(running.id, 1)).toBe(waiting.id);
  });

  it("waits although its own commit drops the rule: the one that serves still holds", async () => {
    await live();
    const { id } = await asked("approval: none");
    expect(await statusOf(id)).toEqual(["waiting"]);
    await approve(id);
    await end(id, (await getDeployment(store.db, id)).release);
    expect(await statusOf((await asked("approval: none")).id)).toEqual(["running"]);
  });

  it("is tried again under the approval it had when it failed, until something else was tried", async () => {
    const first = await asked();
    await approve(first.id);
    const { release } = await getDeployment(store.db, first.id);
    await end(first.id, release, "failed");
    const again = await request(release, { actor: "dev" });
    expect(await getDeployment(store.db, again.id)).toMatchObject({
      status: "running",
      approval: { decision: { by: "tess" } },
    });
    await end(again.id, release);
    expect(await statusOf((await request(release)).id)).toEqual(["waiting"]);
  });

  it("keeps its images, however many releases come after it", async () => {
    const { id } = await asked();
    const { release } = await getDeployment(store.db, id);
    for (let n = 0; n < KEPT_RELEASES; n++) await released(REQUIRED);
    const { images } = await getRelease(store.db, "shop", release);
    expect(await imagesToKeep(store.db, "shop")).toContain(images[0]?.name);
  });
});

describe("a rollback where releases need an approval", () => {
  it("waits for nobody, and leaves what waits", async () => {
    const first = await live();
    await live();
    const waiting = await asked();
    const { start, deploymentId } = await requestRollback(store.db, place, undefined, "dev");
    expect(start).toBe(deploymentId);
    await end(deploymentId, first);
    expect(await statusOf(deploymentId, waiting.id)).toEqual(["succeeded", "waiting"]);
  });

  it("leads only to what served there: nobody gets around the approval by it", async () => {
    await live();
    const { id } = await asked();
    const { release } = await getDeployment(store.db, id);
    await expect(requestRollback(store.db, place, release, "dev")).rejects.toMatchObject({
      code: "RELEASE_NOT_RESTORABLE",
    });
  });
});

describe("a delivery to several environments", () => {
  it("says once that the rest of it waits, and ends with the last", async () => {
    const release = await released(`${REQUIRED} }\n  staging: { branch: main`);
    const delivery = { app: "shop", deliveryId: "c_both", actor: "ada" };
    const both = ["production", "staging"].map((environment) => ({ environment, release, kind: "deploy" as const }));
    const ask = () => store.db.transaction().execute((tx) => requestDeployments(tx, delivery, both));
    const [production, staging] = await ask();
    await ask();
    const kinds = async () =>
      (await readEvents(store.db, { deliveryId: "c_both" }))
        .map(({ kind }) => kind)
        .filter((kind) => kind.startsWith("delivery"));
    expect(await kinds()).toEqual([]);
    await end(staging?.id ?? "", release);
    expect(await kinds()).toEqual(["delivery.waiting"]);
    await approve(production?.id ?? "");
    await end(production?.id ?? "", release);
    expect(await kinds()).toEqual(["delivery.waiting", "delivery.ended"]);
  });
});

describe("strictestRule", () => {
  it.each([
    [[undefined, undefined], undefined],
    [[{}, undefined], {}],
    [[{ approvers: "anyone" }, {}], {}],
    [[{ approvers: "anyone" }, { approvers: "others" }], { approvers: "others" }],
    [[{ approvers: "anyone" }, undefined], { approvers: "anyone" }],
    [[{ withinMs: 1 }, { withinMs: 2, approvers: "others" }], { withinMs: 1, approvers: "others" }],
  ] as const)("of %j is %j", (rules, expected) => {
    expect(strictestRule(rules)).toEqual(expected);
  });
});
