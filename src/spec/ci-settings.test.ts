import { describe, expect, it } from "vitest";
import type { ShipwayError } from "../shared/errors.ts";
import { AppSpec } from "./app-spec.ts";
import { ciSettingsOf } from "./ci-settings.ts";

const executionRole = "arn:aws:iam::123456789012:role/shop-exec";
/** What the module terraform/aws-fargate gives. */
const outputs = {
  region: "eu-central-1",
  cluster: "shop",
  subnets: ["subnet-0a1b2c3d"],
  security_groups: ["sg-0a1b2c3d"],
  execution_role_arn: executionRole,
  assign_public_ip: true,
  work_bucket: "shop-work-123456789012",
  step_role: null,
  build_project: "shop-build",
};

const specOf = (ci: object | undefined, aws: object = {}, infra: object | undefined = { dir: "infra" }): AppSpec =>
  AppSpec.parse({
    app: "shop",
    services: { web: { image: "a", port: 80 } },
    environments: { production: { runtime: "ecs", aws, ...(infra && { infra }) } },
    ...(ci && { ci }),
  });

const refusalOf = (spec: AppSpec, given: Record<string, unknown> | undefined): ShipwayError => {
  try {
    ciSettingsOf(spec, given);
  } catch (error) {
    return error as ShipwayError;
  }
  throw new Error("it was not refused");
};

describe("where CI runs", () => {
  it("is this server's Docker Engine when nothing is said", () => {
    const here = { steps: { kind: "docker" }, images: { kind: "docker" } };
    expect(ciSettingsOf(specOf(undefined), undefined)).toEqual(here);
    expect(ciSettingsOf(specOf({}), undefined)).toEqual(here);
  });

  it("is the account of the named environment, by the module's outputs", () => {
    const { steps, images } = ciSettingsOf(
      specOf({ steps: "ecs", images: "codebuild", environment: "production" }),
      outputs,
    );
    expect(steps).toEqual({
      kind: "ecs",
      settings: {
        region: "eu-central-1",
        cluster: "shop",
        subnets: ["subnet-0a1b2c3d"],
        securityGroups: ["sg-0a1b2c3d"],
        executionRole,
        publicIp: true,
        workBucket: "shop-work-123456789012",
        toolImage: "node:20-bookworm-slim",
        architecture: "x86_64",
        storageGiB: 20,
        logRetentionDays: 30,
      },
    });
    expect(images).toEqual({
      kind: "codebuild",
      settings: {
        region: "eu-central-1",
        workBucket: "shop-work-123456789012",
        buildProject: "shop-build",
        architecture: "x86_64",
      },
    });
  });

  it("has the security groups that are made for steps, where there are any", () => {
    const given = { ...outputs, step_security_groups: ["sg-0123abcd"] };
    const { steps } = ciSettingsOf(specOf({ steps: "ecs", environment: "production" }), given);
    expect(steps).toMatchObject({ settings: { securityGroups: ["sg-0123abcd"] } });
    expect(steps).not.toHaveProperty("settings.stepSecurityGroups");
  });

  it("takes what is written before outputs, and outputs of other names where they are declared", () => {
    const aws = { workBucket: "mine", toolImage: "tools:1", outputs: { cluster: "other" }, architecture: "arm64" };
    const { steps } = ciSettingsOf(specOf({ steps: "ecs", environment: "production" }, aws), {
      ...outputs,
      other: "team",
    });
    expect(steps).toMatchObject({
      settings: { workBucket: "mine", toolImage: "tools:1", cluster: "team", architecture: "arm64" },
    });
  });

  it("asks only for what the half that is away needs", () => {
    const ci = { images: "codebuild", environment: "production" };
    const aws = { region: "eu-central-1", workBucket: "mine", buildProject: "shop-build" };
    expect(ciSettingsOf(specOf(ci, aws), {}).images.kind).toBe("codebuild");
  });

  it("names all settings that nothing gives, each once", () => {
    const { region: _region, work_bucket: _bucket, build_project: _project, ...rest } = outputs;
    const { code, message, hint } = refusalOf(
      specOf({ steps: "ecs", images: "codebuild", environment: "production" }),
      rest,
    );
    expect(code).toBe("AWS_SETTINGS_INVALID");
    expect(message).toBe(
      "The CI of shop cannot use the AWS account of production for its steps and image builds: region is missing (no Terraform output region); workBucket is missing (no Terraform output work_bucket); buildProject is missing (no Terraform output build_project).",
    );
    expect(hint).toContain("`shipway infra apply --app shop --env production`");
  });

  it("says how to apply first where the Terraform that would give them never was", () => {
    const { message, hint } = refusalOf(specOf({ steps: "ecs", environment: "production" }), undefined);
    expect(message).toContain("was never applied");
    expect(hint).toMatch(/apply it once by hand: `shipway infra apply --app shop --env production`.*`shipway deploy/);
  });
});
