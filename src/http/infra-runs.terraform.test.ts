import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { applyRun } from "../infra/apply-run.ts";
import { planRun } from "../infra/plan-run.ts";
import { newRunCredential } from "../infra/run-credential.ts";
import { removeRunDir } from "../infra/run-terraform.ts";
import { findInfra, getRun, journalApply } from "../infra/runs.ts";
import { parseState, resourcesIn } from "../infra/states.ts";
import { until } from "../shared/until.ts";
import { checkNextDue } from "../workflow/drift-loop.ts";
import type { StateDiffView, StateVersionView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, newTerraform, specWith } from "./infra-testing.ts";

let test: InfraTest;
beforeEach(async () => {
  if (hasTerraform) test = await newInfraTest();
});
afterEach(() => test?.close());

const IN_SHOP = { app: "shop", environment: "production" };
const SECRET = "hunter-two-and-more";
const MAIN = `
variable "size" { type = number }
resource "terraform_data" "disk" { input = "disk-\${var.size}" }
resource "terraform_data" "big" { count = var.size > 1 ? 1 : 0 }
output "disk" { value = terraform_data.disk.output }
output "password" {
  value     = "${SECRET}"
  sensitive = true
}
`;
const files = (size: number, more: object = {}, main = MAIN) => ({
  "shipway.yml": specWith({ dir: "infra", variables: { size }, ...more }),
  "infra/main.tf": main,
});
const states = () => test.ask<StateVersionView[]>("GET", `${IN_PRODUCTION}/states`);
const apply = async (...of: Parameters<typeof files>) => {
  await test.commit(files(...of));
  return test.run({ kind: "apply" });
};
const kinds = async (runId: string) => {
  const events = await test.ask<{ kind: string; subject: string }[]>("GET", "/api/events?app=shop&limit=500");
  return events.filter(({ subject }) => subject === `infra:${runId}`).map(({ kind }) => kind);
};

