import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { AWS_MIRROR, describeWithAws, type Moto, startMoto } from "../infra/moto-testing.ts";
import { IN_PRODUCTION, type InfraTest, newInfraTest, specWith } from "./infra-testing.ts";

const ROOT = join(import.meta.dirname, "../..");
const DIR = "examples/launches-infra/aws";

/**
 * What only an emulator needs, as an override file beside the example: buckets by path, since `BUCKET.127.0.0.1` is no host;
 * and no cache: moto makes a replication group without its members, at which the provider fails (seen with moto 5.2.1).
 * Shipway's own control plane is asked for, too.
 */
const forMoto = (certificate: string) => `
provider "aws" {
  s3_use_path_style = true
}
module "shipway" {
  backing = {
    db = { engine = "mariadb", version = "10.11" }
  }
  certificate_arn = "${certificate}"
  control_plane = {
    domain        = "shipway.example.com"
    image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway-control-plane:1"
    allowed_cidrs = ["203.0.113.0/24"]
  }
}
output "cache_url" {
  value = ""
}
`;

/**
 * In the module: moto never says that back-ups of files are on, nor that their policy is gone again; it drops these two members of CreateService, which would
 * be drift; and of two databases it no longer finds the second, at which the provider fails: here that is Shipway's own (seen with 5.2.1).
 */
const MODULE_FOR_MOTO = `
resource "aws_efs_backup_policy" "control_plane" {
  for_each = {}
}
resource "aws_efs_file_system_policy" "control_plane" {
  for_each = {}
}
resource "aws_db_instance" "control_plane" {
  for_each = {}
}
resource "aws_secretsmanager_secret_version" "control_plane_database" {
  for_each = {}
}
resource "aws_ecs_service" "control_plane" {
  lifecycle {
    ignore_changes = [availability_zone_rebalancing, health_check_grace_period_seconds]
  }
}
`;

/** The example and the module, in folders as in the repository, since one names the other by a relative path. */
async function exampleFiles(certificate = ""): Promise<Record<string, string>> {
  const files: Record<string, string> = {
    [`${DIR}/moto_override.tf`]: forMoto(certificate),
    "terraform/aws-fargate/moto_override.tf": MODULE_FOR_MOTO,
  };
  for (const dir of [DIR, "terraform/aws-fargate", "terraform/aws-fargate/policies"]) {
    for (const name of await readdir(join(ROOT, dir))) {
      if (/\.(tf|json)$/.test(name)) files[`${dir}/${name}`] = await readFile(join(ROOT, dir, name), "utf8");
    }
  }
  return files;
}

/** Where things of ours would be, by kind. moto goes on listing deleted endpoints and clusters, and says so in their state. */
const PLACES = [
  ["ec2", "describe-vpcs"],
  ["ec2", "describe-subnets"],
  ["ec2", "describe-security-groups"],
  ["ec2", "describe-route-tables"],
  ["ec2", "describe-internet-gateways"],
  ["ec2", "describe-vpc-endpoints", "--query", "VpcEndpoints[?State!='deleted']"],
  ["elbv2", "describe-load-balancers"],
  ["ecs", "describe-clusters", "--clusters", "shipway", "--query", "clusters[?status=='ACTIVE']"],
  ["iam", "list-roles"],
  ["iam", "list-policies", "--scope", "Local"],
  ["s3api", "list-buckets"],
  ["rds", "describe-db-instances"],
  ["rds", "describe-db-subnet-groups"],
  ["secretsmanager", "list-secrets", "--include-planned-deletion"],
  ["efs", "describe-file-systems"],
  ["efs", "describe-access-points"],
  ["ecr", "describe-repositories"],
  ["logs", "describe-log-groups"],
  ["elbv2", "describe-target-groups"],
  ["ecs", "list-task-definitions"],
];
const nameOf = (place: string[]): string => place.slice(0, 2).join(" ");

