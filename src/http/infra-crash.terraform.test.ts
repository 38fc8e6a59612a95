import { readdir, readFile, writeFile } from "node:fs/promises";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { applyRun } from "../infra/apply-run.ts";
import { planRun } from "../infra/plan-run.ts";
import { type InfraDeps, removeRunDir } from "../infra/run-terraform.ts";
import { endRun, getRun, journalApply } from "../infra/runs.ts";
import { idsIn } from "../infra/states.ts";
import type { Terraform } from "../infra/terraform.ts";
import { until } from "../shared/until.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, newTerraform, specWith } from "./infra-testing.ts";

/*
 * How an apply can be cut off, and where each way is tested:
 *
 *   the state cannot be written: 5xx for a while, 5xx for good, 4xx      here
 *   the lock cannot be given back: after an apply, after a plan          here
 *   the lock is stolen in mid-apply: the write is refused                infra-runs "takes over the state that Terraform could not save"
 *   unlock with a wrong id; force-unlock by a run's own credential       infra-runs "opens to a run that is at work alone …"
 *   the saved plan is stale: other state, other reality, tampered with   infra-runs "the gate", infra-drift-table "between a plan …", here
 *   an override file of the repository takes the backend                 infra-runs "keeps … from taking the state elsewhere"
 *   SIGKILL of Terraform                                                 infra-runs "blocks the environment …", infra-kill (10), infra-kill-reality (30)
 *   SIGKILL of a recovery                                                here
 *   SIGKILL of Shipway                                                   infra-runs "is followed to its end …"; between journal and start: here
 *   SIGKILL of both at once                                              here
 *   the machine is gone, and Shipway's data directory with it            here
 *   one and two interrupts                                               infra-stop
 *   all of it with the state in S3                                       infra-s3
 */

if (!hasTerraform) console.warn("SKIPPED: the ways in which an apply is cut off need terraform");

const MAIN = `
resource "terraform_data" "first" { input = "made" }
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "sleep 1" }
}
`;
const IN_SHOP = { app: "shop", environment: "production" };

