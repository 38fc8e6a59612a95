import { mkdir, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createToken } from "../access/tokens.ts";
import { appendEvent } from "../events/event-stream.ts";
import { deploy } from "../flow.ts";
import { getChange } from "../release/deliveries.ts";
import { getDeployment, requestDeployment } from "../release/deployments.ts";
import { getRelease, recordRelease } from "../release/releases.ts";
import { runProgram } from "../shared/run-program.ts";
import { createApp } from "../source/apps.ts";
import { getInfraRepository } from "../source/infra-repositories.ts";
import { recordManualChange } from "../source/record-push.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { newDeploymentStages } from "../workflow/deployment-stages.ts";
import { recordInfraPush, recordMissedInfraPushes } from "../workflow/infra-push.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";
import { serveGit } from "./serve-git.ts";
import { newTestPlatform } from "./testing.ts";

let test: InfraTest;
let token: string;
beforeEach(async () => {
  if (!hasTerraform) return;
  test = await newInfraTest();
  token = await test.tokenFor("developer", "shop");
});
afterEach(() => test?.close());

const PRODUCTION = { app: "shop", environment: "production" };
const QUIET = { info: () => undefined, warn: () => undefined, error: console.error };
const MAIN = (size: string, more = "") =>
  `resource "terraform_data" "disk" { input = "disk-${size}" }\noutput "disk" { value = terraform_data.disk.output }\n${more}`;
const WHO = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];

type Checkout = { dir: string; commit(files: Record<string, string>): Promise<string> };

async function newCheckout(name: string): Promise<Checkout> {
  const dir = join(test.dir, name);
  await runProgram(["git", "init", "--quiet", "--initial-branch=main", dir]);
  return {
    dir,
    async commit(files) {
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(dir, path)), { recursive: true });
        await writeFile(join(dir, path), text);
      }
      await runProgram(["git", "add", "--all"], { cwd: dir });
      await runProgram(["git", ...WHO, "commit", "--quiet", "--allow-empty", "--message", "Change"], { cwd: dir });
      return (await runProgram(["git", "rev-parse", "HEAD"], { cwd: dir })).stdout.trim();
    },
  };
}

const addressOf = (apiUrl: string, repository: string, password: string) =>
  `${apiUrl.replace("//", `//x:${password}@`)}/git/${repository}.git`;

/** What `git push` shows its user. */
async function push(checkout: Checkout, refs = "main", options: string[] = [], by = token): Promise<string> {
  const url = addressOf(test.platform.infra.apiUrl, "shop-infra", by);
  const argv = ["git", "push", "--force", ...options.flatMap((one) => ["-o", one]), url, ...refs.split(" ")];
  return (await runProgram(argv, { cwd: checkout.dir })).stderr;
}

const runs = () => test.ask<InfraRunView[]>("GET", "/api/apps/shop/infra/runs");
const outputs = async () => (await test.infra()).outputs.map(({ value }) => value);
const makeRepository = (name = "shop-infra") => test.ask("POST", "/api/apps/shop/infra/repositories", { name });

/** Records a release with this `infra`, and deploys it with the real stages onto tasks in memory. */
async function deployed(infra: object) {
  const { platform, deps } = test;
  const { db } = platform.store;
  const text = JSON.stringify({ ...JSON.parse(specWith(infra)), bake: "0s" });
  const commit = await test.commit({ "shipway.yml": text });
  const wanted = { ...PRODUCTION, commit, refName: "main", actor: "ada" };
  const { id: deliveryId } = await recordManualChange(db, platform.repositories, wanted);
  const change = await getChange(db, deliveryId);
  const image = { service: "web", name: "shipway/shop/web:1", digest: "sha256:1", reused: false };
  const release = await recordRelease(db, change, parseAppSpec(text), [image]);
  const request = { ...PRODUCTION, release, kind: "deploy" as const, actor: "ada", deliveryId };
  const { id } = await db.transaction().execute((tx) => requestDeployment(tx, request));
  const stages = newDeploymentStages(
    { ...platform, ...deps, targetOf: () => platform.target, startDeployment: async () => undefined, log: QUIET },
    (_name, work) => work(),
  );
  await deploy(id, stages);
  return getDeployment(db, id);
}