describeWithAws("the sample product's infrastructure on AWS", () => {
  let test: InfraTest;
  let moto: Moto;
  let outputs: Record<string, string>;
  beforeAll(async () => {
    moto = await startMoto();
    test = await newInfraTest({
      ...(AWS_MIRROR !== undefined && { mirrorDir: AWS_MIRROR }),
      // The provider alone waits 60 s for a load balancer and 80 s for a database, however fast they are there.
      settledWithinMs: 400_000,
    });
  }, 120_000);
  afterAll(async () => {
    await test?.close();
    await moto?.close();
  });

  const spec = (variables: object) => ({ "shipway.yml": specWith({ dir: DIR, env: moto.env, variables }) });

  /** Without what no apply would change: right after an apply, resources that others were attached to read back with those. */
  async function drift(): Promise<string[]> {
    expect((await test.run({ kind: "drift" })).problem).toBeNull();
    return ((await test.infra()).drift?.resources ?? [])
      .filter(({ kind }) => kind !== "informational")
      .map(({ kind, action, address }) => `${kind} ${action} ${address}`)
      .sort();
  }

  /** All at once: each is a process that mostly loads its own code. */
  async function placesWithOurs(): Promise<string[]> {
    const listed = await Promise.all(PLACES.map((place) => moto.aws<object | undefined>(...place)));
    return PLACES.filter((_place, index) => JSON.stringify(listed[index] ?? {}).includes("shipway")).map(nameOf);
  }

  it("is applied as it stands, and then nothing differs", async () => {
    const certificate = await moto.aws<{ CertificateArn: string }>(
      "acm",
      "request-certificate",
      "--domain-name",
      "*.example.com",
    );
    await test.commit({
      ...spec({ protect: "false", driver_principals: '["arn:aws:iam::123456789012:role/host"]' }),
      ...(await exampleFiles(certificate.CertificateArn)),
    });
    expect(await test.run({ kind: "apply" })).toMatchObject({ status: "succeeded", problem: null });
    outputs = Object.fromEntries((await test.infra()).outputs.map(({ name, value }) => [name, value]));
    expect(outputs).toMatchObject({
      region: "eu-central-1",
      cluster: "shipway",
      assign_public_ip: "true",
      log_prefix: "/shipway",
      log_bucket: "shipway-logs-123456789012-eu-central-1",
      state_bucket: "shipway-state-123456789012-eu-central-1",
      execution_role_arn: "arn:aws:iam::123456789012:role/shipway-exec",
      task_role_arn: "arn:aws:iam::123456789012:role/shipway-task",
      db_url: "(sensitive)",
    });
    expect(await drift()).toEqual([]);
    expect(await placesWithOurs()).toEqual(PLACES.map(nameOf));
  }, 500_000);

  it("makes a password, keeps it as a secret, and gives the app an address with it", async () => {
    const { SecretString } = await moto.aws<{ SecretString: string }>(
      "secretsmanager",
      "get-secret-value",
      "--secret-id",
      "shipway-backing/db/password",
    );
    expect(SecretString).toMatch(/^[A-Za-z0-9]{40}$/);
    const state = await test.ask<{ outputs: Record<string, { value: string }> }>(
      "GET",
      `${IN_PRODUCTION}/states/latest/raw`,
    );
    expect(state.outputs.db_url?.value).toMatch(new RegExp(`^mysql://app:${SecretString}@.+:3306/app$`));
  }, 60_000);

  it("runs Shipway itself with addresses of secrets and no secret, one task at a time", async () => {
    const definition = await moto.aws<{ taskDefinition: TaskDefinition }>(
      "ecs",
      "describe-task-definition",
      "--task-definition",
      "control-plane-shipway",
    );
    const { containerDefinitions, volumes, taskRoleArn } = definition.taskDefinition;
    const [container] = containerDefinitions;
    expect(taskRoleArn).toBe("arn:aws:iam::123456789012:role/shipway-control-plane");
    expect(container?.secrets.map(({ name }) => name).sort()).toEqual([
      "DATABASE_URL",
      "SHIPWAY_FIRST_TOKEN",
      "SHIPWAY_SECRET_KEY",
    ]);
    expect(container?.environment).toContainEqual({ name: "SHIPWAY_URL", value: "https://shipway.example.com" });
    expect(container?.stopTimeout).toBe(120);
    expect(volumes[0]?.efsVolumeConfiguration).toMatchObject({ transitEncryption: "ENABLED" });
    const [service] = (
      await moto.aws<{ services: { desiredCount: number; deploymentConfiguration: object }[] }>(
        "ecs",
        "describe-services",
        "--cluster",
        "shipway",
        "--services",
        "control-plane",
      )
    ).services;
    expect(service?.desiredCount).toBe(1);

    const secret = async (name: string) =>
      (
        await moto.aws<{ SecretString: string }>(
          "secretsmanager",
          "get-secret-value",
          "--secret-id",
          `shipway-control-plane/${name}`,
        )
      ).SecretString;
    const [key, token, password] = [
      await secret("secret-key"),
      await secret("admin-token"),
      await secret("database-password"),
    ];
    expect(Buffer.from(key, "base64")).toHaveLength(32);
    expect(token).toMatch(/^shw_[A-Za-z0-9]{44}$/);
    const state = JSON.stringify(await test.ask("GET", `${IN_PRODUCTION}/states/latest/raw`));
    for (const hidden of [key, token, password]) expect(state).not.toContain(hidden);
  }, 120_000);

  it("shows what was changed by hand, what was only added included, and puts it back", async () => {
    const [group = ""] = JSON.parse(outputs.security_groups ?? "[]") as string[];
    const bucket = outputs.state_bucket ?? "";
    const policy = "arn:aws:iam::123456789012:policy/shipway-terraform-state";
    const answer = "Type=fixed-response,FixedResponseConfig={StatusCode=200,ContentType=text/plain,MessageBody=hello}";
    const ssh = ["--protocol", "tcp", "--port", "22", "--cidr", "0.0.0.0/0"];
    await moto.aws("ec2", "authorize-security-group-ingress", "--group-id", group, ...ssh);
    await moto.aws("iam", "attach-role-policy", "--role-name", "shipway-driver", "--policy-arn", policy);
    await moto.aws("s3api", "delete-public-access-block", "--bucket", bucket);
    const listener = ["--listener-arn", outputs.listener_arn ?? ""];
    await moto.aws("elbv2", "modify-listener", ...listener, "--default-actions", answer);
    await moto.aws("iam", "attach-role-policy", "--role-name", "shipway-control-plane", "--policy-arn", policy);
    await moto.aws(
      "ecs",
      "update-service",
      "--cluster",
      "shipway",
      "--service",
      "control-plane",
      "--desired-count",
      "0",
    );

    expect(await drift()).toEqual([
      'reverting delete module.shipway.aws_s3_bucket_public_access_block.this["state"]',
      'reverting update module.shipway.aws_ecs_service.control_plane["this"]',
      'reverting update module.shipway.aws_iam_role_policy_attachments_exclusive.control_plane["this"]',
      "reverting update module.shipway.aws_iam_role_policy_attachments_exclusive.driver[0]",
      "reverting update module.shipway.aws_lb_listener.https[0]",
      "reverting update module.shipway.aws_security_group.tasks",
    ]);

    expect(await test.run({ kind: "apply", again: true })).toMatchObject({ status: "succeeded", problem: null });
    const groups = await moto.aws<object>("ec2", "describe-security-groups", "--group-ids", group);
    expect(JSON.stringify(groups)).not.toContain('"FromPort":22');
    const attached = await moto.aws<object>("iam", "list-attached-role-policies", "--role-name", "shipway-driver");
    expect(JSON.stringify(attached)).not.toContain(policy);
    const blocked = await moto.aws<object>("s3api", "get-public-access-block", "--bucket", bucket);
    expect(JSON.stringify(blocked)).toContain('"RestrictPublicBuckets":true');
    const listeners = await moto.aws<object>(
      "elbv2",
      "describe-listeners",
      "--listener-arns",
      outputs.listener_arn ?? "",
    );
    expect(JSON.stringify(listeners)).toContain('"StatusCode":"404"');
    expect(await drift()).toEqual([]);
  }, 400_000);

  it("is removed when its code is gone and somebody agreed, with nothing left", async () => {
    const none = Object.fromEntries(Object.keys(await exampleFiles()).map((path) => [path, ""]));
    const provider = 'provider "aws" {\n  s3_use_path_style = true\n}\n';
    await test.commit({ ...spec({}), ...none, [`${DIR}/main.tf`]: provider });
    const run = await test.run({ kind: "apply" });
    expect(run).toMatchObject({ status: "waiting", problem: null });
    await test.ask("POST", `/api/infra/runs/${run.id}/approve`);
    expect(await test.settled(run.id)).toMatchObject({ status: "succeeded", problem: null });
    expect(await placesWithOurs()).toEqual([]);
  }, 500_000);
});

type TaskDefinition = {
  taskRoleArn: string;
  volumes: { efsVolumeConfiguration: object }[];
  containerDefinitions: {
    secrets: { name: string }[];
    environment: { name: string; value: string }[];
    stopTimeout: number;
  }[];
};
