import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { throughOutages } from "../store/outage.ts";
import { applyInfra } from "../workflow/infra-stages.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

let test: InfraTest;
beforeEach(async () => {
  if (hasTerraform) test = await newInfraTest();
});
afterEach(() => test?.close());

describe.skipIf(!hasTerraform)("Postgres that goes away during an apply (with the real Terraform)", () => {
  it("leaves nothing unknown: the run is followed again and ends as Terraform did", async () => {
    await test.commit({
      "shipway.yml": specWith({ dir: "infra", approval: "always", approvers: "anyone" }),
      "infra/main.tf": 'resource "terraform_data" "a" { input = "x" }\n',
    });
    const { id } = await test.run({ kind: "apply" });
    test.platform.engine.startInfra = async () => undefined;
    await test.ask("POST", `/api/infra/runs/${id}/approve`);
    let losses = 0;
    const { states } = test.deps;
    const findLock: typeof states.findLock = async (place) => {
      if (losses++ === 0) throw Object.assign(new Error("terminating connection"), { code: "57P01" });
      return states.findLock(place);
    };
    const deps = { ...test.deps, states: { ...states, findLock } };
    const { signal } = new AbortController();
    await applyInfra(deps, id, (_name, work) => throughOutages(work, signal));
    expect(losses).toBeGreaterThan(1);
    expect(await test.settled(id)).toMatchObject({ status: "succeeded" });
    expect(await test.infra()).toMatchObject({ blockedBy: null, runningRun: null, applied: { runId: id } });
    expect(await test.ask<unknown[]>("GET", `${IN_PRODUCTION}/states`)).toHaveLength(1);
  });
});
