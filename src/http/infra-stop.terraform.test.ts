import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { applyRun } from "../infra/apply-run.ts";
import { endApplies } from "../infra/end-applies.ts";
import { planRun } from "../infra/plan-run.ts";
import { getRun } from "../infra/runs.ts";
import { parseState, resourcesIn } from "../infra/states.ts";
import { markInterrupted } from "../infra/stop-requests.ts";
import { SAYS_SO_WITHIN_MS } from "../infra/stop-run.ts";
import { newDeferred } from "../shared/deferred.ts";
import { sleep, until } from "../shared/until.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, newTerraform, specWith } from "./infra-testing.ts";

let test: InfraTest;
/** What stands in Terraform's way until the test is over. */
let obstacle = newDeferred<void>();
beforeEach(async () => {
  obstacle = newDeferred();
  if (hasTerraform) test = await newInfraTest();
});
afterEach(async () => {
  obstacle.resolve();
  await test?.close();
});

const IN_SHOP = { app: "shop", environment: "production" };
const slowBy = (seconds: number) => `
resource "terraform_data" "first" { input = "made" }
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "sleep ${seconds}" }
}
resource "terraform_data" "last" { depends_on = [terraform_data.slow] }
`;
const commit = (main: string) => test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": main });
const ask = async (kind: "plan" | "apply" | "drift") =>
  (await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind })).runId;
const cancel = (runId: string) => test.ask("POST", `/api/infra/runs/${runId}/cancel`);
const events = async (runId: string) => {
  const all = await test.ask<{ kind: string; subject: string; data: Record<string, unknown> }[]>(
    "GET",
    "/api/events?app=shop&limit=500",
  );
  return all.filter(({ subject }) => subject === `infra:${runId}`);
};
const kinds = async (runId: string) => (await events(runId)).map(({ kind }) => kind);
const fileOf = (runId: string, name: string) =>
  readFile(join(test.platform.infra.dir, "runs", runId, name), "utf8").catch(() => "");
const said = async (runId: string, words: RegExp) =>
  (await fileOf(runId, "apply.jsonl")).split("\n").filter((line) => words.test(line)).length;
const untilMade = (runId: string) =>
  until("the first resource", async () => (await said(runId, /"apply_complete"/)) > 0);
const objects = async () => resourcesIn(parseState((await test.deps.states.latest(IN_SHOP))?.text ?? "{}"));

/** An apply whose first life ended while Terraform is at work: what follows it is up to the test. */
async function abandonedApply(main: string): Promise<string> {
  await commit(main);
  const { deps } = test;
  test.platform.engine.startInfra = async () => undefined;
  const runId = await ask("apply");
  await planRun(deps, await getRun(deps.db, runId));
  const killed = { ...deps.terraform, follow: () => Promise.reject(new Error("killed")) };
  await expect(applyRun({ ...deps, terraform: killed }, await getRun(deps.db, runId))).rejects.toThrow("killed");
  await untilMade(runId);
  return runId;
}
const nextLife = async (runId: string) =>
  applyRun({ ...test.deps, terraform: newTerraform(test.dir, undefined) }, await getRun(test.deps.db, runId));

describe.skipIf(!hasTerraform)("an apply that somebody stops (with the real Terraform)", () => {
  it("is asked to stop by a Shipway that ends and would take it along, once it had its time", async () => {
    await commit(slowBy(4));
    const quick = await ask("apply");
    await untilMade(quick);
    await endApplies(test.deps.db, { byThemselvesMs: 60_000, inAllMs: 120_000 });
    expect(await test.settled(quick)).toMatchObject({ status: "succeeded" });

    const slower = `resource "terraform_data" "slower" {\n  provisioner "local-exec" { command = "sleep 60" }\n}\n`;
    await commit(slowBy(4) + slower);
    const slow = await ask("apply");
    await until(
      "the slow one at work",
      async () => (await said(slow, /"apply_start".*slower|slower.*"apply_start"/)) > 0,
      {
        withinMs: 60_000,
      },
    );
    await endApplies(test.deps.db, { byThemselvesMs: 100, inAllMs: 120_000 });
    expect(await test.settled(slow)).toMatchObject({ status: "canceled", canceledBy: "shipway" });
  }, 180_000);

  it("ends canceled with what is done in the state, says how far it came, and the next one goes on from there", async () => {
    await commit(slowBy(60));
    const runId = await ask("apply");
    await untilMade(runId);
    await cancel(runId);
    await cancel(runId);
    const run = await test.settled(runId);
    expect(run).toMatchObject({ status: "canceled", canceledBy: "admin", problem: { code: "INFRA_CANCELED" } });
    expect(run.problem?.message).toContain(
      "done and in the state: terraform_data.first (1 of 3); cut off: terraform_data.slow; not begun: terraform_data.last",
    );
    await test.idle();
    expect(await test.infra()).toMatchObject({ blockedBy: null, lock: null, runningRun: null, applied: null });
    expect((await kinds(runId)).filter((kind) => kind === "infra.cancelRequested")).toHaveLength(1);
    const id = (await objects()).get("terraform_data.first")?.attributes.id;

    await commit(slowBy(0));
    const next = await test.run({ kind: "apply" });
    // What was cut off is tainted: making it anew destroys it.
    await test.ask("POST", `/api/infra/runs/${next.id}/approve`);
    expect((await test.settled(next.id)).status).toBe("succeeded");
    const state = await objects();
    expect([state.size, state.get("terraform_data.first")?.attributes.id]).toEqual([3, id]);
    expect(await test.tryAsk("POST", `/api/infra/runs/${runId}/cancel`)).toMatchObject({
      code: "INFRA_CANCEL_REFUSED",
    });
  });

  it("is not begun when it was canceled while it planned", async () => {
    await commit(slowBy(0));
    const { deps } = test;
    test.platform.engine.startInfra = async () => undefined;
    const runId = await ask("apply");
    await planRun(deps, await getRun(deps.db, runId));
    await cancel(runId);
    await test.resume({ workflow: "infra-apply", id: runId });
    expect(await test.settled(runId)).toMatchObject({ status: "canceled" });
    expect(await deps.states.latestVersion(IN_SHOP)).toBe(0);
    expect((await test.infra()).runningRun).toBeNull();
  });

  it("does not come to wait for an approval any more", async () => {
    await commit(slowBy(0));
    await test.run({ kind: "apply" });
    await commit("");
    const runId = await ask("apply");
    await test.deps.db
      .updateTable("infra_runs")
      .set({ cancel_requested_at: new Date(), cancel_requested_by: "ada" })
      .where("id", "=", runId)
      .execute();
    const run = await test.settled(runId);
    expect(run).toMatchObject({ status: "canceled", problem: { code: "INFRA_CANCELED" } });
    expect(run.problem?.message).toContain("before it changed anything");
  });
});

