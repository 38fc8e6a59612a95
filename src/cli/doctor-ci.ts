import type { CiSettings } from "../spec/ci-settings.ts";
import { looked, once, statementsFor } from "./aws-check.ts";
import { BUILDS, ciPermissions, STEPS } from "./ci-permissions.ts";
import type { Check } from "./doctor.ts";
import type { AwsFacts, Permission } from "./doctor-aws.ts";
import { checkAccess, checkBucket, checkRules } from "./doctor-bucket.ts";
import { buildChecks } from "./doctor-builds.ts";
import { stepChecks } from "./doctor-steps.ts";

/** What the checks of `ci` ask beside. `ci-facts.ts` answers from a real account. Each rejects with a public code. */
export type CiFacts = Pick<AwsFacts, "role" | "lacking" | "securityGroups"> & {
  /** Lists what is below `shipway/`. `region`: where it is, when that is elsewhere. Undefined: there is no such bucket. */
  bucket(name: string): Promise<{ region: string | undefined } | undefined>;
  bucketAccess(name: string): Promise<BucketAccess>;
  bucketRules(name: string): Promise<BucketRules>;
  buildProject(name: string): Promise<ProjectFacts | undefined>;
  hasLogGroup(name: string): Promise<boolean>;
};
/** `blocked`: all of S3's four blocks are on. `openBy`: what lets everybody in. */
export type BucketAccess = { blocked: boolean; openBy: "policy" | "ACL" | undefined };
/** `prefix`: what the rule is for; empty for all of the bucket. `keepsVersions`: what is removed stays as an earlier version, and for how many days where a rule says so. */
export type BucketRules = {
  expires: { prefix: string; days: number }[];
  endsUploads: boolean;
  keepsVersions: false | { days: number | undefined };
};
export type ProjectFacts = {
  role: string;
  machine: string;
  image: string;
  privileged: boolean;
  isPublic: boolean;
  /** Undefined where CloudWatch gets nothing. */
  logGroup: string | undefined;
};

/** What `ci` of shipway.yml says. `vcpus`: of the steps of a push that run at the same time. */
export type CiNeeds = { environment: string; region: string; settings: CiSettings; vcpus: number };

/** Looks, without changing anything, at what pipeline steps on Fargate and image builds in CodeBuild rest on. Never throws. */
export async function runCiDoctor(
  facts: CiFacts,
  { environment, region, settings: { steps, images } }: CiNeeds,
  who: { account: string; arn: string },
): Promise<Check[]> {
  const stepSettings = steps.kind === "ecs" ? steps.settings : undefined;
  const buildSettings = images.kind === "codebuild" ? images.settings : undefined;
  const bucket = stepSettings?.workBucket ?? buildSettings?.workBucket;
  if (bucket === undefined) return [];
  const project = once(async () => buildSettings && (await facts.buildProject(buildSettings.buildProject)));
  const found = [stepSettings && "steps on Fargate", buildSettings && "images in CodeBuild"].filter(Boolean);
  const checks = await Promise.all([
    { name: "ci", status: "ok" as const, found: `${found.join(", ")}, in the account of ${environment}` },
    looked("work bucket", async () => checkBucket(bucket, region, await facts.bucket(bucket))),
    looked("bucket access", async () => checkAccess(bucket, await facts.bucketAccess(bucket)), "not needed"),
    looked(
      "bucket rules",
      async () => checkRules(stepSettings ? STEPS : BUILDS, await facts.bucketRules(bucket)),
      "not needed",
    ),
    looked(
      "ci permissions",
      async () => {
        // Without the project the usual name is as good.
        const log = (await project().catch(() => undefined))?.logGroup;
        const needed = ciPermissions({ steps: stepSettings, images: buildSettings }, who.account, log);
        return checkOurs(facts, needed, who);
      },
      "not needed",
    ),
    ...(stepSettings ? stepChecks(facts, stepSettings, who.account) : []),
    ...(buildSettings ? buildChecks(facts, buildSettings, project, who.account) : []),
  ]);
  return checks.filter((check) => check !== undefined);
}

async function checkOurs(facts: CiFacts, needed: Permission[], { arn }: { arn: string }): Promise<Check | undefined> {
  const name = "ci permissions";
  // Root is judged by nobody, and told of by the line of the other permissions.
  if (arn.endsWith(":root")) return undefined;
  const lacking = await facts.lacking(arn, needed);
  if (lacking.length === 0) return { name, status: "ok", found: `all ${needed.length} that were tried` };
  return {
    name,
    status: "fail",
    found: `IAM would deny ${lacking.map(({ action }) => action).join(", ")}`,
    fix: `Attach driver-ci.json and driver-build.json (docs/aws.md#permissions), or add: ${statementsFor(lacking)}`,
  };
}
