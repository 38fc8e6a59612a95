import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasMoto, type Moto, startMoto } from "../infra/moto-testing.ts";
import { runProgram } from "../shared/run-program.ts";
import { hasTerraform, IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

/** A filesystem mirror that holds hashicorp/aws; without one, and without moto_server, there is no provider to drift. */
const MIRROR = process.env.SHIPWAY_TERRAFORM_MIRROR;
const canRun = MIRROR !== undefined && hasTerraform && hasMoto;
if (!canRun)
  console.warn(
    "SKIPPED: drift of a real provider needs terraform, moto_server and SHIPWAY_TERRAFORM_MIRROR with hashicorp/aws",
  );

describe.skipIf(!canRun)("drift of a real provider (SHIPWAY_TERRAFORM_MIRROR with hashicorp/aws, moto_server)", () => {
  let test: InfraTest;
  let moto: Moto;
  const aws = (...args: string[]) =>
    runProgram(["aws", "--endpoint-url", moto.endpoint, "--region", "eu-central-1", ...args], {
      env: { ...process.env, ...KEYS },
    });

  beforeAll(async () => {
    moto = await startMoto();
    test = await newInfraTest({ ...(MIRROR !== undefined && { mirrorDir: MIRROR }) });
    await test.commit({
      "shipway.yml": specWith({
        dir: "infra",
        env: { ...KEYS, AWS_ENDPOINT_URL: moto.endpoint, AWS_REGION: "eu-central-1" },
      }),
      "infra/main.tf": MAIN,
    });
    expect((await test.run({ kind: "apply" })).problem).toBeNull();
  }, 180_000);
  afterAll(async () => {
    await test?.close();
    await moto?.close();
  });
  const resources = async () => (await test.infra()).drift?.resources;

  it("names each resource that was changed by hand with what changed, tells it once, and puts it back", async () => {
    expect((await test.run({ kind: "drift" })).status).toBe("succeeded");
    expect(await resources()).toEqual([]);

    await aws("logs", "put-retention-policy", "--log-group-name", "shop", "--retention-in-days", "1");
    await aws("ssm", "delete-parameter", "--name", "/shop/url");
    await test.run({ kind: "drift" });
    await test.run({ kind: "drift" });
    expect(await resources()).toMatchObject([
      {
        address: "aws_cloudwatch_log_group.shop",
        kind: "reverting",
        action: "update",
        attributes: [{ path: "retention_in_days", before: "7", after: "1" }],
      },
      { address: "aws_ssm_parameter.url", kind: "reverting", action: "delete" },
    ]);
    const events = await test.ask<{ kind: string }[]>("GET", "/api/events?app=shop&limit=500");
    expect(events.filter(({ kind }) => kind === "infra.driftFound")).toHaveLength(1);

    const reverted = await test.run({ kind: "apply", again: true });
    expect(reverted).toMatchObject({ status: "succeeded", refName: "as applied" });
    expect(
      JSON.parse((await aws("logs", "describe-log-groups", "--output", "json")).stdout).logGroups[0].retentionInDays,
    ).toBe(7);
    await test.run({ kind: "drift" });
    expect(await resources()).toEqual([]);
  }, 180_000);

  it("keeps apart what nothing would be done about, and what somebody accepted", async () => {
    await aws(
      "ssm",
      "put-parameter",
      "--overwrite",
      "--name",
      "/shop/ignored",
      "--type",
      "String",
      "--value",
      "by hand",
    );
    await aws("logs", "put-retention-policy", "--log-group-name", "shop", "--retention-in-days", "3");
    await test.run({ kind: "drift" });
    expect((await resources())?.map(({ address, kind }) => `${kind} ${address}`)).toEqual([
      "reverting aws_cloudwatch_log_group.shop",
      "informational aws_ssm_parameter.ignored",
    ]);
    const ignored = { what: "aws_cloudwatch_log_group.shop", reason: "disk is dear" };
    await test.ask("POST", `${IN_PRODUCTION}/drift/ignore`, ignored);
    await test.run({ kind: "drift" });
    expect(await resources()).toMatchObject([{ kind: "ignored", reason: "disk is dear" }, { kind: "informational" }]);
  }, 180_000);
});

const KEYS = { AWS_ACCESS_KEY_ID: "testing", AWS_SECRET_ACCESS_KEY: "testing" };

const MAIN = `
provider "aws" {
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
resource "aws_cloudwatch_log_group" "shop" {
  name              = "shop"
  retention_in_days = 7
}
resource "aws_ssm_parameter" "url" {
  name  = "/shop/url"
  type  = "String"
  value = "mysql://db"
}
resource "aws_ssm_parameter" "ignored" {
  name  = "/shop/ignored"
  type  = "String"
  value = "first"
  lifecycle { ignore_changes = [value, insecure_value] }
}
`;
