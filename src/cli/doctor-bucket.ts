import { STEPS } from "./ci-permissions.ts";
import type { Check } from "./doctor.ts";
import type { BucketAccess, BucketRules } from "./doctor-ci.ts";

/** A build's context lies there for half a day before it is uploaded anew, and caches of steps for a week. */
const FEWEST_DAYS = 2;
const CACHE_DAYS = 7;

export function checkBucket(bucket: string, region: string, seen: { region: string | undefined } | undefined): Check {
  const name = "work bucket";
  if (seen === undefined)
    return {
      name,
      status: "fail",
      found: `there is no bucket ${bucket}`,
      fix: "Name one that is there under `aws: { workBucket }`, or apply the environment's Terraform: `shipway infra apply`.",
    };
  if (seen.region !== undefined && seen.region !== region)
    return {
      name,
      status: "fail",
      found: `${bucket} is in ${seen.region}, the rest in ${region}`,
      fix: `Take a bucket in ${region}: Shipway asks for it there, and traffic between Regions costs.`,
    };
  return { name, status: "ok", found: `${bucket} can be listed` };
}

/** Anybody who can list it finds checkouts, and orders with the secrets of steps that run. */
export function checkAccess(bucket: string, { blocked, openBy }: BucketAccess): Check {
  const name = "bucket access";
  const fix = `\`aws s3api put-public-access-block --bucket ${bucket} --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true\``;
  if (openBy !== undefined)
    return { name, status: "fail", found: `everybody is let in by the ${openBy} of ${bucket}`, fix };
  if (blocked) return { name, status: "ok", found: "all public access is blocked" };
  return { name, status: "warn", found: `nothing would keep ${bucket} from being opened to everybody`, fix };
}

export function checkRules(prefix: string, { expires, endsUploads, keepsVersions }: BucketRules): Check {
  const name = "bucket rules";
  const ours = expires.filter((rule) => prefix.startsWith(rule.prefix));
  // A rule for some of it takes that away as early, too.
  const shortest = Math.min(...expires.filter((rule) => overlaps(rule.prefix, prefix)).map(({ days }) => days));
  if (shortest < FEWEST_DAYS)
    return {
      name,
      status: "fail",
      found: `objects go after ${shortest} day, some while they are needed`,
      fix: `Let the life cycle rule keep them ${FEWEST_DAYS} days at least.`,
    };
  const remarks: { found: string; fix: string }[] = [];
  if (keepsVersions !== false && (keepsVersions.days ?? CACHE_DAYS) > 1) {
    const found =
      "versions are kept, so what a step's end removes, its secrets among it, can be read for " +
      (keepsVersions.days === undefined ? "good" : `${keepsVersions.days} days`);
    remarks.push({ found, fix: "Suspend versioning, or let a life cycle rule end earlier versions after a day." });
  }
  if (ours.length === 0)
    remarks.push({
      found: `no life cycle rule ends objects below ${prefix}, so contexts of builds and old caches stay for good`,
      fix: `Add one with an expiration of 30 days, say, for ${prefix}.`,
    });
  else if (prefix === STEPS && shortest < CACHE_DAYS)
    remarks.push({
      found: `objects go after ${shortest} days, and caches of steps are good for ${CACHE_DAYS}`,
      fix: "Let the life cycle rule keep them longer, or steps begin without caches more often.",
    });
  if (!endsUploads)
    remarks.push({
      found: "no life cycle rule ends uploads that broke off, whose parts cost money and are shown nowhere",
      fix: "Add AbortIncompleteMultipartUpload after 7 days to a rule.",
    });
  if (remarks.length > 0) {
    const all = (key: "found" | "fix") => remarks.map((remark) => remark[key]);
    return { name, status: "warn", found: all("found").join("; "), fix: all("fix").join(" ") };
  }
  return { name, status: "ok", found: `objects go after ${shortest} days, uploads that broke off, too` };
}

const overlaps = (one: string, other: string): boolean => one.startsWith(other) || other.startsWith(one);