describe.skipIf(!hasTerraform)("one interrupt and no second (with the real Terraform)", () => {
  it("is sent by the next life of Shipway when the one that was asked is killed before it sent it", async () => {
    const runId = await abandonedApply(slowBy(60));
    await cancel(runId);
    expect(await nextLife(runId)).toMatchObject({ status: "canceled" });
    expect([await said(runId, /Interrupt received/), await said(runId, /Two interrupts/)]).toEqual([1, 0]);
  });

  it("is sent when an earlier life had only noted it", async () => {
    const runId = await abandonedApply(slowBy(60));
    await cancel(runId);
    await markInterrupted(test.deps.db, runId, undefined, new Date());
    const startedAt = Date.now();
    expect(await nextLife(runId)).toMatchObject({ status: "canceled" });
    expect(Date.now() - startedAt).toBeGreaterThan(2_500);
    expect([await said(runId, /Interrupt received/), await said(runId, /Two interrupts/)]).toEqual([1, 0]);
  });

  it("is not sent again to a Terraform that still saves after an earlier life's", async () => {
    const runId = await abandonedApply(slowBy(60));
    await holdWrites();
    await cancel(runId);
    await markInterrupted(test.deps.db, runId, undefined, new Date());
    await test.deps.terraform.interrupt({ runDir: join(test.deps.dir, "runs", runId) }, "apply");
    await until("Terraform saving", async () => (await said(runId, /Interrupt received/)) > 0);
    const next = nextLife(runId);
    // Longer than it takes to conclude from silence that nothing was sent.
    await sleep(SAYS_SO_WITHIN_MS + 1_000);
    obstacle.resolve();
    expect(await next).toMatchObject({ status: "canceled" });
    expect(await said(runId, /Two interrupts/)).toBe(0);
    expect([...(await objects()).keys()]).toContain("terraform_data.first");
  });
});

/** Nothing is written into the state until the obstacle is gone. */
async function holdWrites(): Promise<void> {
  const { states } = test.platform.infra;
  const write = states.write;
  states.write = async (...of) => {
    await obstacle.promise;
    return write(...of);
  };
}

describe.skipIf(!hasTerraform)("a run that is stopped at once (with the real Terraform)", () => {
  const force = (runId: string) => test.tryAsk("POST", `/api/infra/runs/${runId}/cancel/force`);

  it("must have been asked to stop before; its outcome is unknown and what the state lacks is imported", async () => {
    await commit(slowBy(60));
    const { states } = test.platform.infra;
    const write = states.write;
    // Of a Terraform that is gone the request goes on: it must not save what that lost.
    states.write = () => new Promise(() => undefined);
    const runId = await ask("apply");
    await untilMade(runId);
    expect(await force(runId)).toMatchObject({ code: "INFRA_CANCEL_REFUSED" });
    await cancel(runId);
    await until("Terraform saving", async () => (await said(runId, /Interrupt received/)) > 0);
    expect(await force(runId)).toMatchObject({ status: 202 });
    const run = await test.settled(runId);
    expect(run).toMatchObject({ status: "unknown", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
    expect(await said(runId, /Two interrupts/)).toBe(1);
    await test.idle();
    states.write = write;
    expect(await test.recovery()).toMatchObject({
      advice: "import",
      finished: [{ address: "terraform_data.first", action: "create" }],
    });
    expect(await force(runId)).toMatchObject({ code: "INFRA_CANCEL_REFUSED" });
  });
});

describe.skipIf(!hasTerraform)("a look that somebody stops (with the real Terraform)", () => {
  it.each(["plan", "drift", "apply"] as const)(
    "ends while it plans, and a new run is not in its way: %s",
    async (kind) => {
      await commit(slowBy(0));
      expect((await test.run({ kind: "apply" })).status).toBe("succeeded");
      const { states } = test.platform.infra;
      const latest = states.latest;
      let asked = false;
      states.latest = async (place) => {
        asked = true;
        await obstacle.promise;
        return latest(place);
      };
      const runId = await ask(kind);
      // A kind that runs for the first time asks for the state while it is initialised, the others while they plan.
      await until("Terraform asking for the state", () => asked);
      await cancel(runId);
      expect(await test.settled(runId)).toMatchObject({ status: "canceled", problem: { code: "INFRA_CANCELED" } });
      states.latest = latest;
      await test.idle();
      expect(await test.infra()).toMatchObject({ lock: null, runningRun: null, blockedBy: null });
      expect((await test.run({ kind: "apply" })).status).toBe("succeeded");
    },
  );
});
