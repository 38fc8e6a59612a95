import type { LifecycleRule } from "@aws-sdk/client-s3";
import { isAws, noneWithout, toAwsError } from "../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../aws/calls.ts";
import type { AwsFacts } from "./doctor-aws.ts";
import type { BucketRules, CiFacts } from "./doctor-ci.ts";

/** What belongs to everybody, by the names of S3's groups (Amazon S3 user guide, predefined groups). */
const EVERYBODY = /\/groups\/(global\/AllUsers|global\/AuthenticatedUsers)$/;

/** Answers the checks of `ci` from an AWS account, beside what is known already. Reads only. The SDK is loaded by this call. */
export async function openCiFacts(options: AwsOptions, facts: AwsFacts): Promise<CiFacts> {
  const [{ S3 }, { CodeBuild }, { CloudWatchLogs }] = await Promise.all([
    import("@aws-sdk/client-s3"),
    import("@aws-sdk/client-codebuild"),
    import("@aws-sdk/client-cloudwatch-logs"),
  ]);
  const calls = newAwsCalls(options);
  const s3 = calls.open(S3, "s3");
  const codebuild = calls.open(CodeBuild, "codebuild");
  const logs = calls.open(CloudWatchLogs, "logs");
  const told = async <T>(ask: () => Promise<T>): Promise<T> => {
    try {
      return await ask();
    } catch (error) {
      throw toAwsError(error, calls.askedOf(error));
    }
  };

  return {
    role: facts.role,
    lacking: facts.lacking,
    securityGroups: facts.securityGroups,

    bucket: (Bucket) =>
      told(async () => {
        try {
          // Not HeadBucket: Shipway's role may list nothing but this.
          await s3.listObjectsV2({ Bucket, Prefix: "shipway/", MaxKeys: 1 });
          return { region: undefined };
        } catch (error) {
          if (isAws(error, "NoSuchBucket")) return undefined;
          const region = otherRegionOf(error);
          if (region === undefined) throw error;
          return { region };
        }
      }),

    bucketAccess: (Bucket) =>
      told(async () => {
        const block = await s3
          .getPublicAccessBlock({ Bucket })
          .catch(noneWithout("NoSuchPublicAccessBlockConfiguration"));
        const { BlockPublicAcls, BlockPublicPolicy, IgnorePublicAcls, RestrictPublicBuckets } =
          block?.PublicAccessBlockConfiguration ?? {};
        const blocked = [BlockPublicAcls, BlockPublicPolicy, IgnorePublicAcls, RestrictPublicBuckets].every(Boolean);
        if (blocked) return { blocked, openBy: undefined };
        const { Grants } = await s3.getBucketAcl({ Bucket });
        if (Grants?.some(({ Grantee }) => EVERYBODY.test(Grantee?.URI ?? ""))) return { blocked, openBy: "ACL" };
        const status = await s3.getBucketPolicyStatus({ Bucket }).catch(noneWithout("NoSuchBucketPolicy"));
        return { blocked, openBy: status?.PolicyStatus?.IsPublic ? "policy" : undefined };
      }),

    bucketRules: (Bucket) =>
      told(async () => {
        const [lifecycle, versioning] = await Promise.all([
          s3.getBucketLifecycleConfiguration({ Bucket }).catch(noneWithout("NoSuchLifecycleConfiguration")),
          s3.getBucketVersioning({ Bucket }),
        ]);
        return bucketRules(lifecycle?.Rules ?? [], versioning.Status === "Enabled");
      }),

    buildProject: (name) =>
      told(async () => {
        const { projects } = await codebuild.batchGetProjects({ names: [name] });
        const [found] = projects ?? [];
        if (found === undefined) return undefined;
        const log = found.logsConfig?.cloudWatchLogs;
        return {
          role: found.serviceRole ?? "",
          machine: found.environment?.type ?? "",
          image: found.environment?.image ?? "",
          privileged: found.environment?.privilegedMode === true,
          isPublic: found.projectVisibility === "PUBLIC_READ",
          // Where nothing is said, it is on, under this name (AWS CodeBuild API, CloudWatchLogsConfig).
          logGroup: log?.status === "DISABLED" ? undefined : (log?.groupName ?? `/aws/codebuild/${name}`),
        };
      }),

    hasLogGroup: (name) =>
      told(async () => {
        const { logGroups } = await logs.describeLogGroups({ logGroupNamePrefix: name });
        return logGroups?.some(({ logGroupName }) => logGroupName === name) ?? false;
      }),
  };
}

/** S3 says in a header of its refusal where a bucket is that is not in the Region of the address (Amazon S3 user guide, redirects). */
function otherRegionOf(error: unknown): string | undefined {
  if (!isAws(error, "PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect")) return undefined;
  const { $response } = error as { $response?: { headers?: Record<string, string> } };
  return $response?.headers?.["x-amz-bucket-region"] ?? "another Region";
}

function bucketRules(rules: LifecycleRule[], isVersioned: boolean): BucketRules {
  const enabled = rules.filter(({ Status }) => Status === "Enabled");
  // A rule that is also for tags or sizes is for none of ours, or nobody knows for which.
  const ours = enabled.flatMap((rule) => {
    const { Filter = {}, Prefix } = rule;
    if (Filter.Tag || Filter.And || Filter.ObjectSizeGreaterThan || Filter.ObjectSizeLessThan) return [];
    return [{ ...rule, prefix: Filter.Prefix ?? Prefix ?? "" }];
  });
  const earlier = ours.flatMap(({ prefix, NoncurrentVersionExpiration: ends }) =>
    "shipway/".startsWith(prefix) && ends?.NoncurrentDays !== undefined ? [ends.NoncurrentDays] : [],
  );
  return {
    expires: ours.flatMap(({ prefix, Expiration }) =>
      Expiration?.Days === undefined ? [] : [{ prefix, days: Expiration.Days }],
    ),
    endsUploads: ours.some(
      ({ prefix, AbortIncompleteMultipartUpload: ends }) => "shipway/".startsWith(prefix) && ends !== undefined,
    ),
    keepsVersions: isVersioned && { days: earlier.length > 0 ? Math.min(...earlier) : undefined },
  };
}
