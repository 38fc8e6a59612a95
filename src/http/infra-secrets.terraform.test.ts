import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { getRun } from "../infra/runs.ts";
import { applyInfra } from "../workflow/infra-stages.ts";
import type { InfraRunView } from "./infra-schemas.ts";
import { hasTerraform, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

let test: InfraTest;
beforeEach(async () => {
  if (hasTerraform) test = await newInfraTest();
});
afterEach(() => test?.close());

const SECRET = "hunter-two-and-more";
const place = { app: "shop", environment: "production" };

/** All that is told and kept of a run. */
async function shownOf(run: InfraRunView): Promise<string> {
  const logs = await Promise.all(run.logs.map((log) => test.platform.logs.read(log, 0, 1_000).catch(() => [])));
  const events = await test.ask("GET", "/api/events?app=shop&limit=500");
  return JSON.stringify([await getRun(test.platform.store.db, run.id), logs, events]);
}

describe.skipIf(!hasTerraform)("a secret of an infra run (with the real Terraform)", () => {
  it("is not shown where init quotes what it cannot use", async () => {
    await test.platform.secrets.set(place, "PG_CONN_STR", SECRET, "ada");
    await test.commit({
      "shipway.yml": specWith({ dir: "infra", secrets: ["PG_CONN_STR"] }),
      "infra/main.tf": 'terraform {\n  backend "pg" {}\n}\n',
    });
    const run = await test.run({ kind: "plan" });
    expect(run).toMatchObject({ status: "failed", problem: { code: "INFRA_FAILED" } });
    expect(run.problem?.message).toContain("connection info string");
    expect(await shownOf(run)).not.toContain(SECRET);
  });

  it("is not shown in the address of a resource", async () => {
    await test.platform.secrets.set(place, "TF_VAR_name", SECRET, "ada");
    await test.commit({
      "shipway.yml": specWith({ dir: "infra", secrets: ["TF_VAR_name"] }),
      "infra/main.tf": 'variable "name" {}\nresource "terraform_data" "a" {\n  for_each = toset([var.name])\n}\n',
    });
    const run = await test.run({ kind: "apply" });
    await test.idle();
    expect(run.status).toBe("succeeded");
    const shown = await shownOf(run);
    expect(shown).toContain("infra.resource");
    expect(shown).not.toContain(SECRET);
  });

  it("is not shown in the log of an apply that ended while Shipway was restarted, also one that only the plan knows", async () => {
    await test.commit({
      "shipway.yml": specWith({ dir: "infra", approval: "always", approvers: "anyone" }),
      "infra/main.tf": `variable "name" {
  sensitive = true
  default   = "${SECRET}"
}
resource "terraform_data" "a" {
  input = var.name
  provisioner "local-exec" {
    command = "echo it is \${nonsensitive(var.name)}"
  }
}
`,
    });
    const { id } = await test.run({ kind: "apply" });
    test.platform.engine.startInfra = async () => undefined;
    await test.ask("POST", `/api/infra/runs/${id}/approve`);
    // Shipway dies before it has recorded how the apply ended.
    const died = applyInfra(test.deps, id, (name, work) => (name === "infra-end" ? Promise.reject("died") : work()));
    await expect(died).rejects.toBe("died");
    await test.resume({ workflow: "infra-apply", id });
    const run = await test.settled(id);
    expect(run.status).toBe("succeeded");
    const shown = await shownOf(run);
    expect(shown).toContain("it is ****");
    expect(shown).not.toContain(SECRET);
  });
});
