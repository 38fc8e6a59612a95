import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { serveReattach } from "../provider/protocol/serve-reattach.ts";
import { newReality, type Reality, realityProvider } from "../provider/testing/reality.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

if (!hasTerraform) console.warn("SKIPPED: the drift table needs terraform");

const HEAD = `terraform {
  required_providers {
    reality = { source = "terraform.test/shipway/reality" }
  }
}
`;
const SECRET = "known-to-the-code-alone";
const LEAKED = "set-by-hand-and-secret";
/** Of every kind: a number (refresh-only plans see drift in each, measured with Terraform 1.11), a secret, one that is ignored, one that depends on another. */
const main = (size: number) => `${HEAD}
resource "reality_object" "web" {
  name   = "web"
  size   = ${size}
  secret = "${SECRET}"
}
resource "reality_object" "next" {
  name = "next"
  size = 2.5
  tags = { of = reality_object.web.id }
}
resource "reality_object" "loose" {
  name = "loose"
  size = 1
  lifecycle { ignore_changes = [size] }
}
output "size" { value = reality_object.web.size }
`;

describe.skipIf(!hasTerraform)(
  "drift, row by row (with the real Terraform and a provider whose reality a test can change)",
  () => {
    let reality: Reality;
    let served: Awaited<ReturnType<typeof serveReattach>>;
    let test: InfraTest;
    beforeEach(async () => {
      reality = newReality();
      served = await serveReattach(realityProvider(reality));
      test = await newInfraTest({ reattach: served.reattach });
    });
    afterEach(async () => {
      await test?.close();
      await served?.close();
    });

    const commit = (text: string, more: object = {}) =>
      test.commit({ "shipway.yml": specWith({ dir: "infra", ...more }), "infra/main.tf": text });
    const apply = async (text: string, more: object = {}): Promise<InfraRunView> => {
      await commit(text, more);
      return test.run({ kind: "apply" });
    };
    const applied = async (text = main(2)) => {
      expect(await apply(text)).toMatchObject({ status: "succeeded", problem: null });
    };
    /** What a check finds now. */
    const drift = async () => {
      expect(await test.run({ kind: "drift" })).toMatchObject({ status: "succeeded", problem: null });
      return (await test.infra()).drift?.resources;
    };
    const found = async (kind: string) =>
      (await test.ask<{ kind: string }[]>("GET", "/api/events?app=shop&limit=500")).filter(
        (event) => event.kind === kind,
      );
    /** Applies once more what was applied, with the approval that it may want. */
    const revert = async () => {
      const run = await test.run({ kind: "apply", again: true });
      if (run.status !== "waiting") return run;
      await test.ask("POST", `/api/infra/runs/${run.id}/approve`);
      return test.settled(run.id);
    };

    it("nothing changed: nothing is found, numbers or not, and nobody is told anything", async () => {
      await applied();
      expect(await drift()).toEqual([]);
      expect(await found("infra.driftFound")).toEqual([]);
    });

    it("a managed attribute edited: reverting, with its values; told once; put back by applying again; told as gone", async () => {
      await applied();
      reality.edit("web", { size: 7 });
      const expected = {
        address: "reality_object.web",
        kind: "reverting",
        action: "update",
        attributes: [{ path: "size", before: "2", after: "7" }],
      };
      expect(await drift()).toEqual([expected]);
      expect(await drift()).toEqual([expected]);
      expect(await found("infra.driftFound")).toHaveLength(1);
      expect(await revert()).toMatchObject({ status: "succeeded", refName: "as applied" });
      expect(reality.named("web")?.size).toBe(2);
      expect(await drift()).toEqual([]);
      expect(await found("infra.driftGone")).toHaveLength(1);
    });

    it("a computed attribute alone: informational, though the plan is empty and its exit code 0", async () => {
      await applied();
      reality.edit("web", { revision: 5 });
      expect(await drift()).toMatchObject([
        {
          address: "reality_object.web",
          kind: "informational",
          attributes: [{ path: "revision", before: "1", after: "5" }],
        },
      ]);
      expect(await found("infra.driftFound")).toEqual([]);
    });

    it("an object deleted: reverting, and made again by applying again", async () => {
      await applied();
      reality.remove("loose");
      expect(await drift()).toEqual([
        { address: "reality_object.loose", kind: "reverting", action: "delete", attributes: [] },
      ]);
      expect((await revert()).status).toBe("succeeded");
      expect(reality.named("loose")).toBeDefined();
      expect(await drift()).toEqual([]);
    });

    it("an attribute that forces a new object: reverting; what hangs on it is no drift; putting it back waits for an approval", async () => {
      await applied();
      reality.edit("web", { name: "other" });
      expect(await drift()).toMatchObject([
        { address: "reality_object.web", kind: "reverting", action: "update", attributes: [{ path: "name" }] },
      ]);
      const run = await test.run({ kind: "apply", again: true });
      expect(run).toMatchObject({ status: "waiting" });
      expect(run.plan?.changes.map(({ address, action }) => [address, action])).toEqual([
        ["reality_object.next", "update"],
        ["reality_object.web", "replace"],
      ]);
      expect(run.plan?.approval).toEqual([
        "it destroys and makes anew reality_object.web: this cannot be changed in place",
      ]);
      await test.ask("POST", `/api/infra/runs/${run.id}/approve`);
      expect((await test.settled(run.id)).status).toBe("succeeded");
      expect(reality.named("other")).toBeUndefined();
      expect(await drift()).toEqual([]);
    });

    it("edited to what newer code says: reverting as long as that code is not applied, then nothing to be done about it", async () => {
      await applied();
      reality.edit("web", { size: 9 });
      await commit(main(9));
      expect(await drift()).toMatchObject([
        { kind: "reverting", attributes: [{ path: "size", before: "2", after: "9" }] },
      ]);
      const run = await test.run({ kind: "apply" });
      expect(run).toMatchObject({ status: "succeeded", plan: { changes: [], outputs: ["size"] } });
      expect(await drift()).toEqual([]);
      expect(await found("infra.driftGone")).toHaveLength(1);
    });

    it("an attribute under ignore_changes: informational", async () => {
      await applied();
      reality.edit("loose", { size: 40 });
      expect(await drift()).toMatchObject([
        {
          address: "reality_object.loose",
          kind: "informational",
          attributes: [{ path: "size", before: "1", after: "40" }],
        },
      ]);
    });

    it("a sensitive attribute: reverting, by its name alone; neither value is in an answer, an event, a log or our database", async () => {
      await applied();
      reality.edit("web", { secret: LEAKED });
      expect(await drift()).toMatchObject([
        { kind: "reverting", attributes: [{ path: "secret", before: "(sensitive)", after: "(sensitive)" }] },
      ]);
      const run = await revert();
      expect(run.status).toBe("succeeded");
      expect(reality.named("web")?.secret).toBe(SECRET);
      const { db } = test.platform.store;
      const shown = JSON.stringify([
        await test.infra(),
        await test.ask("GET", "/api/apps/shop/infra/runs"),
        await test.ask("GET", "/api/events?app=shop&limit=500"),
        await test.ask("GET", `${IN_PRODUCTION}/states/latest`),
        await test.ask("GET", `${IN_PRODUCTION}/states/latest/diff`),
        await db.selectFrom("infra_runs").select(["plan", "problem"]).execute(),
        await db.selectFrom("infra_environments").select("drift").execute(),
        await Promise.all(run.logs.map((id) => test.platform.logs.read(id, 0, 10_000))),
      ]);
      expect(shown).toContain("reality_object.web");
      for (const text of [SECRET, LEAKED]) expect(shown.includes(text), text).toBe(false);
      const kept = await filesBelow(test.platform.infra.dir);
      for (const file of kept) expect((await readFile(file)).includes(SECRET), file).toBe(false);
    });

    it("code changed and not applied: no drift, since the check looks at what was applied", async () => {
      await applied();
      await commit(main(8));
      expect(await drift()).toEqual([]);
    });

    it("code applied by half: undeployed, also beside something that was changed by hand", async () => {
      await applied();
      const half = `${main(2).replace('name = "next"\n  size = 2.5', 'name = "next"\n  size = 6')}
resource "reality_object" "never" {
  name       = "never"
  fail       = "before"
  depends_on = [reality_object.next]
}
`;
      expect(await apply(half)).toMatchObject({ status: "failed", problem: { code: "INFRA_FAILED" } });
      const next = { address: "reality_object.next", kind: "undeployed", action: "update" };
      expect(await drift()).toMatchObject([next]);
      reality.edit("loose", { size: 40 });
      reality.edit("web", { size: 7 });
      const both = await drift();
      expect(both?.map(({ kind, address }) => `${kind} ${address}`).sort()).toEqual([
        "informational reality_object.loose",
        "reverting reality_object.web",
        "undeployed reality_object.next",
      ]);
    });

    it("taken over into the state, the code staying as it is: no drift to Terraform, and still told as undeployed", async () => {
      await applied();
      reality.edit("web", { size: 7 });
      expect(await drift()).toMatchObject([{ kind: "reverting" }]);
      const { runId } = await test.ask<{ runId: string }>("POST", `${IN_PRODUCTION}/drift/accept`, { targets: [] });
      expect((await test.settled(runId)).status).toBe("waiting");
      await test.ask("POST", `/api/infra/runs/${runId}/approve`);
      expect((await test.settled(runId)).status).toBe("succeeded");
      await test.idle();
      expect(reality.named("web")?.size).toBe(7);
      expect(await drift()).toMatchObject([
        {
          address: "reality_object.web",
          kind: "undeployed",
          action: "update",
          attributes: expect.arrayContaining([{ path: "size", before: "7", after: "2" }]),
        },
      ]);
      expect((await revert()).status).toBe("succeeded");
      expect(reality.named("web")?.size).toBe(2);
      expect(await drift()).toEqual([]);
    }, 60_000);

    it("a data source: never counted, neither what it reads nor that it is read", async () => {
      reality.objects.set("outside", { name: "outside", size: 3, tags: null, secret: null, revision: 1 });
      const text = `${main(2)}
data "reality_object" "outside" { name = "outside" }
resource "terraform_data" "later" { input = "x" }
data "reality_object" "late" {
  name       = "outside"
  depends_on = [terraform_data.later]
}
output "outside" { value = data.reality_object.outside.size }
`;
      await applied(text);
      reality.edit("outside", { size: 4 });
      expect(await drift()).toEqual([]);
      const run = await test.run({ kind: "apply" });
      expect(run).toMatchObject({ status: "succeeded", plan: { changes: [], outputs: ["outside"] } });
      const told = (await test.ask<{ data: { address?: string } }[]>("GET", "/api/events?app=shop&limit=500")).flatMap(
        ({ data }) => data.address ?? [],
      );
      expect(told).toContain("terraform_data.later");
      expect(told.filter((address) => address.startsWith("data."))).toEqual([]);
    });

    it("between a plan and its approval: what was planned from is not there any more, so the plan is refused and nothing is overwritten", async () => {
      await applied();
      const waiting = await apply(main(3), { approval: "always" });
      expect(waiting).toMatchObject({ status: "waiting" });
      reality.edit("web", { tags: { by: "hand" } });
      await test.ask("POST", `/api/infra/runs/${waiting.id}/approve`);
      const run = await test.settled(waiting.id);
      expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_PLAN_STALE" } });
      expect(run.problem?.message).toContain("reality_object.web");
      expect(reality.named("web")).toMatchObject({ size: 2, tags: { by: "hand" } });

      const anew = await apply(main(3), { approval: "always" });
      await test.ask("POST", `/api/infra/runs/${anew.id}/approve`);
      expect((await test.settled(anew.id)).status).toBe("succeeded");
      expect(reality.named("web")).toMatchObject({ size: 3, tags: null });
    });
  },
);

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
