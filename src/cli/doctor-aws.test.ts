import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LookedUp } from "../aws/account-secrets.ts";
import { toAwsError } from "../aws/aws-errors.ts";
import type { EcsSettings } from "../rollout/runtime.ts";
import { fail } from "../shared/errors.ts";
import type { AwsNeeds } from "./aws-settings.ts";
import type { Check } from "./doctor.ts";
import {
  type AwsDoctorOptions,
  type AwsFacts,
  neededPermissions,
  type Permission,
  runAwsDoctor,
} from "./doctor-aws.ts";
import { isAllowed, shippedStatements } from "./policy-testing.ts";
import { newTestCli, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const ACCOUNT = "123456789012";
const LISTENER = `arn:aws:elasticloadbalancing:eu-central-1:${ACCOUNT}:listener/app/shop/0123456789abcdef/0123456789abcdef`;
const settings: EcsSettings = {
  region: "eu-central-1",
  cluster: "shop",
  listener: LISTENER,
  subnets: ["subnet-0000000a", "subnet-0000000b"],
  securityGroups: ["sg-0000000a"],
  executionRole: `arn:aws:iam::${ACCOUNT}:role/path/shop-exec`,
  taskRole: `arn:aws:iam::${ACCOUNT}:role/shop-task`,
  publicIp: false,
  exec: false,
  scheme: "https",
  architecture: "x86_64",
  storageGiB: 20,
  logRetentionDays: 30,
};
const options: AwsDoctorOptions = { settings, vcpus: 2, registryEndpoint: undefined };
const balancer = {
  name: "shop",
  state: "active",
  scheme: "internet-facing",
  vpc: "vpc-1",
  zones: ["eu-central-1a", "eu-central-1b"],
  securityGroups: ["sg-balancer"],
};
const listener = { protocol: "HTTPS", port: 443, certificates: 1, loadBalancer: "arn:lb" };
const subnet = (id: string, zone: string, changes = {}) => ({ id, vpc: "vpc-1", zone, freeAddresses: 250, ...changes });
const subnets = [subnet("subnet-0000000a", "eu-central-1a"), subnet("subnet-0000000b", "eu-central-1b")];
const group = { id: "sg-0000000a", vpc: "vpc-1", out: "anywhere" as const, from: ["sg-balancer"] };
const cluster = { status: "ACTIVE", providers: ["FARGATE", "FARGATE_SPOT"], execKey: undefined, execLogs: undefined };
const ways = (one: string | undefined, other: string | undefined) =>
  new Map([
    ["subnet-0000000a", one],
    ["subnet-0000000b", other],
  ]);
const healthy: AwsFacts = {
  identity: async () => ({ account: ACCOUNT, arn: `arn:aws:sts::${ACCOUNT}:assumed-role/shipway/i-1` }),
  cluster: async () => cluster,
  listener: async () => listener,
  loadBalancer: async () => balancer,
  subnets: async () => subnets,
  waysOut: async () => ways("nat-1", "nat-1"),
  endpoints: async () => [],
  securityGroups: async () => [group],
  role: async () => ({ services: ["ecs-tasks.amazonaws.com"] }),
  lacking: async () => [],
  registry: async () => `https://${ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com`,
  answers: async () => true,
  logGroups: async () => 1,
  vcpuQuota: async () => 100,
};

const notOk = (checks: readonly Check[]) => checks.filter(({ status }) => status !== "ok");
const look = (facts: Partial<AwsFacts>, changes: Partial<AwsDoctorOptions> = {}) =>
  runAwsDoctor({ ...healthy, ...facts }, { ...options, ...changes });

/** What the facts reject with when AWS answers so. */
const refused = (name: string, action: string, subject?: string) => async (): Promise<never> => {
  const error = Object.assign(new Error(`${name} it is`), { name, $metadata: { httpStatusCode: 400 } });
  throw toAwsError(error, { action, region: "eu-central-1", subject });
};

describe("runAwsDoctor", () => {
  it("finds nothing in an account that has everything", async () => {
    const checks = await look({});
    expect(notOk(checks)).toEqual([]);
    expect(checks.map(({ name }) => name)).toEqual([
      "credentials",
      "region and account",
      "cluster",
      "listener",
      "load balancer",
      "subnets",
      "way out",
      "security groups",
      "execution role",
      "task role",
      "permissions",
      "image registry",
      "logs",
      "Fargate quota",
    ]);
  });

  describe("with secrets of the account", () => {
    const SECRET = `arn:aws:secretsmanager:eu-central-1:${ACCOUNT}:secret:db-AbCdEf`;
    const KEY = `arn:aws:kms:eu-central-1:${ACCOUNT}:key/1`;
    const found = { status: "found" as const, valueFrom: "", version: "1", isPinned: true, resource: SECRET, key: KEY };
    const secrets = (looked: LookedUp[], problems: string[] = []) => ({
      needs: {
        references: [
          { name: "DB", from: SECRET, reference: { kind: "secret" as const, arn: SECRET, region: "eu-central-1" } },
        ],
        problems,
        unseen: [] as string[],
      },
      account: { lookUp: async () => looked },
    });

    it("says where they lie, and tries whether the execution role may read them", async () => {
      const asked: string[] = [];
      const lacking: AwsFacts["lacking"] = async (role, permissions) => {
        if (role === settings.executionRole)
          asked.push(...permissions.map(({ action, resource }) => `${action} ${resource}`));
        return [];
      };
      const checks = await look({ lacking }, { secrets: secrets([found]) });
      expect(notOk(checks)).toEqual([]);
      expect(checks).toContainEqual({ name: "secrets", status: "ok", found: `DB (${SECRET})` });
      expect(asked).toEqual([`secretsmanager:GetSecretValue ${SECRET}`, `kms:Decrypt ${KEY}`]);
    });

    it("asks for an endpoint where a parameter is to be read without a way out", async () => {
      const closed = {
        waysOut: async () => ways("nat-1", undefined),
        endpoints: async () => ["ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager"],
      };
      expect(notOk(await look(closed, { secrets: secrets([found]) }))).toEqual([]);
      const reference = { kind: "parameter" as const, names: ["/mail"] };
      const { account } = secrets([found]);
      const needs = { references: [{ name: "MAIL", from: "ssm:/mail", reference }], problems: [], unseen: ["KEY"] };
      const [way, unseen] = notOk(await look(closed, { secrets: { needs, account } }));
      expect(way?.found).toContain("no endpoints for ssm: tasks can fetch neither");
      expect(unseen).toMatchObject({
        status: "warn",
        found: "MAIL (ssm:/mail), not tested: KEY, whose output is sensitive",
      });
    });

    it("names all that are not there or cannot be read, and what to add", async () => {
      const lacking: AwsFacts["lacking"] = async (role, permissions) =>
        role === settings.executionRole ? permissions : [];
      const [unreadable] = notOk(await look({ lacking }, { secrets: secrets([found]) }));
      expect(unreadable).toMatchObject({ name: "secrets for tasks", status: "fail" });
      expect(unreadable?.fix).toContain(`"Resource":"${SECRET}"`);
      const denied = { status: "denied" as const, why: "Shipway's role may not look", policy: "{STATEMENT}" };
      const [bad] = notOk(await look({}, { secrets: secrets([denied], ["KEY: there is no output"]) }));
      expect(bad).toMatchObject({
        name: "secrets",
        status: "fail",
        found: `KEY: there is no output; DB: Shipway's role may not look (${SECRET})`,
        fix: expect.stringContaining("{STATEMENT}"),
      });
    });
  });

  type Case = {
    name: string;
    facts?: Partial<AwsFacts>;
    changes?: Partial<EcsSettings>;
    check: string;
    status: Check["status"];
    found?: RegExp;
    fix: RegExp;
  };
  const cases: Case[] = [
    {
      name: "a listener of another Region",
      changes: { region: "eu-west-1" },
      check: "region and account",
      status: "fail",
      found: /Region is eu-west-1, and the listener is in eu-central-1/,
      fix: /`region` or `listener`/,
    },
    {
      name: "credentials of another account",
      facts: { identity: async () => ({ account: "999999999999", arn: "arn:aws:iam::999999999999:user/ada" }) },
      check: "region and account",
      status: "fail",
      found: /of account 999999999999/,
      fix: /credentials of 123456789012/,
    },
    {
      name: "no cluster",
      facts: { cluster: async () => undefined },
      check: "cluster",
      status: "fail",
      found: /no cluster shop in eu-central-1/,
      fix: /aws: \{ cluster \}/,
    },
    {
      name: "a deleted cluster",
      facts: { cluster: async () => ({ ...cluster, status: "INACTIVE", providers: [] }) },
      check: "cluster",
      status: "fail",
      fix: /made again/,
    },
    {
      name: "a cluster without Fargate's capacity provider, which our tasks do not need",
      facts: { cluster: async () => ({ ...cluster, providers: [] }) },
      check: "cluster",
      status: "warn",
      fix: /put-cluster-capacity-providers/,
    },
    {
      name: "a cluster without Spot, for tasks on Spot",
      facts: { cluster: async () => ({ ...cluster, providers: ["FARGATE"] }) },
      changes: { spot: true },
      check: "cluster",
      status: "fail",
      found: /lacks FARGATE_SPOT/,
      fix: /FARGATE FARGATE_SPOT/,
    },
    {
      name: "no listener",
      facts: { listener: async () => undefined },
      check: "listener",
      status: "fail",
      found: /does not exist/,
      fix: /aws: \{ listener \}/,
    },
    {
      name: "a listener that speaks another protocol",
      facts: { listener: async () => ({ ...listener, protocol: "HTTP", port: 80 }) },
      check: "listener",
      status: "fail",
      found: /HTTP at port 80, and the environment says https/,
      fix: /scheme: http /,
    },
    {
      name: "a listener in clear",
      facts: { listener: async () => ({ ...listener, protocol: "HTTP", port: 80 }) },
      changes: { scheme: "http" },
      check: "listener",
      status: "warn",
      fix: /certificate/,
    },
    {
      name: "a listener without its certificate",
      facts: { listener: async () => ({ ...listener, certificates: 0 }) },
      check: "listener",
      status: "fail",
      fix: /Certificate Manager/,
    },
    {
      name: "a load balancer that is being made",
      facts: { loadBalancer: async () => ({ ...balancer, state: "provisioning" }) },
      check: "load balancer",
      status: "fail",
      fix: /wait/,
    },
    {
      name: "a subnet that is gone",
      facts: { subnets: async () => subnets.slice(0, 1) },
      check: "subnets",
      status: "fail",
      found: /^subnet-0000000b not there/,
      fix: /aws: \{ subnets \}/,
    },
    {
      name: "subnets of another VPC",
      facts: { subnets: async () => subnets.map((one) => ({ ...one, vpc: "vpc-2" })) },
      check: "subnets",
      status: "fail",
      found: /in vpc-2, the load balancer is in vpc-1/,
      fix: /load balancer's VPC/,
    },
    {
      name: "a zone that the load balancer is not in",
      facts: { loadBalancer: async () => ({ ...balancer, zones: ["eu-central-1a"] }) },
      check: "subnets",
      status: "fail",
      fix: /never get traffic: enable eu-central-1b/,
    },
    {
      name: "subnets that are nearly full",
      facts: { subnets: async () => subnets.map((one) => ({ ...one, freeAddresses: 3 })) },
      check: "subnets",
      status: "warn",
      fix: /takes an address/,
    },
    {
      name: "a single zone",
      facts: { subnets: async () => subnets.map((one) => ({ ...one, zone: "eu-central-1a" })) },
      check: "subnets",
      status: "warn",
      fix: /two zones/,
    },
    {
      name: "public subnets without public addresses",
      facts: { waysOut: async () => ways("igw-1", "igw-1") },
      check: "way out",
      status: "fail",
      found: /cannot fetch their image/,
      fix: /publicIp: true/,
    },
    {
      name: "a subnet without any way out",
      facts: { waysOut: async () => ways("nat-1", undefined), endpoints: async () => ["ecr.api", "s3"] },
      check: "way out",
      status: "fail",
      found: /^subnet-0000000b: no default route, and no endpoints for ecr.dkr, logs, secretsmanager/,
      fix: /com\.amazonaws\.eu-central-1\.ecr\.dkr/,
    },
    {
      name: "a way out for tasks and none for commands inside them",
      facts: {
        waysOut: async () => ways(undefined, undefined),
        endpoints: async () => ["ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager"],
      },
      changes: { exec: true },
      check: "way out",
      status: "fail",
      found: /no endpoints for ssmmessages: no command can be run inside tasks/,
      fix: /com\.amazonaws\.eu-central-1\.ssmmessages/,
    },
    {
      name: "a task role that does not let the agent in",
      facts: {
        lacking: async (arn, asked) =>
          arn === settings.taskRole ? asked.filter(({ action }) => /Open/.test(action)) : [],
      },
      changes: { exec: true },
      check: "exec",
      status: "fail",
      found: /would deny .*role\/shop-task ssmmessages:OpenControlChannel, ssmmessages:OpenDataChannel/,
      fix: /task-exec\.json.*"Action":\["ssmmessages:OpenControlChannel","ssmmessages:OpenDataChannel"\]/,
    },
    {
      name: "sessions with a key",
      facts: { cluster: async () => ({ ...cluster, execKey: "alias/sessions" }) },
      changes: { exec: true },
      check: "exec",
      status: "fail",
      found: /encrypted with alias\/sessions/,
      fix: /kmsKeyId/,
    },
    {
      name: "security groups that are gone",
      facts: { securityGroups: async () => [] },
      check: "security groups",
      status: "fail",
      fix: /aws: \{ securityGroups \}/,
    },
    {
      name: "a security group of another VPC",
      facts: { securityGroups: async () => [{ ...group, vpc: "vpc-2" }] },
      check: "security groups",
      status: "fail",
      fix: /one VPC/,
    },
    {
      name: "security groups that let nothing out",
      facts: { securityGroups: async () => [{ ...group, out: "nowhere" }] },
      check: "security groups",
      status: "fail",
      fix: /port 443/,
    },
    {
      name: "security groups that let out to some addresses",
      facts: { securityGroups: async () => [{ ...group, out: "somewhere" }] },
      check: "security groups",
      status: "warn",
      fix: /ECR, S3/,
    },
    {
      name: "security groups that the load balancer cannot reach",
      facts: { securityGroups: async () => [{ ...group, from: ["sg-other"] }] },
      check: "security groups",
      status: "fail",
      found: /nothing in from sg-balancer/,
      fix: /from sg-balancer/,
    },
    {
      name: "an execution role that does not exist",
      facts: { role: async (name) => (name === "shop-exec" ? undefined : { services: ["ecs-tasks.amazonaws.com"] }) },
      check: "execution role",
      status: "fail",
      found: /role\/path\/shop-exec does not exist/,
      fix: /apply the Terraform/,
    },
    {
      name: "a task role for machines",
      facts: {
        role: async (name) => ({ services: [name === "shop-task" ? "ec2.amazonaws.com" : "ecs-tasks.amazonaws.com"] }),
      },
      check: "task role",
      status: "fail",
      found: /trusts ec2\.amazonaws\.com/,
      fix: /"Service":"ecs-tasks\.amazonaws\.com"/,
    },
    {
      name: "a role that may not be passed",
      facts: { lacking: async (_caller, all) => all.filter(({ action }) => action === "iam:PassRole") },
      check: "permissions",
      status: "fail",
      found: /deny iam:PassRole, iam:PassRole/,
      fix: /"Action":\["iam:PassRole"\],"Resource":"arn:aws:iam::123456789012:role\/path\/shop-exec"/,
    },
    {
      name: "the account's own credentials",
      facts: { identity: async () => ({ account: ACCOUNT, arn: `arn:aws:iam::${ACCOUNT}:root` }) },
      check: "permissions",
      status: "warn",
      fix: /Give Shipway a role/,
    },
    {
      name: "a registry that does not answer",
      facts: { answers: async () => false },
      check: "image registry",
      status: "fail",
      found: /dkr\.ecr\.eu-central-1\.amazonaws\.com does not answer/,
      fix: /pushed from here/,
    },
    {
      name: "a quota below one set of tasks",
      facts: { vcpuQuota: async () => 1 },
      check: "Fargate quota",
      status: "fail",
      fix: /Service Quotas/,
    },
    {
      name: "a quota that is too small for a deployment",
      facts: { vcpuQuota: async () => 3 },
      check: "Fargate quota",
      status: "warn",
      found: /up to 4 while it deploys/,
      fix: /Service Quotas/,
    },
    {
      name: "what it may not read and deployments need",
      facts: { registry: refused("AccessDeniedException", "ecr:GetAuthorizationToken") },
      check: "image registry",
      status: "fail",
      found: /^AWS refused ecr:GetAuthorizationToken in eu-central-1/,
      fix: /"Action":"ecr:GetAuthorizationToken"/,
    },
    {
      name: "what it may not read and deployments do not need",
      facts: { lacking: refused("AccessDenied", "iam:SimulatePrincipalPolicy") },
      check: "permissions",
      status: "warn",
      found: /^not tested: AWS refused iam:SimulatePrincipalPolicy/,
      fix: /"Action":"iam:SimulatePrincipalPolicy"/,
    },
    {
      name: "a network that it may not look at, which stands in no deployment's way",
      facts: { waysOut: refused("UnauthorizedOperation", "ec2:DescribeRouteTables") },
      check: "way out",
      status: "warn",
      found: /^not tested: AWS refused ec2:DescribeRouteTables/,
      fix: /"Action":"ec2:DescribeRouteTables"/,
    },
    {
      name: "an account that is throttled, which is no fault of the setup",
      facts: { logGroups: refused("ThrottlingException", "logs:DescribeLogGroups") },
      check: "logs",
      status: "warn",
      found: /^not tested: .*asked several times/,
      fix: /try again in a minute/,
    },
  ];
  it.each(cases)("finds $name", async ({ facts = {}, changes = {}, check, status, found, fix }) => {
    const checks = await look(facts, { settings: { ...settings, ...changes } });
    const seen = checks.find(({ name }) => name === check);
    expect(seen).toMatchObject({ status, fix: expect.stringMatching(fix) });
    if (found !== undefined) expect(seen?.found).toMatch(found);
  });

  it("says one thing that is wrong once: the rest of a healthy account stays ok", async () => {
    const once = cases.filter(({ facts }) => facts !== undefined && !("listener" in facts));
    for (const { facts = {}, check } of once.filter(({ changes }) => changes === undefined)) {
      const wrong = notOk(await look(facts));
      expect(wrong.map(({ name }) => name)).toEqual([check]);
    }
  });

  it.each([
    ["CredentialsProviderError", /there are none/, /AWS_PROFILE/],
    ["ExpiredTokenException", /have expired/, /aws sso login/],
    ["ExpiredToken", /have expired/, /aws sso login/],
    ["InvalidClientTokenId", /does not know them in eu-central-1/, /whether eu-central-1 is enabled/],
    ["RequestTimeTooSkewed", /clock/, /timedatectl/],
    ["AccessDenied", /sts:GetCallerIdentity/, /"Action":"sts:GetCallerIdentity"/],
  ])("asks nothing more of an account that says %s to who we are", async (name, found, fix) => {
    const asked = () => Promise.reject(new Error("asked although there are no credentials"));
    const checks = await look({ identity: refused(name, "sts:GetCallerIdentity"), cluster: asked, subnets: asked });
    expect(checks).toEqual([
      { name: "credentials", status: "fail", found: expect.stringMatching(found), fix: expect.stringMatching(fix) },
    ]);
  });

  it("asks whether a Region that does not answer is one", async () => {
    const identity = () =>
      Promise.reject(fail("AWS_UNREACHABLE", { message: "AWS did not answer", cause: undefined, hint: "Look." }));
    expect((await look({ identity }))[0]?.fix).toBe("Is eu-central-1 a Region? Look.");
  });

  it("looks at the registry that is really pushed to", async () => {
    const asked: string[] = [];
    const answers = async (url: string) => asked.push(url) > 0;
    await look({ answers }, { registryEndpoint: "https://registry.example.com" });
    expect(asked).toEqual(["https://registry.example.com/v2/"]);
  });

  it("takes VPC endpoints for a way out", async () => {
    const endpoints = async () => ["ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager"];
    expect(notOk(await look({ waysOut: async () => ways(undefined, undefined), endpoints }))).toEqual([]);
  });
});

it("looks at commands inside tasks only where they are turned on, and says where AWS keeps them", async () => {
  const asked: Permission[] = [];
  const facts: Partial<AwsFacts> = {
    cluster: async () => ({ ...cluster, execLogs: "/sessions" }),
    lacking: async (_, all) => {
      asked.push(...all);
      return [];
    },
  };
  expect((await look(facts)).map(({ name }) => name)).not.toContain("exec");
  expect(asked.filter(({ action }) => /Exec|ssmmessages/.test(action))).toEqual([]);
  const checks = await look(facts, { settings: { ...settings, exec: true } });
  expect(notOk(checks)).toEqual([]);
  expect(checks.find(({ name }) => name === "exec")?.found).toContain(
    "AWS keeps what is typed and printed in /sessions",
  );
  expect(asked.map(({ action }) => action)).toEqual(
    expect.arrayContaining(["ecs:ExecuteCommand", "ssmmessages:OpenDataChannel", "ssmmessages:CreateControlChannel"]),
  );
});

it("tries permissions on names of our own alone, and each role's passing to tasks", () => {
  const needed = neededPermissions(settings, ACCOUNT);
  const foreign = needed.filter(({ resource }) => !/shipway|sw-doctor|listener|role\//.test(resource));
  expect(foreign).toEqual([]);
  const passed = needed.filter(({ action }) => action === "iam:PassRole");
  expect(passed.map(({ resource }) => resource)).toEqual([settings.executionRole, settings.taskRole]);
  expect(passed[0]?.context).toEqual({ "iam:PassedToService": "ecs-tasks.amazonaws.com" });
});

const shipped = (name: string) =>
  shippedStatements(["driver-rollout", "driver-storage", "driver-exec"], {
    region: settings.region,
    account: ACCOUNT,
    name,
  });

it("tries nothing that the shipped policies do not allow, and what those of another cluster do not", async () => {
  const ours: EcsSettings = {
    ...settings,
    executionRole: `arn:aws:iam::${ACCOUNT}:role/shop-exec`,
    exec: true,
  };
  const needed = neededPermissions(ours, ACCOUNT);
  const own = await shipped("shop");
  expect(needed.filter((one) => !isAllowed(own, one))).toEqual([]);
  const foreign = await shipped("other");
  const lacking = needed.filter((one) => !isAllowed(foreign, one)).map(({ action }) => action);
  expect(lacking).toEqual(
    expect.arrayContaining([
      "ecs:CreateService",
      "ecs:RunTask",
      "ecs:ExecuteCommand",
      "elasticloadbalancing:CreateRule",
      "iam:PassRole",
    ]),
  );
});

describe("shipway doctor aws", () => {
  let server: TestServer;
  let cli: TestCli;
  const outputs = [
    { name: "region", value: "eu-central-1", sensitive: false },
    { name: "cluster", value: "shop", sensitive: false },
    { name: "listener_arn", value: LISTENER, sensitive: false },
    { name: "subnets", value: '["subnet-0000000a","subnet-0000000b"]', sensitive: false },
    { name: "security_groups", value: '["sg-0000000a"]', sensitive: false },
    { name: "execution_role_arn", value: settings.executionRole, sensitive: false },
    { name: "assign_public_ip", value: "true", sensitive: false },
  ];
  beforeAll(async () => {
    server = await startTestServer((app) => {
      app.get("/api/apps/shop/environments/production/infra", async () => ({
        app: "shop",
        environment: "production",
        applied: null,
        runningRun: null,
        blockedBy: null,
        stateIn: null,
        lock: null,
        drift: null,
        tasks: null,
        outputs,
      }));
    });
    cli = await newTestCli(server.url);
  });
  afterAll(() => Promise.all([server.close(), cli.close()]));

  const AWS = JSON.stringify({
    region: "eu-central-1",
    cluster: "shop",
    listener: LISTENER,
    subnets: ["subnet-0000000a"],
    securityGroups: ["sg-0000000a"],
    executionRole: settings.executionRole,
  });
  const run = async (environments: string, argv: string[] = [], checks: Check[] = []) => {
    const spec = `app: shop\nservices:\n  web: { build: {}, port: 3000, cpu: 1024, count: 3, secrets: [DB] }\nenvironments:\n${environments}\n`;
    await writeFile(join(cli.dir, "shipway.yml"), spec);
    const asked: AwsNeeds[] = [];
    const doctorAws = async (needs: AwsNeeds) => {
      asked.push(needs);
      return checks;
    };
    const actions = {
      up: async () => 0 as const,
      demo: async () => 0 as const,
      doctor: async () => [],
      doctorAws,
      smokeAws: async () => [],
    };
    return { ...(await cli.run(["doctor", "aws", ...argv], { actions })), needs: asked[0] };
  };

  it("takes the settings of the one environment on ECS from shipway.yml, and asks no server", async () => {
    const before = server.requests.length;
    const { code, err, needs } = await run(`  staging: {}\n  production: { runtime: ecs, aws: ${AWS} }`);
    expect(code).toBe(0);
    expect(needs).toMatchObject({ vcpus: 3, settings: { cluster: "shop", subnets: ["subnet-0000000a"] } });
    expect(err).toContain("Nothing speaks against a deployment.");
    expect(server.requests.length).toBe(before);
  });

  it("takes secrets of the account from shipway.yml", async () => {
    const { needs } = await run(`  production: { runtime: ecs, secrets: { DB: "ssm:/db" }, aws: ${AWS} }`);
    expect(needs?.secrets).toMatchObject({ references: [{ name: "DB", from: "ssm:/db" }], problems: [] });
  });

  it("takes what ci needs beside, and the steps of a push that run at the same time", async () => {
    const aws = {
      ...JSON.parse(AWS),
      workBucket: "work",
      buildProject: "shop-images",
      stepSecurityGroups: ["sg-0000000b"],
    };
    const step = (size: string) => `{ step: { size: ${size}, script: [make] } }`;
    const pipeline = `pipelines:\n  default:\n    - ${step("1x")}\n    - parallel: [${step("1x")}, ${step("2x")}]\n`;
    await writeFile(join(cli.dir, "bitbucket-pipelines.yml"), pipeline);
    try {
      const { needs } = await run(
        `  production: { branch: main, runtime: ecs, aws: ${JSON.stringify(aws)} }\nci: { steps: ecs, images: codebuild, environment: production }`,
      );
      expect(needs?.ci).toMatchObject({ environment: "production", region: "eu-central-1", vcpus: 6 });
      expect(needs?.ci?.settings).toMatchObject({
        steps: { kind: "ecs", settings: { workBucket: "work", securityGroups: ["sg-0000000b"] } },
        images: { kind: "codebuild", settings: { buildProject: "shop-images" } },
      });
    } finally {
      await rm(join(cli.dir, "bitbucket-pipelines.yml"));
    }
  });

  it("takes what is not written from Terraform outputs, lists and truths as such", async () => {
    const { needs } = await run("  production: { runtime: ecs, infra: { dir: infra } }");
    expect(needs?.settings).toMatchObject({ subnets: ["subnet-0000000a", "subnet-0000000b"], publicIp: true });
  });

  it("exits 1 when something must be fixed, and gives the checks as JSON", async () => {
    const broken: Check = { name: "cluster", status: "fail", found: "there is no cluster shop", fix: "Name one." };
    const there = `  production: { runtime: ecs, aws: ${AWS} }`;
    const shown = await run(there, [], [broken]);
    expect(shown).toMatchObject({ code: 1, out: "✗ cluster  there is no cluster shop\n           → Name one.\n" });
    expect(shown.err).toContain("1 problem to fix before a deployment can work there.");
    const { code, out } = await run(there, ["--json"], [broken]);
    expect({ code, checks: JSON.parse(out) }).toEqual({ code: 1, checks: [broken] });
  });

  it.each([
    ["no environment on ECS", "  production: {}", [], /No environment of shop runs on ECS/],
    ["two of them", `  a: { runtime: ecs, aws: ${AWS} }\n  b: { runtime: ecs, aws: ${AWS} }`, [], /On ECS run a, b/],
    ["one on Docker", "  production: {}", ["--env", "production"], /runs on Docker/],
    [
      "settings that are missing",
      "  production: { runtime: ecs, aws: { region: eu-central-1 } }",
      [],
      /needs aws: \{ cluster/,
    ],
  ])("refuses %s", async (_name, environments, argv, text) => {
    const { code, err } = await run(environments, argv);
    expect(code).toBe(2);
    expect(err).toMatch(text);
  });

  it("refuses --env without aws, which would change nothing", async () => {
    expect(await cli.run(["doctor", "--env", "production"])).toMatchObject({ code: 2 });
  });
});
