import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { CodeBuild } from "@aws-sdk/client-codebuild";
import { EC2 } from "@aws-sdk/client-ec2";
import { ECS } from "@aws-sdk/client-ecs";
import { ElasticLoadBalancingV2 } from "@aws-sdk/client-elastic-load-balancing-v2";
import { IAM } from "@aws-sdk/client-iam";
import { type LifecycleRule, S3 } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { S3_ACTIONS } from "../aws/calls.ts";
import { hasMoto, type Moto, startMoto } from "../infra/moto-testing.ts";
import type { EcsSettings } from "../rollout/runtime.ts";
import { openAwsFacts, wayOut } from "./aws-facts.ts";
import { openCiFacts } from "./ci-facts.ts";
import type { Check } from "./doctor.ts";
import { runAwsDoctor } from "./doctor-aws.ts";
import type { CiNeeds } from "./doctor-ci.ts";

if (!hasMoto)
  console.warn("SKIPPED: shipway doctor aws on an account. It needs the emulator: pip install 'moto[server]==5.2.1'");

const ROOT = join(import.meta.dirname, "../..");
const VALIDATOR = join(ROOT, "test/aws/validate.py");
const MODULE = join(ROOT, "terraform/aws-fargate/policies");
const POLICIES = ["rollout", "storage", "exec", "ci", "build"].map((name) => `driver-${name}.json`);
const REGION = "eu-central-1";
const LISTENER =
  "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/none/0123456789abcdef/0123456789abcdef";