describe.skipIf(!hasTerraform)("an apply (with the real Terraform)", () => {
  it("plans, applies, keeps the state sealed, gives its outputs and leaves nothing behind", async () => {
    const run = await apply(1);
    expect(run).toMatchObject({ status: "succeeded", problem: null });
    expect(run.plan?.changes).toMatchObject([{ address: "terraform_data.disk", action: "create" }]);
    expect(await test.infra()).toMatchObject({
      applied: { runId: run.id, commit: run.commit },
      runningRun: null,
      lock: null,
      outputs: [
        { name: "disk", value: "disk-1" },
        { name: "password", value: "(sensitive)" },
      ],
    });
    const rows = await test.platform.store.db.selectFrom("infra_states").selectAll().execute();
    expect(rows).not.toHaveLength(0);
    expect(rows.some(({ sealed }) => sealed.toString("latin1").includes("terraform_data"))).toBe(false);
    await test.idle();
    expect(await readdir(join(test.platform.infra.dir, "runs"))).toEqual([]);
    expect(await kinds(run.id)).toEqual(["infra.started", "infra.planned", "infra.resource", "infra.ended"]);
  });

  it("uses the initialised folder of the one before and writes no state where nothing changes", async () => {
    await apply(1);
    const before = await states();
    const again = await test.run({ kind: "apply" });
    expect(again).toMatchObject({ status: "succeeded", plan: { changes: [], outputs: [] } });
    expect(again.timings.warm).toBe(1);
    expect(await states()).toEqual(before);
  });

  it("initialises anew for what init looks at, and for nothing else; also when what it left is gone", async () => {
    const withModule = (module: string) => ({ ...files(2, {}, `${MAIN}${module}`), "infra/sub/main.tf": SUB });
    const SUB = 'resource "terraform_data" "inner" {}\n';
    expect((await apply(1)).timings.warm).toBe(0);
    expect((await apply(2)).timings.warm).toBe(1);
    await test.commit(withModule('module "sub" { source = "./sub" }\n'));
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded", timings: { warm: 0 } });
    await test.commit({ "infra/sub/main.tf": `${SUB}output "id" { value = terraform_data.inner.id }\n` });
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded", timings: { warm: 1 } });
    const kept = join(test.platform.infra.dir, "data", "shop", "production", "apply");
    await rm(join(kept, "modules"), { recursive: true });
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded", timings: { warm: 0 } });
  }, 60_000);

  it("stops before it begins where the code is wrong, with the place and the reason", async () => {
    const run = await apply(
      1,
      {},
      `variable "size" {}
resource "terraform_data" "x" {
  input = var.none
}
`,
    );
    expect(run.status).toBe("failed");
    expect(run.problem?.message).toContain("undeclared");
    expect(run.problem?.message).toContain("main.tf:3");
    expect(await states()).toEqual([]);
  });

  it("says in the state what had been done when it failed halfway", async () => {
    const run = await apply(
      1,
      {},
      `variable "size" {}
       resource "terraform_data" "first" {}
       resource "terraform_data" "second" {
         depends_on = [terraform_data.first]
         provisioner "local-exec" { command = "exit 3" }
       }`,
    );
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_FAILED" } });
    expect(run.problem?.message).toContain("terraform_data.second");
    expect((await states())[0]?.resources).toBe(2);
    expect(await test.infra()).toMatchObject({ applied: null, blockedBy: null, lock: null });
  });

  it("refuses a version of Terraform that the code does not want, naming both", async () => {
    const run = await apply(1, {}, 'terraform {\n  required_version = "~> 0.12"\n}\n');
    expect(run.problem).toMatchObject({ code: "INFRA_INVALID" });
    expect(run.problem?.message).toMatch(/infra\/main\.tf wants Terraform ~> 0\.12, but this Shipway runs 1\./);
  });

  it("holds a local module to its required_version before anything is run", async () => {
    await test.commit({
      ...files(1, {}, 'module "db" {\n  source = "../modules/db"\n}\n'),
      "modules/db/main.tf": 'terraform {\n  required_version = "< 1.0"\n}\n',
    });
    const run = await test.run({ kind: "apply" });
    expect(run.problem).toMatchObject({ code: "INFRA_INVALID" });
    expect(run.problem?.message).toContain("modules/db/main.tf wants Terraform < 1.0");
  });

  it("takes variable files in their order, below what shipway.yml says, and runs again when one changes", async () => {
    const main = ["a", "b", "c"].map((name) => `variable "${name}" {}\noutput "${name}" { value = var.${name} }\n`);
    const spec = { dir: "infra", varFiles: ["base.tfvars", "../envs/eu.vars"], variables: { c: "spec" } };
    const [base, eu] = ['a = "base"\nb = "base"\nc = "base"\n', 'b = "eu"\nc = "eu"\n'];
    await test.commit({ "shipway.yml": specWith(spec), "infra/main.tf": main.join(""), "infra/base.tfvars": base });
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/runs`, { kind: "plan" })).toMatchObject({
      code: "INFRA_INVALID",
      message: expect.stringMatching(/^There is no variable file envs\/eu\.vars at [0-9a-f]{7}\.$/),
    });
    await test.commit({ "envs/eu.vars": eu });
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded" });
    const values = (await test.infra()).outputs.map(({ value }) => value);
    expect(values).toEqual(["base", "eu", "spec"]);
    const inputs = async () => (await findInfra(test.platform.store.db, IN_SHOP))?.applied_inputs;
    const before = await inputs();
    await test.commit({ "envs/eu.vars": eu.replace("eu", "us") });
    await test.run({ kind: "apply" });
    expect(await inputs()).not.toBe(before);
  });

  it.each([
    [
      "an override file of the repository",
      "zzzzz_override.tf",
      'terraform {\n  backend "http" {\n    address = "http://127.0.0.1:1/evil"\n  }\n}\n',
    ],
    ["a local backend", "backend.tf", 'terraform {\n  backend "local" {}\n}\n'],
    ["a cloud block", "cloud.tf", 'terraform {\n  cloud {\n    organization = "x"\n  }\n}\n'],
  ])("keeps %s from taking the state elsewhere", async (_what, name, text) => {
    await test.commit({ ...files(1), [`infra/${name}`]: text });
    const run = await test.run({ kind: "apply" });
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_INVALID" } });
    expect(run.problem?.message).toContain(name);
  });

  it("keeps a .tofu file of the repository from standing in for Shipway's own files where OpenTofu runs", async () => {
    const standIn = join(test.dir, "tofu");
    const version = 'echo "OpenTofu v1.8.1"; exit';
    await writeFile(standIn, `#!/bin/sh\n[ "$*" = version ] && { ${version}; }\nexec terraform "$@"\n`, {
      mode: 0o755,
    });
    test.deps.terraform = newTerraform(test.dir, undefined, { program: standIn });
    const stolen = JSON.stringify({ terraform: { backend: { local: {} } } });
    await test.commit({ ...files(1), "infra/zzzz_shipway_override.tofu.json": stolen });
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    const written = join(test.platform.infra.dir, "runs", runId, "tree", "infra", "zzzz_shipway_override.tofu.json");
    const seen = await until("our override file", async () => {
      const text = await readFile(written, "utf8").catch(() => "");
      return text.includes('"http"') && text;
    });
    expect(seen).not.toContain("local");
    expect(await test.settled(runId)).toMatchObject({ status: "succeeded" });
    expect((await states())[0]?.resources).toBe(1);
  });

  it("shows a secret in no log, event, plan or run", async () => {
    await test.platform.secrets.set({ app: "shop", environment: "production" }, "TF_VAR_token", SECRET, "ada");
    const run = await apply(
      1,
      { secrets: ["TF_VAR_token"] },
      `variable "size" {}
       variable "token" { sensitive = true }
       variable "plain" { default = "made-of-${SECRET}" }
       resource "terraform_data" "x" {
         input = var.token
         provisioner "local-exec" { command = "echo said ${SECRET}" }
       }
       resource "terraform_data" "y" { input = var.plain }`,
    );
    expect(run.status).toBe("succeeded");
    const logs = await Promise.all(run.logs.map((id) => test.platform.logs.read(id, 0, 1_000)));
    expect(JSON.stringify(logs)).toContain("said ****");
    const shown = [
      logs,
      run,
      await test.ask("GET", "/api/events?app=shop&limit=500"),
      await test.ask("GET", `${IN_PRODUCTION}/states/latest/diff`),
    ];
    expect(JSON.stringify(shown)).not.toContain(SECRET);
  });
});

