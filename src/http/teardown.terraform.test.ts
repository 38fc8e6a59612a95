import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createToken } from "../access/tokens.ts";
import { listEnvironments } from "../environment/environments.ts";
import { openRuns, type StartedRun } from "../infra/runs.ts";
import { endDeployment, listDeployments, requestDeployment } from "../release/deployments.ts";
import type { StartedTeardown } from "../release/teardowns.ts";
import { newRelease } from "../rollout/testing.ts";
import { until } from "../shared/until.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { checkNextDue } from "../workflow/drift-loop.ts";
import type { DurableStep } from "../workflow/durable.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";
import type { ApiEvent, Environment, TeardownView } from "./schemas.ts";

if (!hasTerraform) console.warn("SKIPPED: the end of an environment that owns Terraform needs terraform");

const PLACE = { app: "shop", environment: "production" };
const ENVIRONMENT = "/api/apps/shop/environments/production";
const IMAGE = { service: "web", name: "shop/web:1", digest: "shop:1", reused: false };
const MAIN = `
resource "terraform_data" "cluster" { input = "made" }
resource "terraform_data" "db" { depends_on = [terraform_data.cluster] }
`;

describe.skipIf(!hasTerraform)("the end of an environment (with the real Terraform)", () => {
  let test: InfraTest;
  beforeEach(async () => {
    test = await newInfraTest();
  });
  afterEach(() => test?.close());

  /** Applied, and r1 serves there. */
  async function serving(infra: object = {}, main = MAIN): Promise<void> {
    await test.commit({ "shipway.yml": specWith({ dir: "infra", ...infra }), "infra/main.tf": main });
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded" });
    const spec = parseAppSpec(specWith({ dir: "infra", ...infra }));
    const release = {
      ...{ app: "shop", number: 1, change_id: "c", commit: "c", ref_name: "main" },
      subject: "s",
      author: "a",
    };
    await test.platform.store.db
      .insertInto("releases")
      .values({ ...release, spec: JSON.stringify(spec), images: JSON.stringify([IMAGE]) })
      .execute();
    await deploy("c_1");
  }

  async function deploy(deliveryId: string): Promise<void> {
    const { target } = test.platform;
    const id = await requested(deliveryId);
    await target.startService(PLACE, newRelease(1), newRelease(1).services[0] as never, { env: {}, secrets: {} });
    const ended = { live: 1, standby: null, standbyMs: 0, phases: [], evidence: [], rolledBack: false };
    await endDeployment(test.platform.store.db, id, { status: "succeeded", ...ended });
  }

  const requested = async (deliveryId: string) => {
    const request = { ...PLACE, release: 1, kind: "deploy" as const, actor: "ada", deliveryId };
    return (await test.platform.store.db.transaction().execute((tx) => requestDeployment(tx, request))).id;
  };
  const tearDown = (body: object) => test.ask<TeardownView>("POST", `${ENVIRONMENT}/teardowns`, body);
  const look = (id: string) => test.ask<TeardownView>("GET", `/api/teardowns/${id}`);
  const REMOVE = { until: "removed", infra: "destroy" };
  const settled = (id: string) =>
    until(
      "the teardown settling",
      async () => {
        const seen = await look(id);
        return (
          (seen.endedAt !== null || (seen.infraRun !== null && (await run(seen.infraRun)).status === "waiting")) && seen
        );
      },
      { withinMs: 60_000 },
    );
  const ended = (id: string) =>
    until(
      "the teardown ending",
      async () => {
        const seen = await look(id);
        return seen.endedAt !== null && seen;
      },
      { withinMs: 60_000 },
    );
  const run = (id: string) => test.ask<InfraRunView>("GET", `/api/infra/runs/${id}`);
  const approve = (id: string | null) => test.ask("POST", `/api/infra/runs/${id}/approve`);
  const kindsOf = async (deliveryId: string) =>
    (await test.ask<ApiEvent[]>("GET", `/api/events?deliveryId=${deliveryId}&limit=500`)).map(({ kind }) => kind);
  const resources = async () =>
    (await test.ask<{ resources: number }[]>("GET", `${IN_PRODUCTION}/states`))[0]?.resources;
  const environment = () => test.ask<Environment>("GET", ENVIRONMENT);

  it("stops it, destroys what it ran on once that is approved, and removes it, for one wish", async () => {
    await serving();
    const { id } = await tearDown(REMOVE);
    const waiting = await settled(id);
    expect(waiting).toMatchObject({ status: "waiting" });
    expect(await test.platform.target.observe(PLACE)).toEqual([]);
    expect(await environment()).toMatchObject({ liveRelease: null, stopped: { release: 1, by: "admin" } });
    expect((await run(waiting.infraRun ?? "")).plan?.approval).toEqual(["it destroys all that is there: 2 objects"]);
    expect(await resources()).toBe(2);
    // The same wish finds what goes on.
    expect((await tearDown(REMOVE)).id).toBe(id);
    await approve(waiting.infraRun);
    expect(await ended(id)).toMatchObject({ status: "succeeded", remarks: [] });
    expect(await resources()).toBe(0);
    expect(await listEnvironments(test.platform.store.db, "shop")).toEqual([]);
    const told = (await kindsOf(id)).filter((kind) => !/resource|planned/.test(kind));
    expect(told).toEqual([
      "teardown.started",
      "environment.stopped",
      "infra.started",
      "infra.waiting",
      "infra.approved",
      "infra.ended",
      "environment.removed",
      "teardown.ended",
    ]);
    expect(await test.infra()).toMatchObject({ applied: null, lock: null, blockedBy: null, drift: null });
  });

  it("ends right when Shipway is killed behind every step, and does each thing once", async () => {
    await serving();
    const { engine } = test.platform;
    // As the engine has them: started once by their name, and again after each kill until they have ended.
    const pending = new Map<string, StartedRun | StartedTeardown>();
    const known = new Set<string>();
    const note = async (one: StartedRun | StartedTeardown) => {
      const key = `${one.workflow}:${one.id}`;
      if (!known.has(key)) pending.set(key, one);
      known.add(key);
    };
    Object.assign(test.deps, { startInfra: note, startTeardown: note });
    Object.assign(test.teardown, { startInfra: note });
    Object.assign(engine, { startInfra: note, startTeardown: note });
    const { id } = await tearDown(REMOVE);
    const kept = new Map<string, string>();
    const died = new Set<string>();
    const stepIn =
      (workflow: string): DurableStep =>
      async (name, work) => {
        const key = `${workflow}/${name}`;
        const before = kept.get(key);
        if (before !== undefined) return JSON.parse(before).value;
        const value = await work();
        if (!died.has(key)) {
          died.add(key);
          throw new Error("killed");
        }
        kept.set(key, JSON.stringify({ value }));
        return value;
      };
    for (let life = 0; (await look(id)).endedAt === null; life += 1) {
      expect(life).toBeLessThan(40);
      for (const one of await openRuns(test.platform.store.db)) await note(one);
      for (const [key, one] of pending) {
        const hasEnded = await test.resume(one, stepIn(key)).then(
          () => true,
          (error) => {
            if (String(error).includes("killed")) return false;
            throw error;
          },
        );
        if (hasEnded) pending.delete(key);
      }
      const { infraRun } = await look(id);
      if (infraRun !== null && (await run(infraRun)).status === "waiting") await approve(infraRun);
    }
    expect([...died].map((key) => key.replace(/^.*\//, ""))).toEqual(
      expect.arrayContaining([
        ...["teardown-stop", "teardown-destroy", "infra-wait", "infra-apply", "infra-end", "teardowns-wake"],
        "teardown-finish",
      ]),
    );
    expect(await look(id)).toMatchObject({ status: "succeeded", problem: null });
    expect(await resources()).toBe(0);
    const told = (await kindsOf(id)).filter((kind) => !/planned/.test(kind));
    expect(told.filter((kind) => kind !== "infra.resource")).toEqual(
      [...new Set(told)].filter((kind) => kind !== "infra.resource"),
    );
    expect(told.filter((kind) => kind === "infra.resource")).toHaveLength(2);
  });

  it("destroys nothing under what runs, nor under what a push started again while the plan waited", async () => {
    await serving();
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/destroy`, {})).toMatchObject({
      code: "ENVIRONMENT_BUSY",
      message: expect.stringContaining("r1 serves there"),
    });
    const { id } = await tearDown(REMOVE);
    const { infraRun } = await settled(id);
    await deploy("c_2");
    expect(await environment()).toMatchObject({ liveRelease: 1, stopped: null });
    expect(await test.tryAsk("POST", `/api/infra/runs/${infraRun}/approve`)).toMatchObject({
      code: "ENVIRONMENT_BUSY",
    });
    await test.ask("POST", `/api/infra/runs/${infraRun}/reject`);
    expect(await ended(id)).toMatchObject({ status: "canceled", problem: { code: "INFRA_CANCELED" } });
    expect(await resources()).toBe(2);
    expect(await environment()).toMatchObject({ liveRelease: 1 });
  });

  it("keeps what is protected, until somebody says why it is to go", async () => {
    await serving({ protect: ["terraform_data.db"] });
    expect(await test.tryAsk("POST", `${ENVIRONMENT}/teardowns`, REMOVE)).toMatchObject({ code: "INFRA_PROTECTED" });
    expect(await environment()).toMatchObject({ liveRelease: 1 });
    await ended((await tearDown({ until: "stopped" })).id);
    // Known only once it is planned, where the state lies elsewhere.
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/destroy`, {});
    expect(await test.settled(runId)).toMatchObject({ status: "failed", problem: { code: "INFRA_PROTECTED" } });
    const { id } = await tearDown({ ...REMOVE, overrule: "the trial is over" });
    const { infraRun } = await settled(id);
    const waiting = await run(infraRun ?? "");
    expect(waiting.plan?.approval[0]).toMatch(
      /terraform_data\.db, which is protected .* admin wants it all the same \(the trial is over\)/,
    );
    await approve(infraRun);
    expect(await ended(id)).toMatchObject({ status: "succeeded" });
    expect(await resources()).toBe(0);
  });

  it("wants an operator for the approval, and another one than who asked where there is one", async () => {
    await serving();
    const { db } = test.platform.store;
    const tester = (await createToken(db, { name: "tess", role: "tester" }, "test")).token;
    const { infraRun } = await settled((await tearDown(REMOVE)).id);
    const asTester = await test.server.inject({
      ...{ method: "POST", url: `/api/infra/runs/${infraRun}/approve` },
      headers: { authorization: `Bearer ${tester}` },
    });
    expect(asTester.statusCode).toBe(403);
    await createToken(db, { name: "olga", role: "operator" }, "test");
    expect(await test.tryAsk("POST", `/api/infra/runs/${infraRun}/approve`)).toMatchObject({
      code: "INFRA_APPROVAL_REFUSED",
      message: expect.stringContaining("olga"),
    });
  });

  it("stays destroyed: no drift is looked for, and the next apply makes it anew", async () => {
    await serving();
    const { id } = await tearDown({ until: "stopped", infra: "destroy" });
    await approve((await settled(id)).infraRun);
    expect(await ended(id)).toMatchObject({ status: "succeeded" });
    expect(await environment()).toMatchObject({ liveRelease: null, stopped: { release: 1 } });
    const { store, engine } = test.platform;
    expect(await checkNextDue({ store, startInfra: engine.startInfra }, Date.now() + 86_400_000)).toBeUndefined();
    expect((await test.tryAsk("POST", `${IN_PRODUCTION}/destroy`, {})).code).toBe("INFRA_NOT_DECLARED");
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded" });
    expect(await resources()).toBe(2);
  });

  it("blocks the environment when Terraform was killed in the middle, and goes on from there after a recovery", async () => {
    const slow = `${MAIN}resource "terraform_data" "slow" {
      depends_on = [terraform_data.db]
      provisioner "local-exec" {
        when    = destroy
        command = "touch ../../at-it; sleep 30"
      }
    }`;
    await serving({}, slow);
    const { id } = await tearDown(REMOVE);
    const { infraRun } = await settled(id);
    await approve(infraRun);
    const runDir = join(test.platform.infra.dir, "runs", infraRun ?? "");
    const pid = await until(
      "the provisioner",
      async () => {
        if (!(await readFile(join(runDir, "at-it")).catch(() => undefined))) return false;
        return JSON.parse(await readFile(join(runDir, "apply.pid"), "utf8")).pid as number;
      },
      { withinMs: 30_000 },
    );
    process.kill(-pid, "SIGKILL");
    expect(await ended(id)).toMatchObject({ status: "failed", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
    expect(await test.tryAsk("POST", `${ENVIRONMENT}/teardowns`, REMOVE)).toMatchObject({ code: "INFRA_BLOCKED" });
    expect((await test.recovery()).advice).toBe("accept");
    await test.ask("POST", `${IN_PRODUCTION}/recover`, { way: "accept" });
    // Its code would wait for half a minute once more.
    await test.commit({ "infra/main.tf": MAIN });
    const again = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/destroy`, { ref: "main" });
    expect((await test.settled(again.runId)).status).toBe("waiting");
    await approve(again.runId);
    expect(await test.settled(again.runId)).toMatchObject({ status: "succeeded" });
    expect(await ended((await tearDown(REMOVE)).id)).toMatchObject({ status: "succeeded", infraRun: null });
    expect(await listEnvironments(test.platform.store.db, "shop")).toEqual([]);
  });

  it("lets what was asked for meanwhile begin when it is stopped, or ends it with the reason when it is gone", async () => {
    await test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": "" });
    await serving({}, 'output "x" { value = 1 }');
    const meanwhile: string[] = [];
    const { target } = test.platform;
    const halt = target.halt;
    target.halt = async (...of) => {
      await halt(...of);
      meanwhile.push(await requested("c_2"));
    };
    const stopping = await tearDown({ until: "stopped" });
    expect(await ended(stopping.id)).toMatchObject({ status: "succeeded" });
    const [started] = await listDeployments(test.platform.store.db, "shop", { limit: 1 });
    expect(started).toMatchObject({ id: meanwhile.at(-1), status: "running" });
    expect(test.started).toContain(`deploy ${started?.id}`);
    target.halt = halt;
    await target.startService(PLACE, newRelease(1), newRelease(1).services[0] as never, { env: {}, secrets: {} });
    // Killed before its step was kept, it begins again, and leaves alone what has begun since.
    await test.resume({ id: stopping.id, workflow: "teardown" });
    expect(await target.observe(PLACE)).not.toEqual([]);
    expect(await test.tryAsk("POST", `${ENVIRONMENT}/teardowns`, { until: "stopped" })).toMatchObject({
      code: "ENVIRONMENT_BUSY",
    });
    const failed = { live: null, standby: null, standbyMs: 0, phases: [], evidence: [], rolledBack: false };
    await endDeployment(test.platform.store.db, started?.id ?? "", { status: "failed", ...failed });
    expect(await environment()).toMatchObject({ stopped: { release: 1, since: null } });

    const destroy = target.destroy;
    target.destroy = async (...of) => {
      // Held by the removal: what is asked for now has to wait.
      meanwhile.push(await requested("c_3"));
      return destroy(...of);
    };
    expect(await ended((await tearDown({ until: "removed" })).id)).toMatchObject({ status: "succeeded" });
    const [canceled] = await listDeployments(test.platform.store.db, "shop", { limit: 1 });
    expect(canceled).toMatchObject({ id: meanwhile.at(-1), status: "canceled", problem: { code: "CANCELED" } });
  });
});
