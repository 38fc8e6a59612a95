import { describe, expect, it } from "vitest";
import type { BuildSettings, StepSettings } from "../spec/ci-settings.ts";
import { ciPermissions } from "./ci-permissions.ts";
import type { Check } from "./doctor.ts";
import type { Permission } from "./doctor-aws.ts";
import { type CiFacts, type CiNeeds, type ProjectFacts, runCiDoctor } from "./doctor-ci.ts";
import { isAllowed, shippedStatements } from "./policy-testing.ts";

const ACCOUNT = "123456789012";
const role = (name: string) => `arn:aws:iam::${ACCOUNT}:role/${name}`;
const who = { account: ACCOUNT, arn: `arn:aws:sts::${ACCOUNT}:assumed-role/shipway/i-1` };
const steps: StepSettings = {
  region: "eu-central-1",
  cluster: "shop",
  subnets: ["subnet-0000000a"],
  securityGroups: ["sg-0000000b"],
  executionRole: role("shop-exec"),
  stepRole: role("shop-step"),
  publicIp: false,
  workBucket: "work",
  toolImage: "node:20-bookworm-slim",
  architecture: "x86_64",
  storageGiB: 20,
  logRetentionDays: 30,
};
const images: BuildSettings = {
  region: "eu-central-1",
  workBucket: "work",
  buildProject: "shop-images",
  architecture: "x86_64",
};
const needs: CiNeeds = {
  environment: "production",
  region: "eu-central-1",
  settings: { steps: { kind: "ecs", settings: steps }, images: { kind: "codebuild", settings: images } },
  vcpus: 4,
};
const project: ProjectFacts = {
  role: role("shop-build"),
  machine: "LINUX_CONTAINER",
  image: "aws/codebuild/amazonlinux-x86_64-standard:5.0",
  privileged: true,
  isPublic: false,
  logGroup: "/aws/codebuild/shop-images",
};
const isRead = ({ action }: Permission) => action === "s3:GetObject";
const healthy: CiFacts = {
  role: async () => ({ services: ["ecs-tasks.amazonaws.com", "codebuild.amazonaws.com"] }),
  lacking: async (principal, permissions) => (principal === steps.stepRole ? permissions.filter(isRead) : []),
  securityGroups: async () => [{ id: "sg-0000000b", vpc: "vpc-1", out: "anywhere", from: [] }],
  bucket: async () => ({ region: undefined }),
  bucketAccess: async () => ({ blocked: true, openBy: undefined }),
  bucketRules: async () => ({ expires: [{ prefix: "", days: 30 }], endsUploads: true, keepsVersions: false }),
  buildProject: async () => project,
  hasLogGroup: async () => true,
};
const look = (facts: Partial<CiFacts>, changes: Partial<CiNeeds["settings"]> = {}) =>
  runCiDoctor({ ...healthy, ...facts }, { ...needs, settings: { ...needs.settings, ...changes } }, who);
const rules = (changes: Partial<Awaited<ReturnType<CiFacts["bucketRules"]>>>) => ({
  bucketRules: async () => ({ ...(await healthy.bucketRules("work")), ...changes }),
});
const denying =
  (principal: string, action: string): CiFacts["lacking"] =>
  async (asked, permissions) =>
    asked === principal ? permissions.filter((one) => one.action === action) : healthy.lacking(asked, permissions);
const changed = (changes: Partial<ProjectFacts>) => ({ buildProject: async () => ({ ...project, ...changes }) });

