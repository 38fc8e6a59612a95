import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StateVersionView } from "./infra-schemas.ts";
import { IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

let test: InfraTest;
beforeEach(async () => {
  test = await newInfraTest();
});
afterEach(() => test?.close());

const MAIN = `
variable "size" { type = number }
resource "terraform_data" "disk" { input = "disk-\${var.size}" }
output "disk" { value = terraform_data.disk.output }
output "password" {
  value     = "hunter-two-and-more"
  sensitive = true
}
`;
const files = (size: number, main = MAIN) => ({
  "shipway.yml": specWith({ dir: "infra", variables: { size } }),
  "infra/main.tf": main,
});
const states = () => test.ask<StateVersionView[]>("GET", `${IN_PRODUCTION}/states`);

describe("an apply", () => {
  it("plans, applies, keeps the state sealed and gives its outputs", async () => {
    const commit = await test.commit(files(1));
    const run = await test.run({ kind: "apply" });
    expect(run).toMatchObject({ status: "succeeded", commit, problem: null });
    expect(run.plan?.changes).toMatchObject([{ address: "terraform_data.disk", action: "create" }]);
    expect(await test.infra()).toMatchObject({
      applied: { runId: run.id, commit },
      runningRun: null,
      lock: null,
      outputs: [
        { name: "disk", value: "disk-1" },
        { name: "password", value: "(sensitive)" },
      ],
    });
    const rows = await test.platform.store.db.selectFrom("infra_states").selectAll().execute();
    expect(rows.every(({ sealed }) => !sealed.toString("latin1").includes("terraform_data"))).toBe(true);
  });
});
