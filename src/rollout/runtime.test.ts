import { describe, expect, it } from "vitest";
import { errorCode, type ShipwayError } from "../shared/errors.ts";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { resolveEnvironment } from "../spec/resolve-environment.ts";
import { parseRuntime, runtimeKey, runtimeOf } from "./runtime.ts";

const place = { app: "shop", environment: "production" };
const listener =
  "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/0123456789abcdef/0123456789abcdef";
const executionRole = "arn:aws:iam::123456789012:role/shop-exec";
/** What the module terraform/aws-fargate gives. */
const outputs = {
  region: "eu-central-1",
  cluster: "shop",
  listener_arn: listener,
  subnets: ["subnet-0a1b2c3d"],
  security_groups: ["sg-0a1b2c3d"],
  execution_role_arn: executionRole,
  assign_public_ip: true,
};

function specOf(environment: string) {
  const text = `app: shop\nservices: { web: { image: a, port: 80 } }\nenvironments:\n  production: ${environment}\n`;
  return resolveEnvironment(parseAppSpec(text), "production");
}

const onEcs = (environment: string, given: Record<string, unknown> = outputs) => {
  const runtime = runtimeOf(place, specOf(environment), given);
  if (runtime.kind !== "ecs") throw new Error("not on ECS");
  return runtime.settings;
};

describe("where a release runs", () => {
  it("is Docker when nothing is said", () => {
    expect(runtimeOf(place, specOf("{ branch: main }"), {})).toEqual({ kind: "docker" });
  });

  it("comes from the module's outputs by their own names", () => {
    expect(onEcs("{ runtime: ecs, infra: { dir: infra } }")).toEqual({
      region: "eu-central-1",
      cluster: "shop",
      listener,
      subnets: ["subnet-0a1b2c3d"],
      securityGroups: ["sg-0a1b2c3d"],
      executionRole,
      publicIp: true,
      exec: false,
      scheme: "https",
      architecture: "x86_64",
      storageGiB: 20,
      logRetentionDays: 30,
    });
  });

  it("takes outputs of other names where they are declared, and what is written before either", () => {
    const settings = onEcs(
      "{ runtime: ecs, infra: { dir: infra }, aws: { cluster: mine, outputs: { region: where, cluster: other }, domain: shop.example.com } }",
      { ...outputs, where: "us-east-1", other: "x" },
    );
    expect(settings).toMatchObject({ region: "us-east-1", cluster: "mine", domain: "shop.example.com" });
  });

  it("names every setting that is missing or wrong at once, and the output it would come from", () => {
    const { listener_arn: _, ...without } = outputs;
    let thrown: unknown;
    try {
      onEcs("{ runtime: ecs, infra: { dir: infra } }", { ...without, cluster: "arn:aws:ecs:x:1:cluster/shop" });
    } catch (error) {
      thrown = error;
    }
    expect(errorCode(thrown)).toBe("AWS_SETTINGS_INVALID");
    const { message, hint } = thrown as ShipwayError;
    expect(message).toContain("listener is missing (no Terraform output listener_arn)");
    expect(message).toContain("cluster: write the cluster's name, not its ARN");
    expect(hint).toContain("aws:");
  });

  it("is read back as it was recorded, and is another place by region, cluster or listener only", () => {
    const runtime = runtimeOf(place, specOf("{ runtime: ecs, infra: { dir: infra } }"), outputs);
    expect(parseRuntime(JSON.parse(JSON.stringify(runtime)))).toEqual(runtime);
    const wider = { ...outputs, subnets: ["subnet-0a1b2c3d", "subnet-0a1b2c3e"] };
    const keyOf = (given: Record<string, unknown>) =>
      runtimeKey(runtimeOf(place, specOf("{ runtime: ecs, infra: { dir: infra } }"), given));
    expect(keyOf(wider)).toBe(keyOf(outputs));
    expect(keyOf({ ...outputs, cluster: "other" })).not.toBe(keyOf(outputs));
  });
});
