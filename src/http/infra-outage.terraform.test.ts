import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StoredEvent } from "../events/event.ts";
import { narrateInfra } from "../events/narrate-infra.ts";
import { DEFAULT_SELECTORS, selects } from "../notify/selectors.ts";
import { getDeployment, requestDeployment } from "../release/deployments.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { throughOutages } from "../store/outage.ts";
import { applyInfra } from "../workflow/infra-stages.ts";
import { provision } from "../workflow/provision-stage.ts";
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

  it("stops no deployment that waits for the run", async () => {
    const { db } = test.platform.store;
    const yaml = specWith({ dir: "infra" });
    const commit = await test.commit({ "shipway.yml": yaml, "infra/main.tf": 'resource "terraform_data" "a" {}\n' });
    const release = { app: "shop", number: 1, change_id: "c", commit, ref_name: "main", subject: "s", author: "a" };
    const spec = JSON.stringify(parseAppSpec(yaml));
    const image = { service: "web", name: "shipway/shop/web:1", digest: "sha256:1", reused: false };
    await db
      .insertInto("releases")
      .values({ ...release, spec, images: JSON.stringify([image]) })
      .execute();
    const wanted = { app: "shop", environment: "production", release: 1, kind: "deploy", actor: "ada" } as const;
    const { id } = await db.transaction().execute((tx) => requestDeployment(tx, { ...wanted, deliveryId: "c" }));
    let losses = 0;
    const { secrets, repositories } = test.platform;
    const resolve: typeof secrets.resolve = async (...args) => {
      if (losses++ === 0) throw Object.assign(new Error("terminating connection"), { code: "57P01" });
      return secrets.resolve(...args);
    };
    const deps = { ...test.deps, repositories, secrets: { ...secrets, resolve } };
    const { signal } = new AbortController();
    const provisioned = provision(deps, await getDeployment(db, id), (_name, work) => throughOutages(work, signal));
    expect(await provisioned).toEqual({ ok: true, value: null });
    expect(await test.infra()).toMatchObject({ applied: { commit } });
  });
});

describe.skipIf(!hasTerraform)("a drift check that an apply overtakes (with the real Terraform)", () => {
  it("says so, and is no failure that somebody is told to see to", async () => {
    await test.commit({
      "shipway.yml": specWith({ dir: "infra" }),
      "infra/main.tf": 'resource "terraform_data" "a" { input = "x" }\n',
    });
    await test.run({ kind: "apply" });
    await test.idle();
    const { states } = test.deps;
    let looks = 0;
    test.deps.states = { ...states, latestVersion: async (place) => (await states.latestVersion(place)) + looks++ };
    const check = await test.run({ kind: "drift" });
    expect(check).toMatchObject({ status: "superseded", problem: { code: "INFRA_PLAN_STALE" } });
    const events = await test.ask<StoredEvent[]>("GET", "/api/events?app=shop&limit=500");
    const ended = events.filter(({ kind, data }) => kind === "infra.ended" && data.runId === check.id);
    expect(ended).toHaveLength(1);
    expect(ended.filter((event) => selects(DEFAULT_SELECTORS, event))).toEqual([]);
    expect(ended.flatMap((event) => narrateInfra(event))[0]).toMatch(/^! .*was changed while its drift was looked for/);
  });
});