describe("runCiDoctor", () => {
  it("finds nothing where everything is there", async () => {
    const checks = await look({});
    expect(checks.filter(({ status }) => status !== "ok")).toEqual([]);
    expect(checks.map(({ name }) => name)).toEqual([
      "ci",
      "work bucket",
      "bucket access",
      "bucket rules",
      "ci permissions",
      "step security groups",
      "step start",
      "step role",
      "build project",
      "build role",
      "build log",
    ]);
  });

  it("asks of one kind alone what that needs", async () => {
    const names = async (changes: Partial<CiNeeds["settings"]>) => (await look({}, changes)).map(({ name }) => name);
    expect((await names({ steps: { kind: "docker" } })).filter((name) => name.startsWith("step"))).toEqual([]);
    expect((await names({ images: { kind: "docker" } })).filter((name) => name.startsWith("build"))).toEqual([]);
    expect(await names({ steps: { kind: "docker" }, images: { kind: "docker" } })).toEqual([]);
  });

  type Case = {
    name: string;
    facts: Partial<CiFacts>;
    check: string;
    status: Check["status"];
    found: RegExp;
    fix: RegExp;
  };
  it.each<Case>([
    {
      name: "no bucket",
      facts: { bucket: async () => undefined },
      check: "work bucket",
      status: "fail",
      found: /there is no bucket work/,
      fix: /workBucket/,
    },
    {
      name: "a bucket elsewhere",
      facts: { bucket: async () => ({ region: "us-east-1" }) },
      check: "work bucket",
      status: "fail",
      found: /in us-east-1, the rest in eu-central-1/,
      fix: /a bucket in eu-central-1/,
    },
    {
      name: "a bucket that a policy opens",
      facts: { bucketAccess: async () => ({ blocked: false, openBy: "policy" }) },
      check: "bucket access",
      status: "fail",
      found: /everybody is let in by the policy/,
      fix: /put-public-access-block --bucket work/,
    },
    {
      name: "a bucket that could be opened",
      facts: { bucketAccess: async () => ({ blocked: false, openBy: undefined }) },
      check: "bucket access",
      status: "warn",
      found: /nothing would keep work from being opened/,
      fix: /put-public-access-block/,
    },
    {
      name: "objects that go too soon",
      facts: rules({ expires: [{ prefix: "shipway/images/", days: 1 }] }),
      check: "bucket rules",
      status: "fail",
      found: /after 1 day/,
      fix: /2 days at least/,
    },
    {
      name: "objects that stay, and uploads",
      facts: rules({ expires: [{ prefix: "load-balancer/", days: 1 }], endsUploads: false }),
      check: "bucket rules",
      status: "warn",
      found: /no life cycle rule ends objects below shipway\/.*; no life cycle rule ends uploads/,
      fix: /expiration.*AbortIncompleteMultipartUpload/,
    },
    {
      name: "caches that go before they are old",
      facts: rules({ expires: [{ prefix: "", days: 3 }] }),
      check: "bucket rules",
      status: "warn",
      found: /after 3 days, and caches of steps are good for 7/,
      fix: /keep them longer/,
    },
    {
      name: "versions of what was removed",
      facts: rules({ keepsVersions: { days: undefined } }),
      check: "bucket rules",
      status: "warn",
      found: /versions are kept.*secrets among it, can be read for good/,
      fix: /Suspend versioning/,
    },
    {
      name: "a call of ours that IAM denies",
      facts: { lacking: denying(who.arn, "codebuild:StartBuild") },
      check: "ci permissions",
      status: "fail",
      found: /deny codebuild:StartBuild/,
      fix: /driver-build\.json.*project\/shop-images/,
    },
    {
      name: "security groups of steps that are gone",
      facts: { securityGroups: async () => [] },
      check: "step security groups",
      status: "fail",
      found: /sg-0000000b not there/,
      fix: /stepSecurityGroups/,
    },
    {
      name: "security groups that let nothing out",
      facts: { securityGroups: async () => [{ id: "sg-0000000b", vpc: "vpc-1", out: "nowhere", from: [] }] },
      check: "step security groups",
      status: "fail",
      found: /nothing out at port 443/,
      fix: /Allow port 443/,
    },
    {
      name: "an execution role that cannot read secrets of steps",
      facts: { lacking: denying(steps.executionRole, "secretsmanager:GetSecretValue") },
      check: "step start",
      status: "fail",
      found: /deny arn:aws:iam::123456789012:role\/shop-exec secretsmanager:GetSecretValue/,
      fix: /execution\.json/,
    },
    {
      name: "a role of steps that others are trusted with",
      facts: {
        role: async (name) => ({ services: [name === "shop-step" ? "ec2.amazonaws.com" : "codebuild.amazonaws.com"] }),
      },
      check: "step role",
      status: "fail",
      found: /tasks may not take on/,
      fix: /ecs-tasks/,
    },
    {
      name: "a role of steps that reads the bucket, and so other steps' secrets",
      facts: { lacking: async () => [] },
      check: "step role",
      status: "warn",
      found: /may read work, so any script can read/,
      fix: /s3:GetObject/,
    },
    {
      name: "no project",
      facts: { buildProject: async () => undefined },
      check: "build project",
      status: "fail",
      found: /no CodeBuild project shop-images in eu-central-1/,
      fix: /buildProject/,
    },
    {
      name: "a project for other machines",
      facts: changed({ machine: "ARM_CONTAINER" }),
      check: "build project",
      status: "fail",
      found: /builds on ARM_CONTAINER, and the tasks are x86_64/,
      fix: /LINUX_CONTAINER/,
    },
    {
      name: "a project on Lambda, which has no Docker",
      facts: changed({ machine: "LINUX_LAMBDA_CONTAINER" }),
      check: "build project",
      status: "fail",
      found: /LINUX_LAMBDA_CONTAINER/,
      fix: /LINUX_CONTAINER/,
    },
    {
      name: "a project without privileged mode",
      facts: changed({ privileged: false }),
      check: "build project",
      status: "fail",
      found: /no privileged mode/,
      fix: /privileged_mode/,
    },
    {
      name: "a public project",
      facts: changed({ isPublic: true }),
      check: "build project",
      status: "warn",
      found: /everybody may read/,
      fix: /PRIVATE/,
    },
    {
      name: "an image of its own",
      facts: changed({ image: "registry.example.com/build:1" }),
      check: "build project",
      status: "warn",
      found: /registry\.example\.com/,
      fix: /Docker with buildx, Python 3/,
    },
    {
      name: "a role of builds that CodeBuild may not take on",
      facts: { role: async () => ({ services: ["ecs-tasks.amazonaws.com"] }) },
      check: "build role",
      status: "fail",
      found: /builds may not take on/,
      fix: /codebuild\.amazonaws\.com/,
    },
    {
      name: "a role of builds that cannot push",
      facts: { lacking: denying(project.role, "ecr:PutImage") },
      check: "build role",
      status: "fail",
      found: /ecr:PutImage/,
      fix: /build\.json/,
    },
    {
      name: "builds without a log",
      facts: changed({ logGroup: undefined }),
      check: "build log",
      status: "fail",
      found: /write no log to CloudWatch/,
      fix: /logs_config/,
    },
    {
      name: "a log group that is not there",
      facts: { hasLogGroup: async () => false },
      check: "build log",
      status: "warn",
      found: /no log group \/aws\/codebuild\/shop-images/,
      fix: /retention/,
    },
  ])("finds $name", async ({ facts, check, status, found, fix }) => {
    const seen = (await look(facts)).find(({ name }) => name === check);
    expect(seen).toMatchObject({ status, found: expect.stringMatching(found), fix: expect.stringMatching(fix) });
  });

  it("looks for the log group that the project names, in the permissions, too", async () => {
    const asked: Permission[] = [];
    const facts: Partial<CiFacts> = {
      ...changed({ logGroup: "/builds" }),
      lacking: async (_principal, permissions) => {
        asked.push(...permissions);
        return [];
      },
    };
    await look(facts);
    const read = asked.find(({ action, resource }) => action === "logs:GetLogEvents" && !resource.includes("_ci"));
    expect(read?.resource).toBe(`arn:aws:logs:eu-central-1:${ACCOUNT}:log-group:/builds:log-stream:doctor`);
  });
});

