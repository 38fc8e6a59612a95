import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { recordWrite } from "../infra/rollout-writes.ts";
import { parseState, resourcesIn } from "../infra/states.ts";
import type { Terraform } from "../infra/terraform.ts";
import { serveReattach } from "../provider/protocol/serve-reattach.ts";
import { newReality, type Reality, realityProvider } from "../provider/testing/reality.ts";
import { until } from "../shared/until.ts";
import { checkNextDue } from "../workflow/drift-loop.ts";
import type { IgnoredDriftView, InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

/** What can drift: a provider in this process over objects that a test changes by hand. */
let test: InfraTest;
let reality: Reality;
let stopProvider: () => Promise<void>;
beforeEach(async () => {
  if (!hasTerraform) return;
  reality = newReality();
  const { reattach, close } = await serveReattach(realityProvider(reality));
  stopProvider = close;
  test = await newInfraTest();
  test.platform.infra.terraform = reaching(test.platform.infra.terraform, reattach);
  test.deps.terraform = test.platform.infra.terraform;
});
afterEach(async () => {
  await test?.close();
  await stopProvider?.();
});

function reaching(terraform: Terraform, reattach: string): Terraform {
  const withProvider = <W extends { env: Record<string, string> }>(workspace: W): W => ({
    ...workspace,
    env: { ...workspace.env, TF_REATTACH_PROVIDERS: reattach },
  });
  return {
    ...terraform,
    run: (workspace, args, signal) => terraform.run(withProvider(workspace), args, signal),
    start: (workspace, name, args) => terraform.start(withProvider(workspace), name, args),
  };
}

const SECRET = "hunter-two-and-more";
const OTHER_SECRET = "changed-by-hand-it-is";
const HEAD = `terraform {
  required_providers {
    reality = { source = "terraform.test/shipway/reality" }
  }
}
`;
const MAIN = `${HEAD}
resource "reality_object" "web" {
  name   = "web"
  size   = 2
  tags   = { team = "a" }
  secret = "${SECRET}"
}
resource "reality_object" "db" { name = "db" }
`;
const apply = async (rules: object = {}, main = MAIN) => {
  await test.commit({ "shipway.yml": specWith({ dir: "infra", ...rules }), "infra/main.tf": main });
  return test.run({ kind: "apply" });
};
const look = async () => {
  expect((await test.run({ kind: "drift" })).problem).toBeNull();
  return drift();
};
const drift = async () =>
  ((await test.infra()).drift?.resources ?? []).map(
    ({ address, kind, attributes }) => `${kind} ${address} ${attributes.map(({ path }) => path).join()}`,
  );
const accept = async (targets: string[] = []): Promise<InfraRunView> => {
  const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/drift/accept`, { targets });
  return test.settled(runId);
};
const approve = (id: string) => test.ask("POST", `/api/infra/runs/${id}/approve`);
const stateOf = async (address: string) => {
  const state = await test.deps.states.latest({ app: "shop", environment: "production" });
  return resourcesIn(parseState(state?.text ?? "")).get(address)?.attributes;
};
const events = async (kind: string) =>
  (await test.ask<{ kind: string; data: Record<string, unknown> }[]>("GET", "/api/events?app=shop&limit=500")).filter(
    (event) => event.kind === kind,
  );

describe.skipIf(!hasTerraform)("drift that is accepted (with the real Terraform)", () => {
  it("is taken over into the state once approved, nothing real is changed, and what the code says otherwise is told", async () => {
    expect((await apply()).problem).toBeNull();
    reality.edit("web", { size: 7 });
    expect(await look()).toEqual(["reverting reality_object.web size"]);
    const calls = reality.calls.length;

    const waiting = await accept();
    expect(waiting).toMatchObject({ status: "waiting", kind: "apply", takeover: { addresses: [] } });
    expect(waiting.plan?.changes).toMatchObject([
      { address: "reality_object.web", action: "update", attributes: [{ path: "size", before: "2", after: "7" }] },
    ]);
    expect((await stateOf("reality_object.web"))?.size).toBe(2);
    await approve(waiting.id);
    expect((await test.settled(waiting.id)).status).toBe("succeeded");
    await test.idle();

    expect((await stateOf("reality_object.web"))?.size).toBe(7);
    expect(reality.named("web")?.size).toBe(7);
    expect(reality.calls.slice(calls).every((call) => call.startsWith("read "))).toBe(true);
    expect(await drift()).toEqual(["undeployed reality_object.web revision,size"]);
    expect(await events("infra.codeDiffers")).toMatchObject([
      { data: { resources: [{ address: "reality_object.web", attributes: [{}, { before: "7", after: "2" }] }] } },
    ]);
    expect((await test.infra()).applied?.commit).toBe(waiting.commit);
  });

  it("can be of one resource alone; the others go on being drift", async () => {
    await apply();
    reality.edit("web", { size: 7 });
    reality.edit("db", { size: 9 });
    const waiting = await accept(["reality_object.db"]);
    expect(waiting.plan?.changes.map(({ address }) => address)).toEqual(["reality_object.db"]);
    await approve(waiting.id);
    expect((await test.settled(waiting.id)).status).toBe("succeeded");
    await test.idle();
    expect([(await stateOf("reality_object.web"))?.size, (await stateOf("reality_object.db"))?.size]).toEqual([2, 9]);
    expect((await drift()).sort()).toEqual([
      "reverting reality_object.web size",
      "undeployed reality_object.db revision,size",
    ]);
  });

  it("needs an operator, and drops nothing that is protected", async () => {
    await apply({ protect: ["reality_object.db"], approvers: "anyone" });
    reality.edit("web", { size: 7 });
    const waiting = await accept();
    const asTester = await test.server.inject({
      method: "POST",
      url: `/api/infra/runs/${waiting.id}/approve`,
      headers: { authorization: `Bearer ${await test.tokenFor("tester")}` },
    });
    expect(asTester.json().error.code).toBe("FORBIDDEN");
    reality.remove("db");
    const refused = await accept();
    expect(refused).toMatchObject({ status: "failed", problem: { code: "INFRA_PROTECTED" } });
    expect(refused.problem?.message).toContain("drops from the state reality_object.db");
  });

  it("has nothing to wait for where nothing drifted", async () => {
    await apply();
    expect(await accept()).toMatchObject({ status: "succeeded", plan: { changes: [], approval: [] } });
  });
});

describe.skipIf(!hasTerraform)("drift that is ignored (with the real Terraform)", () => {
  const ignore = (what: string, more: object = {}) =>
    test.ask("POST", `${IN_PRODUCTION}/drift/ignore`, { what, reason: "sale", ...more });

  it("is quiet of that attribute alone, until it is taken back or its time is over", async () => {
    await apply();
    reality.edit("web", { size: 7 });
    await look();
    await ignore("reality_object.web.size", { for: "1h" });
    expect(await drift()).toEqual(["ignored reality_object.web size"]);
    reality.edit("web", { tags: { team: "b" } });
    expect(await look()).toEqual(["reverting reality_object.web tags.team", "ignored reality_object.web size"]);
    const ignored = await test.ask<IgnoredDriftView[]>("GET", `${IN_PRODUCTION}/drift/ignored`);
    expect(ignored).toMatchObject([
      { address: "reality_object.web", path: "size", reason: "sale", actor: "admin", until: expect.any(String) },
    ]);

    await test.platform.store.db
      .updateTable("infra_ignored")
      .set({ until: new Date(Date.now() - 1) })
      .execute();
    expect(await look()).toEqual(["reverting reality_object.web size,tags.team"]);
    await ignore("reality_object.web");
    expect(await look()).toEqual(["ignored reality_object.web size,tags.team"]);
    await test.ask("POST", `${IN_PRODUCTION}/drift/unignore`, { what: "reality_object.web" });
    expect(await look()).toEqual(["reverting reality_object.web size,tags.team"]);
    expect(await test.tryAsk("POST", `${IN_PRODUCTION}/drift/ignore`, { what: "nothing", reason: "x" })).toMatchObject({
      code: "REQUEST_INVALID",
    });
  });

  it("is what a rollout wrote last, and nothing else on the same attribute", async () => {
    await apply({}, MAIN.replace("size   = 2", "size   = 2\n  lifecycle { ignore_changes = [size] }"));
    const id = (await stateOf("reality_object.web"))?.id;
    const place = { app: "shop", environment: "production" };
    const write = { type: "reality_object", object: String(id), path: "size", among: {}, value: 5 };
    await recordWrite(test.deps.db, place, write);
    await recordWrite(test.deps.db, place, write);
    reality.edit("web", { size: 5 });
    await look();
    expect((await test.infra()).drift?.resources).toMatchObject([
      { kind: "informational", reason: "a rollout set it" },
    ]);
    reality.edit("web", { size: 6 });
    await look();
    expect((await test.infra()).drift?.resources[0]).not.toHaveProperty("reason");
  });
});

describe.skipIf(!hasTerraform)("drift of what is secret (with the real Terraform)", () => {
  it("is named and shown nowhere: not in events, runs, logs or the API", async () => {
    await apply();
    reality.edit("web", { secret: OTHER_SECRET });
    const check = await test.run({ kind: "drift" });
    expect(await drift()).toEqual(["reverting reality_object.web secret"]);
    const accepted = await accept();
    await approve(accepted.id);
    await test.settled(accepted.id);
    await test.idle();
    const runs = await test.ask<InfraRunView[]>("GET", "/api/apps/shop/infra/runs");
    const logs = await Promise.all(
      [...new Set([check, accepted, ...runs].flatMap((run) => run.logs))].map((log) =>
        test.platform.logs.read(log, 0, 1_000).catch(() => []),
      ),
    );
    const shown = JSON.stringify([
      runs,
      logs,
      await test.infra(),
      await test.ask("GET", "/api/events?app=shop&limit=500"),
      await test.ask("GET", `${IN_PRODUCTION}/states/latest/diff`),
    ]);
    expect(shown).toContain("(sensitive)");
    expect(shown).not.toContain(SECRET);
    expect(shown).not.toContain(OTHER_SECRET);
  });
});

describe.skipIf(!hasTerraform)(
  "a provider's call under way when somebody stops the run (with the real Terraform)",
  () => {
    const SLOW = `${HEAD}
resource "reality_object" "web" { name = "web" }
resource "reality_object" "slow" {
  name     = "slow"
  delay_ms = 6000
}
resource "reality_object" "next" {
  name       = "next"
  depends_on = [reality_object.slow]
}
`;
    const begin = async () => {
      await apply({}, `${HEAD}resource "reality_object" "web" { name = "web" }\n`);
      await test.commit({ "shipway.yml": specWith({ dir: "infra" }), "infra/main.tf": SLOW });
      const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/runs`, { kind: "apply" });
      await until("the object", () => reality.named("slow") !== undefined);
      await test.ask("POST", `/api/infra/runs/${runId}/cancel`);
      return runId;
    };

    it("comes to its end and into the state; what it is at is told meanwhile", async () => {
      const runId = await begin();
      const run = await test.settled(runId);
      expect(run).toMatchObject({ status: "canceled", problem: { code: "INFRA_CANCELED" } });
      expect(run.problem?.message).toContain(
        "done and in the state: reality_object.slow (1 of 2); not begun: reality_object.next",
      );
      expect((await stateOf("reality_object.slow"))?.name).toBe("slow");
      expect(await events("infra.stopping")).toMatchObject([
        { data: { runId, resources: [{ address: "reality_object.slow", action: "create" }] } },
      ]);
    });

    it("is lost from the state when it is forced: the outcome is unknown and says what it was at", async () => {
      const runId = await begin();
      const out = join(test.platform.infra.dir, "runs", runId, "apply.jsonl");
      await until("Terraform listening", async () => (await readFile(out, "utf8")).includes("Interrupt received"));
      await test.ask("POST", `/api/infra/runs/${runId}/cancel/force`);
      const run = await test.settled(runId);
      expect(run).toMatchObject({ status: "unknown", problem: { code: "INFRA_OUTCOME_UNKNOWN" } });
      expect(run.problem?.message).toContain("stopped at once while it was at reality_object.slow");
      await test.idle();
      expect(await test.infra()).toMatchObject({ blockedBy: runId });
      expect((await test.recovery()).uncertain).toMatchObject([{ address: "reality_object.slow", action: "create" }]);
      expect(await stateOf("reality_object.slow")).toBeUndefined();
      expect(reality.named("slow")).toBeDefined();
      // Somebody needs to know what is there, most of all now.
      reality.remove("web");
      const deps = { store: test.platform.store, startInfra: async () => undefined };
      const id = await checkNextDue(deps, Date.now());
      await test.resume({ workflow: "infra", id: id ?? "" });
      expect(await drift()).toEqual(["reverting reality_object.web "]);
    });
  },
);