describe.skipIf(!hasTerraform)("the gate (with the real Terraform)", () => {
  it("lets a plan that destroys wait, and applies the very plan that was approved", async () => {
    await apply(2);
    const run = await apply(1);
    expect(run).toMatchObject({ status: "waiting" });
    expect(run.plan?.approval).toEqual(["it destroys terraform_data.big[0]: count is smaller now"]);
    expect((await test.infra()).runningRun).toBeNull();
    // No copy of the plan in clear waits with it.
    expect(await readdir(join(test.platform.infra.dir, "runs"))).toEqual([]);
    await test.ask("POST", `/api/infra/runs/${run.id}/approve`);
    expect(await test.settled(run.id)).toMatchObject({ status: "succeeded", approvedBy: "admin" });
    expect((await states())[0]?.resources).toBe(1);
  });

  it("refuses an approved plan when the state has moved on since", async () => {
    await apply(2);
    const waiting = await apply(1);
    await test.ask("POST", `${IN_PRODUCTION}/states/1/restore`);
    await test.ask("POST", `/api/infra/runs/${waiting.id}/approve`);
    const run = await test.settled(waiting.id);
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_PLAN_STALE" } });
    expect(await kinds(run.id)).not.toContain("infra.resource");
  });

  const FAILS_HALFWAY = `variable "size" {}
resource "terraform_data" "first" {}
resource "terraform_data" "second" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "exit 3" }
}
`;
  it.each([
    ["to its end", MAIN, "succeeded"],
    ["by half, from nothing", FAILS_HALFWAY, "failed"],
  ])("applies a plan once, also one that was applied %s and whose run comes back", async (_how, main, ended) => {
    const waiting = await apply(1, { approval: "always" }, main);
    expect(waiting.status).toBe("waiting");
    const { db } = test.platform.store;
    const row = await getRun(db, waiting.id);
    await test.ask("POST", `/api/infra/runs/${waiting.id}/approve`);
    expect((await test.settled(waiting.id)).status).toBe(ended);
    await test.idle();
    const before = await states();
    expect(await test.tryAsk("POST", `/api/infra/runs/${waiting.id}/approve`)).toMatchObject({
      code: "INFRA_APPROVAL_REFUSED",
    });
    const back = { status: "running" as const, ended_at: null, apply_started_at: null, plan_file: row.plan_file };
    await db.updateTable("infra_runs").set(back).where("id", "=", waiting.id).execute();
    await test.resume({ workflow: "infra-apply", id: waiting.id });
    expect(await test.settled(waiting.id)).toMatchObject({ status: "failed", problem: { code: "INFRA_PLAN_STALE" } });
    expect(await states()).toEqual(before);
  });

  it.each([
    ["destroys what is protected", { protect: ["terraform_data.big"] }, "terraform_data.big[0]"],
    ["destroys more than is allowed", { maxDestroy: 0 }, "maxDestroy"],
  ])("fails a plan that %s: there is nothing to approve, and the way out is a commit", async (_what, rules, word) => {
    await apply(2, rules);
    const run = await apply(1, rules);
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_PROTECTED" } });
    expect(run.problem?.message).toContain(word);
    expect(run.plan?.refused).toHaveLength(1);
    expect(await test.tryAsk("POST", `/api/infra/runs/${run.id}/approve`)).toMatchObject({
      code: "INFRA_APPROVAL_REFUSED",
    });
    expect((await states())[0]?.resources).toBe(2);
    const meant = await apply(1);
    await test.ask("POST", `/api/infra/runs/${meant.id}/approve`);
    expect((await test.settled(meant.id)).status).toBe("succeeded");
  });

  it("wants an approval by others as long as there are any: neither who asked nor who pushed the commit", async () => {
    await apply(2);
    const run = await apply(1);
    const pushed = { id: "c_1", app: "shop", ref_kind: "branch" as const, ref_name: "main", commit: run.commit };
    const rest = { previous_commit: null, subject: "", author: "x", skip_ci: false, only_environment: null };
    const change = { ...pushed, ...rest, actor: "tester", ended_at: null };
    await test.platform.store.db.insertInto("changes").values(change).execute();
    const approveAs = async (token: string) => {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await test.server.inject({ method: "POST", url: `/api/infra/runs/${run.id}/approve`, headers });
      return answer.statusCode;
    };
    const [tester, operator] = [await test.tokenFor("tester"), await test.tokenFor("operator")];
    expect(await test.tryAsk("POST", `/api/infra/runs/${run.id}/approve`)).toMatchObject({
      code: "INFRA_APPROVAL_REFUSED",
      message: expect.stringContaining("such as operator"),
    });
    expect(await approveAs(tester)).toBe(409);
    expect(await approveAs(operator)).toBe(202);
    expect(await test.settled(run.id)).toMatchObject({ status: "succeeded", approvedBy: "operator" });
  });

  it("takes nobody's own approval where others are wanted", async () => {
    await apply(2, { approvers: "others" });
    const run = await apply(1, { approvers: "others" });
    expect(await test.tryAsk("POST", `/api/infra/runs/${run.id}/approve`)).toMatchObject({
      code: "INFRA_APPROVAL_REFUSED",
    });
    await test.ask("POST", `/api/infra/runs/${run.id}/reject`);
    expect(await test.settled(run.id)).toMatchObject({ status: "canceled" });
  });

  it("marks what waited as superseded once something newer was applied", async () => {
    await apply(2);
    const waiting = await apply(1);
    expect((await apply(3)).status).toBe("succeeded");
    expect((await test.settled(waiting.id)).status).toBe("superseded");
  });
});