describe.skipIf(!hasTerraform)("an apply that is cut off (with the real Terraform)", () => {
  let test: InfraTest;
  let proxy: Server;
  /** What the way to the state answers instead; undefined lets a request through. */
  let fault: (what: "read" | "write" | "lock" | "unlock") => number | undefined;
  beforeEach(async () => {
    test = await newInfraTest();
    fault = () => undefined;
    const target = new URL(test.deps.apiUrl);
    proxy = createServer((request, response) => {
      const path = request.url ?? "";
      const what = path.endsWith("/unlock")
        ? "unlock"
        : path.endsWith("/lock")
          ? "lock"
          : request.method === "GET"
            ? "read"
            : "write";
      const status = fault(what);
      if (status !== undefined) {
        request.resume();
        response.writeHead(status).end("out of order");
        return;
      }
      const { method, headers } = request;
      const onward = httpRequest({ host: target.hostname, port: target.port, path, method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      request.pipe(onward);
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    test.deps.apiUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    await test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": MAIN });
  });
  afterEach(async () => {
    await test?.close();
    proxy?.closeAllConnections();
    proxy?.close();
  });

  const states = () => test.ask<{ resources: number; reason: string }[]>("GET", `${IN_PRODUCTION}/states`);
  /** Asks for an apply that nobody starts. */
  const ask = async () => {
    const { startInfra } = test.platform.engine;
    test.platform.engine.startInfra = async () => undefined;
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    test.platform.engine.startInfra = startInfra;
    return runId;
  };
  const run = (id: string) => getRun(test.deps.db, id);
  const untilFirst = (runId: string) =>
    until("the first resource", async () => {
      const text = await readFile(join(test.deps.dir, "runs", runId, "apply.jsonl"), "utf8").catch(() => "");
      return text.includes('"type":"apply_complete"');
    });
  const pidOf = async (runId: string) =>
    JSON.parse(await readFile(join(test.deps.dir, "runs", runId, "apply.pid"), "utf8")).pid as number;
  /** A life of Shipway that starts Terraform and is gone before it hears of it. */
  async function lifeThatDies(id: string): Promise<void> {
    const gone: Terraform = { ...test.deps.terraform, follow: () => Promise.reject(new Error("this life is over")) };
    await expect(applyRun({ ...test.deps, terraform: gone }, await run(id))).rejects.toThrow("this life is over");
  }
  const nextLife = (): InfraDeps => Object.assign(test.deps, { terraform: newTerraform(test.dir, undefined) });

  describe("because the state cannot be written", () => {
    /** Terraform tries again for some three minutes; here for one second. */
    const impatient = () => {
      const { terraform } = test.deps;
      test.deps.terraform = {
        ...terraform,
        start: (workspace, ...more) =>
          terraform.start({ ...workspace, env: { ...workspace.env, TF_HTTP_RETRY_MAX: "1" } }, ...more),
      };
    };

    it("outlives a server that fails for a while", async () => {
      let left = 2;
      fault = (what) => (what === "write" && left-- > 0 ? 500 : undefined);
      expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded" });
      expect(left).toBeLessThan(1);
      expect(await states()).toMatchObject([{ resources: 2 }]);
    });

    it.each([
      ["fails for good", 500],
      ["refuses it", 403],
    ])(
      "takes it over from where Terraform left it when the server %s",
      async (_what, status) => {
        impatient();
        fault = (what) => (what === "write" ? status : undefined);
        const ended = await test.run({ kind: "apply" });
        expect(ended).toMatchObject({ status: "unknown", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
        expect(ended.problem?.message).toContain("errored.tfstate");
        expect(ended.problem?.hint).toContain("shipway infra recover");
        await test.idle();
        fault = () => undefined;
        // UNLOCK happens all the same: only the block keeps the next one from planning on a stale state.
        expect(await test.infra()).toMatchObject({ lock: null, blockedBy: ended.id });
        expect(await test.recovery()).toMatchObject({ advice: "push", errored: { resources: 2 } });
        await test.ask("POST", `${IN_PRODUCTION}/recover`, { way: "push" });
        expect(await states()).toMatchObject([{ resources: 2, reason: "taken over from errored.tfstate" }]);
        expect((await test.run({ kind: "apply" })).plan?.changes).toEqual([]);
      },
      60_000,
    );
  });

  describe("because the lock cannot be given back", () => {
    it("has succeeded when everything was done and saved, and holds nobody up", async () => {
      // 4xx: Terraform does not try again.
      let plans = 1;
      fault = (what) => (what === "unlock" && plans-- <= 0 ? 403 : undefined);
      expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded", problem: null });
      expect(plans).toBeLessThan(0);
      expect(await states()).toMatchObject([{ resources: 2 }]);
      expect(await test.infra()).toMatchObject({ lock: null, blockedBy: null });
    });

    it("is not begun when that happens to its plan, and the next one can be", async () => {
      fault = (what) => (what === "unlock" ? 403 : undefined);
      const ended = await test.run({ kind: "apply" });
      expect(ended).toMatchObject({ status: "failed", problem: { code: "INFRA_FAILED" } });
      expect(await states()).toEqual([]);
      expect(await test.infra()).toMatchObject({ lock: null, blockedBy: null });
      fault = () => undefined;
      expect((await test.run({ kind: "apply" })).status).toBe("succeeded");
    });
  });

  it("is not begun from a plan file that is not the one that was made", async () => {
    const id = await ask();
    await planRun(test.deps, await run(id));
    await test.deps.db.updateTable("infra_runs").set({ plan_sha256: "another" }).where("id", "=", id).execute();
    await expect(applyRun(test.deps, await run(id))).rejects.toMatchObject({ code: "INFRA_PLAN_STALE" });
    expect((await run(id)).apply_started_at).toBeNull();
  });

  it("by the end of Shipway between the journal and the start is started by the next life, once", async () => {
    const id = await ask();
    await planRun(test.deps, await run(id));
    await writeFile(join(test.deps.dir, "runs", id, "journal"), "");
    await journalApply(test.deps.db, id);
    await test.resume({ workflow: "infra-apply", id });
    expect(await test.settled(id)).toMatchObject({ status: "succeeded" });
    expect(await states()).toMatchObject([{ resources: 2 }]);
  });

  it("by the end of both at once is unknown to the next life, which shows what was made", async () => {
    const id = await ask();
    await planRun(test.deps, await run(id));
    await lifeThatDies(id);
    await untilFirst(id);
    process.kill(-(await pidOf(id)), "SIGKILL");
    nextLife();
    await test.resume({ workflow: "infra-apply", id });
    expect(await test.settled(id)).toMatchObject({ status: "unknown" });
    expect(await test.infra()).toMatchObject({ blockedBy: id, lock: { runId: id } });
    expect(await test.recovery()).toMatchObject({
      advice: "import",
      finished: [{ address: "terraform_data.first" }],
      uncertain: [{ address: "terraform_data.slow", action: "create", beside: false }],
    });
    // What a recovery needs stays; the plan in clear is none of it.
    const left = await readdir(join(test.deps.dir, "runs", id));
    expect(left).toContain("apply.jsonl");
    expect(left.filter((name) => name === "plan.tfplan" || name === "sensitive.json")).toEqual([]);
  });

  it("by a bug of Shipway is not recovered from while Terraform is still at work", async () => {
    const id = await ask();
    await planRun(test.deps, await run(id));
    await lifeThatDies(id);
    await untilFirst(id);
    const problem = { code: "BUG", message: "a bug" };
    await endRun(test.deps.db, id, { status: "unknown", problem });
    const recover = () => test.tryAsk("POST", `${IN_PRODUCTION}/recover`, { way: "accept" });
    expect(await recover()).toMatchObject({ code: "INFRA_LOCKED", message: expect.stringContaining("still at work") });
    process.kill(-(await pidOf(id)), "SIGKILL");
    await until("the recovery", async () => (await recover()).status === 200);
    expect(await test.infra()).toMatchObject({ blockedBy: null });
  });

  it("by the end of the machine shows all that may exist, and takes what somebody found", async () => {
    const id = await ask();
    await planRun(test.deps, await run(id));
    await lifeThatDies(id);
    await untilFirst(id);
    process.kill(-(await pidOf(id)), "SIGKILL");
    await removeRunDir(test.deps, id);
    nextLife();
    await test.resume({ workflow: "infra-apply", id });
    const ended = await test.settled(id);
    expect(ended).toMatchObject({ status: "unknown" });
    expect(ended.problem?.message).toContain("its files are gone");
    expect(await test.recovery()).toMatchObject({
      advice: "accept",
      finished: [],
      uncertain: [{ address: "terraform_data.first" }, { address: "terraform_data.slow" }],
    });
    const found = [{ address: "terraform_data.first", id: "seen-by-somebody" }];
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, { way: "import", found });
    await test.settled(runId);
    await test.ask("POST", `/api/infra/runs/${runId}/approve`);
    expect((await test.settled(runId)).status).toBe("succeeded");
    expect(idsIn((await test.deps.states.latest(IN_SHOP))?.text).get("terraform_data.first")).toBe("seen-by-somebody");
  }, 60_000);

  it("while it recovers from another keeps in mind what that one had made", async () => {
    const { runId: first } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await untilFirst(first);
    process.kill(-(await pidOf(first)), "SIGKILL");
    await test.settled(first);
    await test.idle();
    const made = (await test.recovery()).finished;
    expect(made).toHaveLength(1);
    const { runId: second } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, { way: "import" });
    await test.settled(second);
    await test.ask("POST", `/api/infra/runs/${second}/approve`);
    await until("Terraform applying", async () => pidOf(second).catch(() => undefined));
    process.kill(-(await pidOf(second)), "SIGKILL");
    expect((await test.settled(second)).status).toBe("unknown");
    await test.idle();
    expect(await test.infra()).toMatchObject({ blockedBy: second });
    expect((await test.recovery()).finished).toMatchObject(made.map(({ address, id }) => ({ address, id })));
    const { runId: third } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, { way: "import" });
    await test.settled(third);
    await test.ask("POST", `/api/infra/runs/${third}/approve`);
    expect((await test.settled(third)).status).toBe("succeeded");
    expect(await test.infra()).toMatchObject({ blockedBy: null });
    expect(idsIn((await test.deps.states.latest(IN_SHOP))?.text).get("terraform_data.first")).toBe(made[0]?.id);
  }, 60_000);
});