/** The SDK's usual chain finds these in the environment, and nothing of this machine's user. */
const CREDENTIALS = {
  AWS_ACCESS_KEY_ID: "testing",
  AWS_SECRET_ACCESS_KEY: "testing",
  AWS_EC2_METADATA_DISABLED: "true",
  AWS_CONFIG_FILE: "/nonexistent",
  AWS_SHARED_CREDENTIALS_FILE: "/nonexistent",
};
const before = Object.keys(CREDENTIALS).map((name) => [name, process.env[name]] as const);
beforeAll(() => void Object.assign(process.env, CREDENTIALS));
afterAll(() => {
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

describe.skipIf(!hasMoto)("shipway doctor aws on an account that is emulated", () => {
  let moto: Moto;
  let settings: EcsSettings;
  let vpc: string;
  let ec2: EC2;
  let iam: IAM;
  let elb: ElasticLoadBalancingV2;
  let s3: S3;
  let codebuild: CodeBuild;
  let ci: CiNeeds;
  let registry: { url: string; close(): Promise<void> };

  beforeAll(async () => {
    moto = await startMoto();
    const config = { region: REGION, endpoint: moto.endpoint };
    ec2 = new EC2(config);
    iam = new IAM(config);
    elb = new ElasticLoadBalancingV2(config);
    registry = await startRegistry();
    s3 = new S3(config);
    codebuild = new CodeBuild(config);
    ({ settings, vpc } = await layGround({ ec2, iam, elb, ecs: new ECS(config) }));
    ci = await layCi(settings, { s3, codebuild, iam });
  });
  afterAll(async () => {
    await Promise.all([moto?.close(), registry?.close()]);
  });

  const calls: { service: string; command: string; input: unknown }[] = [];
  const look = async (changes: Partial<EcsSettings> = {}, endpoint = moto.endpoint, wanted?: CiNeeds) => {
    const asked = { ...settings, ...changes };
    const options = {
      region: asked.region,
      endpoint,
      attempts: 1,
      speed: 1_000,
      onCall: (call: (typeof calls)[number]) => void calls.push(call),
    };
    const facts = await openAwsFacts(options);
    const forCi = wanted && { needs: wanted, facts: await openCiFacts(options, facts) };
    return runAwsDoctor(facts, { settings: asked, vcpus: 2, registryEndpoint: registry.url, ci: forCi });
  };
  const named = (checks: Check[], name: string) => checks.find((one) => one.name === name);

  it("finds what was laid, and says of what the emulator lacks that it was not tested", async () => {
    const checks = await look();
    const untested = checks.filter(({ found }) => found.startsWith("not tested: ")).map(({ name }) => name);
    expect(untested).toEqual(["permissions", "Fargate quota"]);
    const notOk = checks.filter(({ status, name }) => status !== "ok" && !untested.includes(name));
    // In clear, as it was laid.
    expect(notOk.map(({ name, status }) => [name, status])).toEqual([["listener", "warn"]]);
    expect(named(checks, "credentials")?.found).toMatch(/^arn:aws:sts::123456789012:/);
    expect(named(checks, "way out")?.found).toMatch(/^through igw-[0-9a-f]+, with public addresses$/);
    expect(named(checks, "load balancer")?.found).toMatch(
      /^shop is active, internet-facing, in eu-central-1a and eu-central-1b$/,
    );
  });

  it("finds what was laid for ci", async () => {
    const checks = (await look({}, moto.endpoint, ci)).filter(({ name }) => /^(ci|work|bucket|step|build)/.test(name));
    const untested = checks.filter(({ found }) => found.startsWith("not tested: ")).map(({ name }) => name);
    // What they are judged by is IAM's simulator, which the emulator lacks.
    expect(untested).toEqual(["ci permissions", "step start", "build role"]);
    const rest = checks.filter(({ name }) => !untested.includes(name)).map(({ name, status }) => [name, status]);
    expect(Object.fromEntries(rest)).toEqual({
      ci: "ok",
      "work bucket": "ok",
      "bucket access": "ok",
      "bucket rules": "ok",
      "step security groups": "ok",
      "build project": "ok",
      "build log": "warn",
    });
    expect(named(checks, "bucket rules")?.found).toBe("objects go after 30 days, uploads that broke off, too");
  });

  it("finds nothing of ci in an account that has nothing of it", async () => {
    const { steps, images } = ci.settings;
    if (steps.kind !== "ecs" || images.kind !== "codebuild") throw new Error("not laid");
    const none: CiNeeds = {
      ...ci,
      settings: {
        steps: { kind: "ecs", settings: { ...steps.settings, workBucket: "nothing", securityGroups: ["sg-00000bad"] } },
        images: { kind: "codebuild", settings: { ...images.settings, workBucket: "nothing", buildProject: "nothing" } },
      },
    };
    const checks = await look({}, moto.endpoint, none);
    for (const name of ["work bucket", "step security groups", "build project"])
      expect(named(checks, name)?.status).toBe("fail");
  });

  it("reads who is let into a bucket, and what S3 does to what is in it", async () => {
    const open = await openCi();
    await s3.createBucket({ Bucket: "bare", ...HERE });
    expect(await open.bucketRules("bare")).toEqual({ expires: [], endsUploads: false, keepsVersions: false });
    await s3.putBucketAcl({ Bucket: "bare", ACL: "public-read" });
    expect(await open.bucketAccess("bare")).toEqual({ blocked: false, openBy: "ACL" });
    await s3.putBucketVersioning({ Bucket: "bare", VersioningConfiguration: { Status: "Enabled" } });
    const Rules: LifecycleRule[] = [
      {
        ID: "a",
        Status: "Enabled",
        Filter: { Prefix: "shipway/" },
        NoncurrentVersionExpiration: { NoncurrentDays: 3 },
      },
      { ID: "b", Status: "Enabled", Filter: { Prefix: "load-balancer/" }, Expiration: { Days: 1 } },
      { ID: "c", Status: "Disabled", Filter: { Prefix: "" }, Expiration: { Days: 2 } },
      { ID: "d", Status: "Enabled", Filter: { Tag: { Key: "a", Value: "b" } }, Expiration: { Days: 5 } },
    ];
    await s3.putBucketLifecycleConfiguration({ Bucket: "bare", LifecycleConfiguration: { Rules } });
    expect(await open.bucketRules("bare")).toEqual({
      expires: [{ prefix: "load-balancer/", days: 1 }],
      endsUploads: false,
      keepsVersions: { days: 3 },
    });
  });

  it("reads a project that somebody made by hand", async () => {
    const open = await openCi();
    const environment = {
      type: "ARM_CONTAINER" as const,
      computeType: "BUILD_GENERAL1_SMALL" as const,
      image: "own:1",
      privilegedMode: false,
    };
    await codebuild.createProject({
      name: "by-hand",
      serviceRole: "arn:aws:iam::123456789012:role/build",
      source: { type: "GITHUB", location: "https://github.com/team/shop" },
      artifacts: { type: "NO_ARTIFACTS" },
      environment,
      logsConfig: { cloudWatchLogs: { status: "DISABLED" } },
    });
    expect(await open.buildProject("by-hand")).toEqual({
      role: "arn:aws:iam::123456789012:role/build",
      machine: "ARM_CONTAINER",
      image: "own:1",
      privileged: false,
      isPublic: false,
      logGroup: undefined,
    });
  });

  const openCi = async () => {
    const options = { region: REGION, endpoint: moto.endpoint, attempts: 1, speed: 1_000 };
    return openCiFacts(options, await openAwsFacts(options));
  };

  it("reads where AWS keeps what is typed in commands inside tasks", async () => {
    const facts = await openAwsFacts({ region: REGION, endpoint: moto.endpoint, attempts: 1, speed: 1_000 });
    expect(await facts.cluster("keeps")).toMatchObject({
      execKey: "alias/sessions",
      execLogs: "/sessions and sessions",
    });
    expect(await facts.cluster("shop")).toMatchObject({ execKey: undefined, execLogs: undefined });
  });

  it.each<{ name: string; changes: () => Partial<EcsSettings>; check: string; found: RegExp }>([
    {
      name: "sessions of a cluster that have a key",
      changes: () => ({ cluster: "keeps", exec: true, taskRole: settings.executionRole }),
      check: "exec",
      found: /encrypted with alias\/sessions/,
    },
    {
      name: "a cluster that is not there",
      changes: () => ({ cluster: "other" }),
      check: "cluster",
      found: /no cluster other in eu-central-1/,
    },
    {
      name: "a listener that is not there",
      changes: () => ({ listener: LISTENER }),
      check: "listener",
      found: /does not exist/,
    },
    { name: "a listener's protocol", changes: () => ({ scheme: "https" }), check: "listener", found: /says https/ },
    {
      name: "a subnet that is not there",
      changes: () => ({ subnets: [...settings.subnets, "subnet-00000bad"] }),
      check: "subnets",
      found: /subnet-00000bad not there/,
    },
    {
      name: "a security group that is not there",
      changes: () => ({ securityGroups: ["sg-00000bad"] }),
      check: "security groups",
      found: /sg-00000bad not there/,
    },
    {
      name: "public subnets without public addresses",
      changes: () => ({ publicIp: false }),
      check: "way out",
      found: /internet gateway, and tasks get no public address/,
    },
    {
      name: "a role that is not there",
      changes: () => ({ executionRole: "arn:aws:iam::123456789012:role/none" }),
      check: "execution role",
      found: /does not exist/,
    },
    {
      name: "a role that trusts others",
      changes: () => ({ taskRole: "arn:aws:iam::123456789012:role/machine" }),
      check: "task role",
      found: /trusts ec2\.amazonaws\.com/,
    },
    {
      name: "a listener of another account",
      changes: () => ({ executionRole: "arn:aws:iam::999999999999:role/shop-exec" }),
      check: "region and account",
      found: /credentials are of account 123456789012/,
    },
  ])("finds $name", async ({ changes, check, found }) => {
    expect(named(await look(changes()), check)).toMatchObject({ status: "fail", found: expect.stringMatching(found) });
  });

  it("finds another Region, in which nothing of it is", async () => {
    const checks = await look({ region: "us-west-2" });
    expect(checks.filter(({ status }) => status === "fail").map(({ name }) => name)).toEqual(
      expect.arrayContaining(["region and account", "cluster", "listener", "subnets", "security groups"]),
    );
  });

  it("finds subnets without a way out, and what endpoints they lack", async () => {
    const { Subnet } = await ec2.createSubnet({
      VpcId: vpc,
      CidrBlock: "10.0.64.0/20",
      AvailabilityZone: `${REGION}a`,
    });
    const subnets = [Subnet?.SubnetId ?? ""];
    await ec2.createVpcEndpoint({
      VpcId: vpc,
      ServiceName: `com.amazonaws.${REGION}.ecr.api`,
      VpcEndpointType: "Interface",
    });
    const way = named(await look({ subnets, publicIp: false }), "way out");
    expect(way).toMatchObject({
      status: "fail",
      found: expect.stringMatching(/no endpoints for ecr\.dkr, s3, logs, secretsmanager/),
    });
  });

  it("finds security groups that the load balancer cannot reach, or that let nothing out", async () => {
    const { GroupId = "" } = await ec2.createSecurityGroup({ GroupName: "closed", Description: "closed", VpcId: vpc });
    const closed = { securityGroups: [GroupId] };
    expect(named(await look(closed), "security groups")?.found).toMatch(/let nothing in from sg-/);
    const { SecurityGroups } = await ec2.describeSecurityGroups({ GroupIds: [GroupId] });
    await ec2.revokeSecurityGroupEgress({ GroupId, IpPermissions: SecurityGroups?.[0]?.IpPermissionsEgress ?? [] });
    expect(named(await look(closed), "security groups")?.found).toMatch(/let nothing out at port 443/);
  });

  it("sends only what AWS's own Python client takes, and calls that the shipped policies allow or the docs name", async () => {
    calls.length = 0;
    await look({ publicIp: false, subnets: ["subnet-00000bad"] });
    await look({}, moto.endpoint, ci);
    const input = calls.map((call) => JSON.stringify(call)).join("\n");
    const { stdout, stderr } = spawnSync("python3", [VALIDATOR, "requests"], { input, encoding: "utf8" });
    expect(`${stdout}${stderr}`.trim()).toBe("");
    const policies = await Promise.all(POLICIES.map((name) => readFile(join(MODULE, name), "utf8")));
    const called = ({ service, command }: (typeof calls)[number]) =>
      `${service}:${service === "s3" ? (S3_ACTIONS[command] ?? command) : command}`;
    const made = [...new Set(calls.map(called))];
    const beside = made.filter((action) => !policies.some((text) => text.includes(`"${action}"`)));
    // Who one is may always be asked (AWS STS API reference, GetCallerIdentity).
    expect(beside.sort()).toEqual(["iam:GetRole", "iam:SimulatePrincipalPolicy", "sts:GetCallerIdentity"]);
  });

  it("says that there are no credentials", async () => {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env;
    delete process.env.AWS_ACCESS_KEY_ID;
    delete process.env.AWS_SECRET_ACCESS_KEY;
    try {
      expect(await look()).toEqual([expect.objectContaining({ name: "credentials", found: "there are none" })]);
    } finally {
      Object.assign(process.env, { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY });
    }
  });

  it("says that AWS does not know the credentials, and with known ones which statement is missing", async () => {
    const { UserName } = (await iam.createUser({ UserName: "shipway" })).User ?? {};
    const { AccessKey } = await iam.createAccessKey({ UserName });
    const policy = {
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Action: "ecs:DescribeClusters", Resource: "*" }],
    };
    await iam.putUserPolicy({ UserName, PolicyName: "few", PolicyDocument: JSON.stringify(policy) });
    // From here on the emulator checks signatures and policies.
    await fetch(`${moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "0" });
    try {
      const [unknown, ...rest] = await look();
      expect(rest).toEqual([]);
      expect(unknown?.found).toMatch(/AWS does not know them in eu-central-1/);

      Object.assign(process.env, {
        AWS_ACCESS_KEY_ID: AccessKey?.AccessKeyId,
        AWS_SECRET_ACCESS_KEY: AccessKey?.SecretAccessKey,
      });
      const checks = await look();
      expect(named(checks, "cluster")?.status).toBe("ok");
      expect(named(checks, "subnets")).toMatchObject({
        status: "warn",
        found: expect.stringMatching(/^not tested: AWS refused ec2:DescribeSubnets/),
        fix: expect.stringContaining('{"Effect":"Allow","Action":"ec2:DescribeSubnets","Resource":"*"}'),
      });
      expect(named(checks, "listener")).toMatchObject({
        status: "fail",
        fix: expect.stringContaining('"Action":"elasticloadbalancing:DescribeListeners"'),
      });
      expect(named(checks, "execution role")).toMatchObject({
        status: "warn",
        fix: expect.stringContaining('"iam:GetRole"'),
      });
    } finally {
      await fetch(`${moto.endpoint}/moto-api/reset-auth`, { method: "POST", body: "Infinity" });
      Object.assign(process.env, { AWS_ACCESS_KEY_ID: "testing", AWS_SECRET_ACCESS_KEY: "testing" });
    }
  });

  it("says that AWS throttles, or cannot be reached, and not that something is missing", async () => {
    const throttling = await startAnswering(400, "ThrottlingException");
    try {
      const [check] = await look({}, throttling.url);
      expect(check?.found).toMatch(/asked several times/);
    } finally {
      await throttling.close();
    }
    expect((await look({}, throttling.url))[0]).toMatchObject({
      name: "credentials",
      status: "fail",
      fix: expect.stringMatching(/^Is eu-central-1 a Region\?/),
    });
  });

  it("says that credentials have expired", async () => {
    const expired = await startAnswering(403, "ExpiredToken");
    try {
      expect(await look({}, expired.url)).toEqual([expect.objectContaining({ found: "they have expired" })]);
    } finally {
      await expired.close();
    }
  });
});

it.each([
  ["its own table's default route", { NatGatewayId: "nat-1" }, {}, "nat-1"],
  ["the main table's where it has none", undefined, { GatewayId: "igw-1" }, "igw-1"],
  ["nothing where the route's target is gone", { NatGatewayId: "nat-1", State: "blackhole" as const }, {}, undefined],
])("a subnet's way out is %s", (_name, own, main, way) => {
  const route = (one: object) => [
    { DestinationCidrBlock: "10.0.0.0/16", GatewayId: "local" },
    { DestinationCidrBlock: "0.0.0.0/0", ...one },
  ];
  const tables = [
    { Associations: [{ Main: true }], Routes: route(main) },
    ...(own === undefined ? [] : [{ Associations: [{ Main: false, SubnetId: "subnet-1" }], Routes: route(own) }]),
  ];
  expect(wayOut(tables, "subnet-1")).toBe(way);
});

describe("what the emulator has not of S3", () => {
  const answered = async (answer: Parameters<typeof listening>[0]) => {
    const s3 = await listening(answer);
    const options = { region: REGION, endpoint: s3.url, attempts: 1, speed: 1_000 };
    const facts = await openCiFacts(options, await openAwsFacts(options));
    return { facts, close: s3.close };
  };
  const answers = (response: ServerResponse, status: number, body: string, headers = {}) => {
    response.writeHead(status, { "content-type": "application/xml", ...headers });
    response.end(`<?xml version="1.0" encoding="UTF-8"?>\n${body}`);
  };
  const error = (code: string) => `<Error><Code>${code}</Code><Message>no</Message></Error>`;

  it("a bucket of another Region is told with where it is", async () => {
    const { facts, close } = await answered((_request, response) =>
      answers(response, 301, error("PermanentRedirect"), { "x-amz-bucket-region": "us-west-2" }),
    );
    try {
      expect(await facts.bucket("work")).toEqual({ region: "us-west-2" });
    } finally {
      await close();
    }
  });

  it.each([
    ["a policy that lets everybody in", "<PolicyStatus><IsPublic>TRUE</IsPublic></PolicyStatus>", 200, "policy"],
    ["a policy for some", "<PolicyStatus><IsPublic>FALSE</IsPublic></PolicyStatus>", 200, undefined],
    ["no policy", error("NoSuchBucketPolicy"), 404, undefined],
  ])("%s", async (_name, policy, status, openBy) => {
    const { facts, close } = await answered(({ url }, response) => {
      if (url?.includes("publicAccessBlock")) answers(response, 404, error("NoSuchPublicAccessBlockConfiguration"));
      else if (url?.includes("policyStatus")) answers(response, status, policy);
      else answers(response, 200, "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>");
    });
    try {
      expect(await facts.bucketAccess("work")).toEqual({ blocked: false, openBy });
    } finally {
      await close();
    }
  });
});

describe("what IAM's policy simulator says", () => {
  // Answers in the form of the IAM API reference, in two pages: the emulator has no simulator.
  const simulated = async (session: string, rolePath: string | undefined) => {
    const asked: URLSearchParams[] = [];
    const iam = await listening(async (request, response) => {
      const body = new URLSearchParams(await text(request));
      asked.push(body);
      const isRole = body.get("Action") === "GetRole";
      response.writeHead(isRole && rolePath === undefined ? 403 : 200, { "content-type": "text/xml" });
      if (isRole)
        response.end(rolePath === undefined ? "" : roleAnswer(`arn:aws:iam::123456789012:role${rolePath}driver`));
      else response.end(simulatorAnswer(body.get("Marker") === null));
    });
    try {
      const facts = await openAwsFacts({ region: REGION, endpoint: iam.url, attempts: 1, speed: 1_000 });
      const permission = (action: string) => ({
        action,
        resource: "arn:aws:ecs:eu-central-1:123456789012:service/a/b",
        context: { k: "v" },
      });
      const lacking = await facts.lacking(
        session,
        ["ecs:CreateService", "ecs:UpdateService", "ecs:DeleteService"].map(permission),
      );
      return {
        lacking: lacking.map(({ action }) => action),
        asked: asked.filter((one) => one.get("Action") !== "GetRole"),
      };
    } finally {
      await iam.close();
    }
  };
  const answerOf = (operation: string, result: string) =>
    `<${operation}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><${operation}Result>${result}</${operation}Result></${operation}Response>`;
  const roleAnswer = (arn: string) => answerOf("GetRole", `<Role><Path>/</Path><Arn>${arn}</Arn></Role>`);
  const result = (action: string, decision: string) =>
    `<member><EvalActionName>${action}</EvalActionName><EvalDecision>${decision}</EvalDecision></member>`;
  const simulatorAnswer = (isFirst: boolean) =>
    answerOf(
      "SimulatePrincipalPolicy",
      isFirst
        ? `<IsTruncated>true</IsTruncated><Marker>more</Marker><EvaluationResults>${result("ecs:CreateService", "allowed")}${result("ecs:UpdateService", "implicitDeny")}</EvaluationResults>`
        : `<IsTruncated>false</IsTruncated><EvaluationResults>${result("ecs:DeleteService", "explicitDeny")}</EvaluationResults>`,
    );
  const SESSION = "arn:aws:sts::123456789012:assumed-role/driver/i-1";

  it("is read to the last page; what is not allowed is lacking", async () => {
    const { lacking, asked } = await simulated(SESSION, "/teams/");
    expect(lacking.sort()).toEqual(["ecs:DeleteService", "ecs:UpdateService"]);
    expect(asked.map((one) => one.get("Marker"))).toEqual([null, "more"]);
    expect(asked[0]?.get("ContextEntries.member.1.ContextKeyName")).toBe("k");
  });

  it.each([
    ["the role of a session, with its path", SESSION, "/teams/", "arn:aws:iam::123456789012:role/teams/driver"],
    ["the role by its name where it may not be looked at", SESSION, undefined, "arn:aws:iam::123456789012:role/driver"],
    ["a user as such", "arn:aws:iam::123456789012:user/ada", undefined, "arn:aws:iam::123456789012:user/ada"],
  ])("is asked about %s", async (_name, caller, path, principal) => {
    const { asked } = await simulated(caller, path);
    expect(asked[0]?.get("PolicySourceArn")).toBe(principal);
  });
});

async function startAnswering(status: number, code: string) {
  return listening((_request, response) => {
    response.writeHead(status, { "content-type": "text/xml" });
    response.end(
      `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>${code}</Code><Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
    );
  });
}

/** Asks for a login, as registries do. */
const startRegistry = () => listening((_request, response) => response.writeHead(401).end());

async function listening(answer: Parameters<typeof createServer>[1]) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What Terraform would make: a VPC with two public subnets, a load balancer with a listener, a cluster, roles. */
async function layGround({ ec2, iam, elb, ecs }: { ec2: EC2; iam: IAM; elb: ElasticLoadBalancingV2; ecs: ECS }) {
  const vpc = (await ec2.createVpc({ CidrBlock: "10.0.0.0/16" })).Vpc?.VpcId ?? "";
  const { InternetGateway } = await ec2.createInternetGateway({});
  const gateway = InternetGateway?.InternetGatewayId ?? "";
  await ec2.attachInternetGateway({ VpcId: vpc, InternetGatewayId: gateway });
  const { RouteTable } = await ec2.createRouteTable({ VpcId: vpc });
  const RouteTableId = RouteTable?.RouteTableId ?? "";
  await ec2.createRoute({ RouteTableId, DestinationCidrBlock: "0.0.0.0/0", GatewayId: gateway });
  const subnets: string[] = [];
  for (const [index, zone] of ["a", "b"].entries()) {
    const at = { VpcId: vpc, CidrBlock: `10.0.${16 * index}.0/20`, AvailabilityZone: `${REGION}${zone}` };
    const SubnetId = (await ec2.createSubnet(at)).Subnet?.SubnetId ?? "";
    await ec2.associateRouteTable({ RouteTableId, SubnetId });
    subnets.push(SubnetId);
  }
  const group = async (name: string) =>
    (await ec2.createSecurityGroup({ GroupName: name, Description: name, VpcId: vpc })).GroupId ?? "";
  const [front, tasks] = [await group("front"), await group("tasks")];
  await ec2.authorizeSecurityGroupIngress({
    GroupId: tasks,
    IpPermissions: [{ IpProtocol: "tcp", FromPort: 0, ToPort: 65_535, UserIdGroupPairs: [{ GroupId: front }] }],
  });
  const { LoadBalancers } = await elb.createLoadBalancer({
    Name: "shop",
    Scheme: "internet-facing",
    Subnets: subnets,
    SecurityGroups: [front],
  });
  const { Listeners } = await elb.createListener({
    LoadBalancerArn: LoadBalancers?.[0]?.LoadBalancerArn,
    Protocol: "HTTP",
    Port: 80,
    DefaultActions: [{ Type: "fixed-response", FixedResponseConfig: { StatusCode: "404" } }],
  });
  await ecs.createCluster({ clusterName: "shop", capacityProviders: ["FARGATE", "FARGATE_SPOT"] });
  const logConfiguration = { cloudWatchLogGroupName: "/sessions", s3BucketName: "sessions" };
  const kept = { kmsKeyId: "alias/sessions", logging: "OVERRIDE" as const, logConfiguration };
  await ecs.createCluster({ clusterName: "keeps", configuration: { executeCommandConfiguration: kept } });
  const role = async (name: string, service: string) => {
    const Statement = [{ Effect: "Allow", Principal: { Service: service }, Action: "sts:AssumeRole" }];
    const AssumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement });
    return (await iam.createRole({ RoleName: name, AssumeRolePolicyDocument })).Role?.Arn ?? "";
  };
  await role("machine", "ec2.amazonaws.com");
  const settings: EcsSettings = {
    region: REGION,
    cluster: "shop",
    listener: Listeners?.[0]?.ListenerArn ?? "",
    subnets,
    securityGroups: [tasks],
    executionRole: await role("shop-exec", "ecs-tasks.amazonaws.com"),
    publicIp: true,
    exec: false,
    scheme: "http",
    architecture: "x86_64",
    storageGiB: 20,
    logRetentionDays: 30,
  };
  return { settings, vpc };
}