describe.skipIf(!hasTerraform)("a hosted infra repository (with the real Terraform)", () => {
  const spec = { repository: "shop-infra", dir: "stack", outputs: { DISK: "disk" } };

  it("is applied by a push to the ref that an environment uses, planned by any other, and makes no delivery", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    const first = await checkout.commit({ "stack/main.tf": MAIN("one") });
    expect(await push(checkout)).toContain("No environment of shop uses shop-infra yet");
    expect(await runs()).toEqual([]);

    const deployment = await deployed(spec);
    expect(deployment).toMatchObject({ status: "succeeded", problem: null });
    expect(deployment.infra).toMatchObject({ repository: "shop-infra", commit: first });
    expect(await test.infra()).toMatchObject({ applied: { repository: "shop-infra", commit: first } });

    const second = await checkout.commit({ "stack/main.tf": MAIN("two") });
    const pushed = await push(checkout);
    expect(pushed).toContain(`→ infra of production  shop-infra main ${second.slice(0, 7)}`);
    expect(pushed).toContain("✓ terraform_data.disk changed");
    expect(pushed).toContain("✓ infra of production applied");
    expect(pushed).toContain("services get the new disk with the next release");
    const { commit: live } = await getRelease(test.platform.store.db, "shop", deployment.release);
    expect(pushed).toContain(`\`shipway deploy --app shop --env production --ref ${live.slice(0, 12)}\``);
    expect(await outputs()).toEqual(["disk-two"]);

    await checkout.commit({ "README.md": "What this is" });
    expect(await push(checkout)).toContain("production: nothing that it applies has changed.");
    await checkout.commit({ "stack/main.tf": MAIN("three") });
    const planned = await push(checkout, "HEAD:refs/heads/bigger");
    expect(planned).toContain("bigger is planned and not applied: production uses main.");
    expect(planned).toContain("✓ plan: 1 to change");
    expect(await outputs()).toEqual(["disk-two"]);
    expect((await runs()).map(({ kind, actor, repository }) => [kind, actor, repository])).toEqual([
      ["plan", "developer-shop", "shop-infra"],
      ["apply", "developer-shop", "shop-infra"],
      ["apply", "ada", "shop-infra"],
    ]);
    const changes = await test.platform.store.db.selectFrom("changes").select("commit").execute();
    expect(changes).toHaveLength(1);
    expect(test.started).toEqual([]);
  });

  it("runs a deployment's Terraform only when its commit or the inputs changed", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    await deployed(spec);
    expect((await deployed(spec)).infra?.runId).toBe((await runs())[0]?.id);
    expect(await runs()).toHaveLength(1);
    const next = await checkout.commit({ "stack/main.tf": MAIN("two") });
    await push(checkout, "main", ["skip-ci"]);
    expect(await runs()).toHaveLength(1);
    expect((await deployed(spec)).infra).toMatchObject({ commit: next, runId: (await runs())[0]?.id });
    await deployed({ ...spec, ref: "main" });
    expect(await runs()).toHaveLength(3);
  });

  it("holds a push that destroys something at the gate; who pushed the commit is its author, whoever asked for the run", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one", 'resource "terraform_data" "old" {}\n') });
    await push(checkout);
    await deployed(spec);
    const commit = await checkout.commit({ "stack/main.tf": MAIN("one") });
    const pushed = await push(checkout);
    expect(pushed).toContain("waits for an approval: it destroys terraform_data.old");
    const [waiting] = await runs();
    expect(pushed).toContain(`shipway infra approve ${waiting?.id}`);
    await test.ask("POST", `/api/infra/runs/${waiting?.id}/cancel`);
    const own = await test.run({ kind: "apply" });
    expect(own).toMatchObject({ status: "waiting", commit, actor: "admin" });
    const tester = (name: string) => createToken(test.platform.store.db, { name, role: "tester", app: "shop" }, "test");
    const [pusher, grace] = [await tester("developer-shop"), await tester("grace")];
    const approve = (by: { token: string }) =>
      test.server.inject({
        method: "POST",
        url: `/api/infra/runs/${own.id}/approve`,
        headers: { authorization: `Bearer ${by.token}` },
      });
    expect((await approve(pusher)).json().error).toMatchObject({ code: "INFRA_APPROVAL_REFUSED" });
    expect((await approve(grace)).statusCode).toBe(202);
    expect((await test.settled(own.id)).status).toBe("succeeded");
  });

  it("is the measure of drift, and what puts things back, at the commit that was applied, also when that was pushed over", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    const applied = (await deployed(spec)).infra?.commit ?? "";
    await runProgram(["git", "checkout", "--quiet", "--orphan", "anew"], { cwd: checkout.dir });
    await checkout.commit({ "stack/main.tf": MAIN("two") });
    await push(checkout, "anew:main", ["skip-ci"]);
    const bare = test.platform.repositories.dirOf("shop-infra");
    await runProgram(["git", `--git-dir=${bare}`, "reflog", "expire", "--expire=now", "--all"]);
    await runProgram(["git", `--git-dir=${bare}`, "gc", "--quiet", "--prune=now"]);
    expect(await test.run({ kind: "drift" })).toMatchObject({ status: "succeeded", commit: applied });
    expect(await test.run({ kind: "apply", again: true })).toMatchObject({ status: "succeeded", commit: applied });
    expect(await outputs()).toEqual(["disk-one"]);
    expect(await test.run({ kind: "apply", ref: "main" })).toMatchObject({ status: "succeeded" });
    expect(await outputs()).toEqual(["disk-two"]);
  });

  it("plans and does not apply where the environment is frozen", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    await deployed(spec);
    await test.platform.store.db
      .updateTable("environments")
      .set({ frozen_reason: "rolled back to r3", frozen_at: new Date() })
      .execute();
    await checkout.commit({ "stack/main.tf": MAIN("two") });
    expect(await push(checkout)).toContain("production is frozen (rolled back to r3)");
    expect(await outputs()).toEqual(["disk-one"]);
  });

  it("finds a push that was stored and not recorded, once", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    await deployed(spec);
    const missed = await checkout.commit({ "stack/main.tf": MAIN("two") });
    await runProgram(["git", "push", "--quiet", test.platform.repositories.dirOf("shop-infra"), "main"], {
      cwd: checkout.dir,
    });
    const { platform } = test;
    const deps = { db: platform.store.db, ...platform, code: platform.infra.code };
    for (let start = 0; start < 2; start++) await recordMissedInfraPushes(deps, QUIET);
    expect((await runs()).map(({ commit, actor, status }) => [commit, actor, status])).toEqual([
      [missed, "shipway", "running"],
      [expect.any(String), "ada", "succeeded"],
    ]);
    await test.resume({ workflow: "infra", id: (await runs())[0]?.id ?? "" });
    expect(await outputs()).toEqual(["disk-two"]);
  });

  it("applies the later of two quick pushes, whichever is recorded first", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    const base = await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    await deployed(spec);
    const [earlier, later] = [
      await checkout.commit({ "stack/main.tf": MAIN("two") }),
      await checkout.commit({ "stack/main.tf": MAIN("three") }),
    ];
    const { platform } = test;
    await runProgram(["git", "push", "--quiet", platform.repositories.dirOf("shop-infra"), "main"], {
      cwd: checkout.dir,
    });
    const repository = await getInfraRepository(platform.store.db, "shop", "shop-infra");
    const record = (oldCommit: string, newCommit: string) =>
      recordInfraPush({ db: platform.store.db, ...platform, code: platform.infra.code }, repository, {
        actor: "ada",
        options: [],
        refs: [{ ref: "refs/heads/main", refKind: "branch", refName: "main", oldCommit, newCommit, forced: false }],
      });
    expect((await record(base, earlier)).runs).toEqual([]);
    expect((await record(earlier, later)).runs).toMatchObject([{ kind: "apply" }]);
    expect((await record(base, earlier)).runs).toEqual([]);
    expect((await record(earlier, later)).runs).toEqual([]);
    expect((await runs())[0]).toMatchObject({ commit: later });
  });

  it("says why nothing runs in an environment, and runs nothing in one that was removed", async () => {
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await push(checkout);
    await deployed(spec);
    await runProgram(["git", "mv", "stack", "moved"], { cwd: checkout.dir });
    await checkout.commit({});
    const pushed = await push(checkout);
    expect(pushed).toMatch(/production: There is no folder stack at [0-9a-f]{7}\./);
    expect(pushed).toContain("→ Commit the Terraform files there");
    expect(await runs()).toHaveLength(1);
    await appendEvent(
      test.platform.store.db,
      { ...PRODUCTION, subject: "environment:production", actor: "ada" },
      { kind: "environment.removed", data: { dataKept: false } },
    );
    await runProgram(["git", "mv", "moved", "stack"], { cwd: checkout.dir });
    await checkout.commit({ "stack/main.tf": MAIN("two") });
    expect(await push(checkout)).toContain("No environment of shop uses shop-infra yet");
  });

  it("belongs to one app: its roles open it, another app's do not, and its name is nobody else's", async () => {
    const { db } = test.platform.store;
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": MAIN("one") });
    await createApp(db, test.platform.repositories, "blog", "ada");
    const [viewer, stranger] = [await test.tokenFor("viewer", "shop"), await test.tokenFor("admin", "blog")];
    await expect(push(checkout, "main", [], viewer)).rejects.toThrow("takes the role developer");
    await expect(push(checkout, "main", [], stranger)).rejects.toThrow(/There is no app shop-infra here|not found/);
    await push(checkout);

    await test.commit({ "shipway.yml": specWith({ ...spec, repository: "shop-infra" }) });
    expect((await test.run({ kind: "plan" })).status).toBe("succeeded");
    await test.ask("POST", "/api/apps/blog/infra/repositories", { name: "blog-infra" });
    await test.commit({ "shipway.yml": specWith({ ...spec, repository: "blog-infra" }) });
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/runs`, { kind: "plan" })).toMatchObject({
      code: "INFRA_REPOSITORY_NOT_FOUND",
      message: "App shop has no infra repository blog-infra.",
    });

    for (const name of ["shop", "blog-infra", "shop-infra"])
      expect(await test.tryAsk("POST", "/api/apps/shop/infra/repositories", { name })).toMatchObject({
        code: "INFRA_REPOSITORY_EXISTS",
      });
    expect(await test.tryAsk("POST", "/api/apps", { name: "blog-infra" })).toMatchObject({ code: "APP_EXISTS" });
  });

  it("is removed only when nothing is applied from it, and goes with its app", async () => {
    const { repositories, store } = test.platform;
    await makeRepository();
    const checkout = await newCheckout("infra");
    await checkout.commit({ "stack/main.tf": "" });
    await push(checkout);
    await deployed({ ...spec, outputs: {} });
    const remove = (path: string) =>
      test.server.inject({
        method: "DELETE",
        url: path,
        headers: { authorization: `Bearer ${adminToken}` },
      });
    const adminToken = await test.tokenFor("admin");
    const refused = await remove("/api/apps/shop/infra/repositories/shop-infra");
    expect(refused.json().error).toMatchObject({ code: "INFRA_REPOSITORY_IN_USE" });
    expect(refused.json().error.message).toContain("production is applied from it");
    await makeRepository("spare");
    expect((await remove("/api/apps/shop/infra/repositories/spare")).statusCode).toBe(204);
    expect(await repositories.exists("spare")).toBe(false);
    await test.idle();
    expect((await remove("/api/apps/shop")).statusCode).toBe(200);
    expect(await repositories.exists("shop-infra")).toBe(false);
    expect(await store.db.selectFrom("infra_refs").selectAll().execute()).toEqual([]);
  });
});

describe.skipIf(!hasTerraform)("a connected infra repository (with the real Terraform)", () => {
  it("is fetched with a token that nothing shows; when it is away, a deployment stops, and what is applied is still watched", async () => {
    const host = await newTestPlatform();
    await serveGit(host.server, host.platform, QUIET);
    await host.server.listen({ port: 0, host: "127.0.0.1" });
    const url = `http://127.0.0.1:${(host.server.server.address() as AddressInfo).port}`;
    await createApp(host.platform.store.db, host.platform.repositories, "infra", "ada");
    const checkout = await newCheckout("connected");
    const first = await checkout.commit({ "main.tf": MAIN("one") });
    const writer = addressOf(url, "infra", await host.tokenFor("developer"));
    const pushThere = () =>
      runProgram(["git", "push", "--quiet", "-o", "no-wait", writer, "main"], { cwd: checkout.dir });
    await pushThere();

    const spec = { repository: `${url}/git/infra.git`, dir: ".", credential: "INFRA_TOKEN", outputs: { DISK: "disk" } };
    const missing = await deployed(spec);
    expect(missing).toMatchObject({ status: "failed", phase: "infra", problem: { code: "SECRET_MISSING" } });
    const secret = await host.tokenFor("viewer");
    await test.platform.secrets.set(PRODUCTION, "INFRA_TOKEN", "not-the-right-one", "ada");
    expect((await deployed(spec)).problem).toMatchObject({ code: "INFRA_REPOSITORY_REFUSED" });
    await test.platform.secrets.set(PRODUCTION, "INFRA_TOKEN", secret, "ada");
    expect(await deployed(spec)).toMatchObject({
      status: "succeeded",
      infra: { repository: spec.repository, commit: first },
    });
    const second = await checkout.commit({ "main.tf": MAIN("two") });
    await pushThere();
    expect((await deployed(spec)).infra?.commit).toBe(second);
    expect(await outputs()).toEqual(["disk-two"]);
    expect(await test.run({ kind: "plan", ref: first })).toMatchObject({ commit: first, refName: first });

    await host.close();
    const away = await deployed(spec);
    expect(away).toMatchObject({ status: "failed", phase: "infra", problem: { code: "INFRA_REPOSITORY_UNREACHABLE" } });
    expect(away.problem?.hint).toContain("deploy again: `shipway deploy");
    expect(await test.run({ kind: "drift" })).toMatchObject({ status: "succeeded", commit: second });
    expect(await test.run({ kind: "apply", again: true })).toMatchObject({ status: "succeeded" });
    expect(await deployed({ ...spec, ref: second })).toMatchObject({ status: "succeeded", infra: { commit: second } });

    const shown = await Promise.all(
      (await runs()).map(async (run) => [
        run,
        await Promise.all(run.logs.map((id) => test.platform.logs.read(id, 0, 500))),
      ]),
    );
    const events = await test.ask("GET", "/api/events?app=shop&limit=500");
    const rows = await test.platform.store.db.selectFrom("deployments").selectAll().execute();
    expect(JSON.stringify([shown, events, rows])).not.toContain(secret);
  });
});