describe("what is tried of CI's permissions", () => {
  const needed = ciPermissions({ steps, images }, ACCOUNT);
  const shipped = (...files: string[]) =>
    shippedStatements(["driver-rollout", "driver-storage", ...files], {
      region: steps.region,
      account: ACCOUNT,
      name: "shop",
      log_bucket: "work",
    });

  it("is allowed by the shipped policies", async () => {
    const statements = await shipped("driver-ci", "driver-build");
    expect(needed.filter((one) => !isAllowed(statements, one))).toEqual([]);
  });

  it("is denied where the two policies of ci are not attached", async () => {
    const statements = await shipped();
    const lacking = needed.filter((one) => !isAllowed(statements, one)).map(({ action }) => action);
    expect(lacking).toEqual(
      expect.arrayContaining(["codebuild:StartBuild", "s3:AbortMultipartUpload", "iam:PassRole"]),
    );
  });

  it("holds for what execution and build roles are tried with, by their own policies", async () => {
    const asked = new Map<string, Permission[]>();
    const facts: Partial<CiFacts> = {
      lacking: async (principal, permissions) => {
        asked.set(principal, [...(asked.get(principal) ?? []), ...permissions]);
        return [];
      },
    };
    await look(facts);
    const values = { region: steps.region, account: ACCOUNT, name: "shop", log_bucket: "work" };
    for (const [principal, file] of [
      [steps.executionRole, "execution"],
      [project.role, "build"],
    ] as const) {
      const statements = await shippedStatements([file], values);
      const tried = asked.get(principal) ?? [];
      expect(tried.length).toBeGreaterThan(0);
      expect(tried.filter((one) => !isAllowed(statements, one))).toEqual([]);
    }
  });
});