const HERE = { CreateBucketConfiguration: { LocationConstraint: REGION } } as const;

/** As the module makes it, with `steps` and `builds`; the log group comes with the first build. */
async function layCi(
  settings: EcsSettings,
  { s3, codebuild, iam }: { s3: S3; codebuild: CodeBuild; iam: IAM },
): Promise<CiNeeds> {
  await s3.createBucket({ Bucket: "work", ...HERE });
  const all = { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true };
  await s3.putPublicAccessBlock({ Bucket: "work", PublicAccessBlockConfiguration: all });
  const forget: LifecycleRule = {
    ID: "forget",
    Status: "Enabled",
    Filter: { Prefix: "" },
    Expiration: { Days: 30 },
    AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
  };
  await s3.putBucketLifecycleConfiguration({ Bucket: "work", LifecycleConfiguration: { Rules: [forget] } });
  const Statement = [{ Effect: "Allow", Principal: { Service: "codebuild.amazonaws.com" }, Action: "sts:AssumeRole" }];
  const AssumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement });
  const { Role } = await iam.createRole({ RoleName: "shop-build", AssumeRolePolicyDocument });
  await codebuild.createProject({
    name: "shop-images",
    serviceRole: Role?.Arn ?? "",
    source: { type: "S3", location: "work/shipway/images/" },
    artifacts: { type: "NO_ARTIFACTS" },
    environment: {
      type: "LINUX_CONTAINER",
      computeType: "BUILD_GENERAL1_SMALL",
      image: "aws/codebuild/amazonlinux-x86_64-standard:5.0",
      privilegedMode: true,
    },
  });
  const { listener: _, taskRole: __, exec: ___, scheme: ____, ...ground } = settings;
  const workBucket = "work";
  return {
    environment: "production",
    region: REGION,
    vcpus: 2,
    settings: {
      steps: { kind: "ecs", settings: { ...ground, workBucket, toolImage: "node:20-bookworm-slim" } },
      images: {
        kind: "codebuild",
        settings: { region: REGION, workBucket, buildProject: "shop-images", architecture: settings.architecture },
      },
    },
  };
}