describe.skipIf(!hasTerraform)("the state (with the real Terraform)", () => {
  it("is compared and restored as a new version with a higher serial", async () => {
    await apply(1);
    await apply(2);
    const [last] = await states();
    const diff = await test.ask<StateDiffView>("GET", `${IN_PRODUCTION}/states/latest/diff?from=1`);
    expect(diff.resources).toMatchObject([
      { address: "terraform_data.big[0]", change: "added" },
      { address: "terraform_data.disk", change: "changed" },
    ]);
    const restored = await test.ask<StateVersionView>("POST", `${IN_PRODUCTION}/states/1/restore`);
    expect(restored).toMatchObject({
      version: (last?.version ?? 0) + 1,
      serial: (last?.serial ?? 0) + 1,
      resources: 1,
    });
    expect(restored.lineage).toBe(last?.lineage);
    expect((await test.run({ kind: "plan" })).plan?.changes.map(({ address }) => address)).toContain(
      "terraform_data.big[0]",
    );
  });

  it("opens to a run that is at work alone, and to no lock but the one that holds it", async () => {
    await test.commit(files(1, {}, SLOW));
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await until(
      "the apply holding the lock",
      async () => (await test.infra()).lock !== null && (await kinds(runId)).includes("infra.resource"),
    );
    const { lock } = await test.infra();
    expect(lock).toMatchObject({ runId, operation: "OperationTypeApply" });
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/unlock`, { lockId: lock?.id ?? "" })).toMatchObject({
      code: "INFRA_LOCKED",
    });

    const asRun = async (method: "GET" | "POST", path: string, body: string, password: string) => {
      const authorization = `Basic ${Buffer.from(`${runId}:${password}`).toString("base64")}`;
      return test.server.inject({
        method,
        url: `${IN_PRODUCTION}/state${path}`,
        headers: { authorization },
        payload: body,
      });
    };
    expect((await asRun("GET", "", "", "wrong-password")).statusCode).toBe(401);
    await test.settled(runId);
    // The run's row is put back to work, as if it had two Terraforms.
    await test.platform.store.db
      .updateTable("infra_runs")
      .set({ status: "running", ended_at: null })
      .where("id", "=", runId)
      .execute();
    const password = await newRunCredential(test.platform.store.db, runId);
    const state = await asRun("GET", "", "", password);
    expect((await asRun("POST", "?ID=stolen", state.body, password)).json().error.code).toBe("INFRA_STATE_REFUSED");
    expect((await asRun("POST", "/lock", JSON.stringify({ ID: "mine" }), password)).statusCode).toBe(200);
    const refused = await asRun("POST", "/lock", JSON.stringify({ ID: "other" }), password);
    expect([refused.statusCode, refused.json().ID]).toEqual([423, "mine"]);
    expect((await asRun("POST", "/unlock", "", password)).statusCode).toBe(403);
    expect((await asRun("POST", "/unlock", JSON.stringify({ ID: "other" }), password)).statusCode).toBe(423);
    expect((await asRun("POST", "?ID=other", state.body, password)).statusCode).toBe(409);
    expect((await asRun("POST", "?ID=mine", "no state", password)).json().error.code).toBe("INFRA_STATE_REFUSED");
    expect((await asRun("POST", "?ID=mine", state.body, password)).statusCode).toBe(200);
    // One that still plans has the lock, too, and nothing to write.
    const setBegun = (at: Date | null) =>
      test.platform.store.db.updateTable("infra_runs").set({ apply_started_at: at }).where("id", "=", runId).execute();
    await setBegun(null);
    expect((await asRun("POST", "?ID=mine", state.body, password)).json().error.message).toContain("still plans");
    await setBegun(new Date());
    expect((await asRun("POST", "/unlock", JSON.stringify({ ID: "mine" }), password)).statusCode).toBe(200);
  });
});

const SLOW = `
variable "size" {}
resource "terraform_data" "first" { input = "made" }
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "sleep 2" }
}
`;

describe.skipIf(!hasTerraform)("an apply that was cut off (with the real Terraform)", () => {
  const begin = async () => {
    await test.commit(files(1, {}, SLOW));
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await until("the first resource", async () => (await kinds(runId)).includes("infra.resource"));
    return runId;
  };
  const pidOf = async (runId: string) =>
    JSON.parse(await readFile(join(test.platform.infra.dir, "runs", runId, "apply.pid"), "utf8")).pid as number;

  it("blocks the environment, shows what the state lacks and imports it: nothing is made twice", async () => {
    const runId = await begin();
    process.kill(-(await pidOf(runId)), "SIGKILL");
    expect(await test.settled(runId)).toMatchObject({ status: "unknown", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
    await test.idle();
    expect(await states()).toEqual([]);
    expect(await test.infra()).toMatchObject({ blockedBy: runId, lock: { runId } });
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" })).toMatchObject({
      code: "INFRA_BLOCKED",
    });

    const recovery = await test.recovery();
    expect(recovery).toMatchObject({
      advice: "import",
      errored: null,
      finished: [{ address: "terraform_data.first", action: "create" }],
      uncertain: [{ address: "terraform_data.slow", action: "create" }],
    });
    const { runId: importing } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, {
      way: "import",
    });
    const planned = await test.settled(importing);
    expect(planned).toMatchObject({ status: "waiting" });
    expect(planned.plan?.changes.map(({ address, action }) => [address, action])).toEqual([
      ["terraform_data.first", "update"],
      ["terraform_data.slow", "create"],
    ]);
    await test.ask("POST", `/api/infra/runs/${importing}/approve`);
    expect((await test.settled(importing)).status).toBe("succeeded");
    const state = await test.platform.infra.states.latest({ app: "shop", environment: "production" });
    expect(state?.text).toContain(recovery.finished[0]?.id);
  });

  it("lets nothing be applied before the import is: what had waited in line would make the same once more", async () => {
    const runId = await begin();
    const { runId: inLine } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    process.kill(-(await pidOf(runId)), "SIGKILL");
    await test.settled(runId);
    await test.idle();
    const first = (await test.recovery()).finished[0]?.id;
    const refused = await test.tryAsk("POST", `${IN_PRODUCTION}/recover`, {
      way: "import",
      found: [{ address: "terraform_data.none", id: "x" }],
    });
    expect(refused).toMatchObject({ code: "INFRA_STATE_REFUSED" });
    const { runId: importing } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, {
      way: "import",
    });
    expect((await test.settled(importing)).status).toBe("waiting");
    await test.idle();
    expect(await test.ask("GET", `/api/infra/runs/${inLine}`)).toMatchObject({ status: "queued" });
    expect((await test.infra()).blockedBy).toBe(runId);
    // Turned down, it can be asked for again: nothing of what is known was thrown away.
    await test.ask("POST", `/api/infra/runs/${importing}/cancel`);
    expect((await test.recovery()).finished[0]?.id).toBe(first);
    const { runId: again } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/recover`, { way: "import" });
    await test.settled(again);
    await test.ask("POST", `/api/infra/runs/${again}/approve`);
    expect((await test.settled(again)).status).toBe("succeeded");
    expect(await test.settled(inLine)).toMatchObject({ status: "succeeded", plan: { changes: [] } });
    expect((await test.platform.infra.states.latest(IN_SHOP))?.text).toContain(first);
    await test.idle();
    expect(await readdir(join(test.platform.infra.dir, "runs"))).toEqual([]);
  }, 60_000);

  it("takes over the state that Terraform could not save", async () => {
    const runId = await begin();
    const { runId: waiting } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await test.platform.store.db.updateTable("infra_environments").set({ lock: "null" }).execute();
    expect(await test.settled(runId)).toMatchObject({ status: "unknown" });
    await test.idle();
    const recovery = await test.recovery();
    expect(recovery).toMatchObject({ advice: "push", errored: { resources: 2 } });
    await test.ask("POST", `${IN_PRODUCTION}/recover`, { way: "push" });
    // What had waited in line goes on from there.
    expect(await test.settled(waiting)).toMatchObject({ status: "succeeded", plan: { changes: [] } });
    expect((await states())[0]).toMatchObject({
      resources: 2,
      reason: "taken over from errored.tfstate",
      actor: "admin",
    });
    expect(await test.infra()).toMatchObject({ blockedBy: null, lock: null });
    expect((await test.run({ kind: "apply" })).plan?.changes).toEqual([]);
  });

  it("is followed to its end by the next life of Shipway while Terraform lives on: nothing is started twice", async () => {
    await test.commit(files(1, {}, SLOW));
    const { deps } = test;
    test.platform.engine.startInfra = async () => undefined;
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    const run = () => getRun(deps.db, runId);
    await planRun(deps, await run());
    const firstLife = applyRun(deps, await run()).catch(() => undefined);
    await until("the first resource", async () => (await kinds(runId)).includes("infra.resource"));
    const terraform = newTerraform(test.dir, undefined);
    const secondLife = applyRun({ ...deps, terraform }, await run());
    expect(await secondLife).toMatchObject({ status: "succeeded" });
    await firstLife;
    const objects = resourcesIn(parseState((await deps.states.latest(IN_SHOP))?.text ?? ""));
    expect([...objects.keys()].sort()).toEqual(["terraform_data.first", "terraform_data.slow"]);
    const output = await terraform.output({ runDir: join(deps.dir, "runs", runId) }, "apply");
    expect(output.filter((line) => line.includes('"type":"version"'))).toHaveLength(1);
  });

  it("is not started by a later life when its files are gone", async () => {
    await test.commit(files(1));
    const { deps } = test;
    test.platform.engine.startInfra = async () => undefined;
    const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
    await planRun(deps, await getRun(deps.db, runId));
    await journalApply(deps.db, runId);
    await removeRunDir(deps, runId);
    expect(await applyRun(deps, await getRun(deps.db, runId))).toMatchObject({ status: "unknown" });
  });
});

describe.skipIf(!hasTerraform)("drift checks (with the real Terraform)", () => {
  it("are asked for when due, one at a time, and find nothing where nothing changed", async () => {
    const asked: string[] = [];
    const deps = { store: test.platform.store, startInfra: async ({ id }: { id: string }) => void asked.push(id) };
    expect(await checkNextDue(deps, Date.now())).toBeUndefined();
    const applied = await apply(1, { drift: "1h" });
    const id = await checkNextDue(deps, Date.now());
    expect(asked).toEqual([id]);
    expect(await checkNextDue(deps, Date.now() + 7_200_000)).toBeUndefined();
    await test.resume({ workflow: "infra", id: id ?? "" });
    expect(await test.infra()).toMatchObject({ drift: { runId: id, commit: applied.commit, resources: [] } });
    expect(await checkNextDue(deps, Date.now())).toBeUndefined();
    expect(await checkNextDue(deps, Date.now() + 3_600_001)).toBeDefined();
  });

  it("are stopped when a provider waits for something that does not answer, and the next one is made", async () => {
    let answers = true;
    const other = createServer((_request, response) => {
      if (answers) response.end(JSON.stringify({ version: 4, serial: 1, lineage: "x", outputs: {}, resources: [] }));
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = other.address() as AddressInfo;
      const waits = `data "terraform_remote_state" "other" {
  backend = "http"
  config  = { address = "http://127.0.0.1:${port}" }
}
`;
      expect((await apply(1, {}, `${MAIN}${waits}`)).status).toBe("succeeded");
      expect((await test.run({ kind: "drift" })).status).toBe("succeeded");
      answers = false;
      test.deps.planDeadlineMs = 3_000;
      const stuck = await test.run({ kind: "drift" });
      expect(stuck).toMatchObject({ status: "failed", problem: { code: "INFRA_FAILED" } });
      expect(stuck.problem?.message).toContain("terraform plan did not come to its end within 3");
      answers = true;
      test.deps.planDeadlineMs = 60_000;
      expect((await test.run({ kind: "drift" })).status).toBe("succeeded");
    } finally {
      other.closeAllConnections();
      other.close();
    }
  }, 60_000);

  it("look at what was applied, not at what was pushed since; what was left half applied is undeployed", async () => {
    await apply(1);
    const broken = `${MAIN}resource "terraform_data" "never" {\n  provisioner "local-exec" { command = "exit 1" }\n}\n`;
    expect((await apply(1, {}, broken)).status).toBe("failed");
    const check = await test.run({ kind: "drift" });
    expect(check.status).toBe("succeeded");
    expect((await test.infra()).drift?.resources).toMatchObject([
      { address: "terraform_data.never", kind: "undeployed", action: "delete" },
    ]);
  });
});

describe.skipIf(!hasTerraform)("an app with infrastructure (with the real Terraform)", () => {
  it("is not removed: its state is the only list of what exists", async () => {
    await apply(1);
    const answer = await test.server.inject({
      method: "DELETE",
      url: "/api/apps/shop",
      headers: { authorization: `Bearer ${await test.tokenFor("admin", "shop")}` },
    });
    expect(answer.json().error).toMatchObject({ code: "APP_BUSY" });
    expect(answer.json().error.message).toContain("1 resources in production");
  });
});
