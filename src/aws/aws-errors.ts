import { errorCode, fail } from "../shared/errors.ts";

/**
 * `throttle`: not done, ask again later. `transient`: done or not, nobody knows. `gap`: an emulator that lacks the operation.
 * The others do not get better by asking again.
 */
export type AwsErrorKind =
  | "throttle"
  | "transient"
  | "unreachable"
  | "denied"
  | "credentials"
  | "clock"
  | "quota"
  | "capacity"
  | "missing"
  | "gap"
  | "final";

type Facts = { name: string; message: string; status: number | undefined; systemCode: string | undefined };

const THROTTLES =
  /^(Throttling|ThrottlingException|ThrottledException|RequestLimitExceeded|TooManyRequestsException|RequestThrottled|SlowDown|PriorRequestNotComplete)$/;
const SYSTEM_UNREACHABLE = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);
const SYSTEM_TRANSIENT = new Set(["ECONNRESET", "EPIPE", "ETIMEDOUT", "EPROTO"]);
const CREDENTIALS =
  /^(CredentialsProviderError|ExpiredTokenException|ExpiredToken|InvalidClientTokenId|UnrecognizedClientException|InvalidToken|TokenProviderError|SSOTokenProviderFailure)$/;
const CLOCK = /^(RequestExpired|RequestTimeTooSkewed)$/;
const MISSING =
  /^(ClusterNotFoundException|ServiceNotFoundException|ListenerNotFound(Exception)?|LoadBalancerNotFound(Exception)?|TargetGroupNotFound(Exception)?|RuleNotFound(Exception)?|ResourceNotFoundException|RepositoryNotFoundException|NoSuchBucket)$/;
// In ECS LimitExceededException is a quota, although the SDK takes it for throttling (Amazon ECS API reference, common errors).
const QUOTA =
  /^(LimitExceededException|ServiceQuotaExceededException|TooMany(Rules|TargetGroups|Targets|Tags|UniqueTargetGroupsPerLoadBalancer|RegistrationsForTargetId)(Exception)?)$/;

/** What kind of failure it is, from the name and status AWS gives; never from its text, save where AWS gives only that. */
export function kindOf(error: unknown): AwsErrorKind {
  const { name, message, status, systemCode } = readError(error);
  if (THROTTLES.test(name) || status === 429) return "throttle";
  if (CREDENTIALS.test(name)) return "credentials";
  if (CLOCK.test(name) || /Signature not yet current|Signature expired/.test(message)) return "clock";
  if (/^(AccessDenied|AccessDeniedException|UnauthorizedOperation|Forbidden)$/.test(name)) return "denied";
  if (QUOTA.test(name)) return "quota";
  if (MISSING.test(name)) return "missing";
  if (/^Capacity is unavailable/.test(message) || name === "InsufficientCapacityException") return "capacity";
  if (systemCode !== undefined && SYSTEM_UNREACHABLE.has(systemCode)) return "unreachable";
  if (systemCode !== undefined && SYSTEM_TRANSIENT.has(systemCode)) return "transient";
  if (name === "TimeoutError" || name === "AbortError") return "transient";
  // An operation that an emulator lacks is answered with a page of HTML; the SDK then fails to read it.
  if (name === "SyntaxError" && status === 500) return "gap";
  if (status !== undefined && status >= 500) return "transient";
  if (status === 403) return "denied";
  return "final";
}

/** Whether AWS said this name: `DuplicateTargetGroupName` is also written `DuplicateTargetGroupNameException`. */
export function isAws(error: unknown, ...names: string[]): boolean {
  const { name } = readError(error);
  return names.some((one) => name === one || name === `${one}Exception`);
}

/** For `catch`: undefined where AWS says one of these, so that what is gone already is no error. */
export function noneWithout(...names: string[]): (error: unknown) => undefined {
  return (error) => {
    if (isAws(error, ...names)) return undefined;
    throw error;
  };
}

/** ECS has one name, InvalidParameterException, for things that are told apart here, once, by its text. */
export const isAlreadyThere = (error: unknown): boolean => /not idempotent/i.test(readError(error).message);
export const isAgentNotRunning = (error: unknown): boolean =>
  isAws(error, "TargetNotConnected") || /execute command agent isn.t running/i.test(readError(error).message);
export const isStillDraining = (error: unknown): boolean => /still draining/i.test(readError(error).message);

/** What was asked for when an error came: `ecs:CreateService`, and what it was about. */
export type Asked = { action: string; region: string; subject: string | undefined };

/** @returns the error with a public code; one that has a code already, or is not AWS's, is returned as it is */
export function toAwsError(error: unknown, asked: Asked | undefined): unknown {
  if (asked === undefined || errorCode(error) !== undefined) return error;
  const { message, name } = readError(error);
  const { action, region, subject } = asked;
  const about = subject === undefined ? "" : ` for ${subject}`;
  const failed = `AWS refused ${action}${about} in ${region}: ${message || name}`;
  switch (kindOf(error)) {
    case "denied":
      return fail("AWS_DENIED", {
        message: failed,
        hint: `Add this to the policy of Shipway's role:\n${policyLine(action, subject)}`,
        cause: error,
      });
    case "credentials":
      return fail("AWS_CREDENTIALS", {
        message: `There are no valid AWS credentials: ${message || name}`,
        hint: "Give the server a role (ECS task role, instance profile) or AWS_PROFILE / AWS_ACCESS_KEY_ID, renew an expired session with `aws sso login`, then start Shipway again.",
        cause: error,
      });
    case "clock":
      return fail("AWS_CREDENTIALS", {
        message: `AWS does not accept this machine's clock: ${message || name}`,
        hint: "Set the clock (`timedatectl set-ntp true`), then try again.",
        cause: error,
      });
    case "quota":
      return fail("AWS_QUOTA", {
        message: failed,
        hint: "Ask for a higher quota in the Service Quotas console, or remove environments that nobody needs.",
        cause: error,
      });
    case "missing":
      return fail("AWS_NOT_FOUND", {
        message: failed,
        hint: `Check region (${region}), cluster, listener and bucket under \`aws:\` of the environment, or the Terraform outputs they come from.`,
        cause: error,
      });
    case "capacity":
      return fail("AWS_CAPACITY", {
        message: failed,
        hint: "AWS has no Fargate capacity in these subnets now; wait a few minutes, or add subnets in other zones.",
        cause: error,
      });
    case "throttle":
      return fail("AWS_THROTTLED", {
        message: `${failed} (asked several times, more slowly each time)`,
        hint: "Something else in the account uses up the API's rate; try again in a minute.",
        cause: error,
      });
    case "unreachable":
    case "transient":
      return fail("AWS_UNREACHABLE", {
        message: `AWS did not answer ${action}${about} in ${region}: ${message || name}`,
        hint: "Check the network, the region and https://health.aws.amazon.com.",
        cause: error,
      });
    case "gap":
      return fail("AWS_REFUSED", {
        message: `${action} is not known at the AWS endpoint that is used.`,
        hint: "An emulator may lack it: unset AWS_ENDPOINT_URL to use AWS itself.",
        cause: error,
      });
    case "final":
      return fail("AWS_REFUSED", {
        message: failed,
        hint: "Compare the environment's `aws:` settings with the account; the message names what AWS did not accept.",
        cause: error,
      });
  }
}

/** The statement to add, for the very thing that was refused. */
export function policyLine(action: string, subject: string | undefined): string {
  return JSON.stringify({ Effect: "Allow", Action: action, Resource: subject?.startsWith("arn:") ? subject : "*" });
}

function readError(error: unknown): Facts {
  if (typeof error !== "object" || error === null) {
    return { name: "", message: String(error), status: undefined, systemCode: undefined };
  }
  const { name, message, code, $metadata } = error as Record<string, unknown>;
  const status =
    typeof $metadata === "object" && $metadata !== null
      ? ($metadata as Record<string, unknown>).httpStatusCode
      : undefined;
  return {
    name: typeof name === "string" ? name : "",
    message: typeof message === "string" ? message : "",
    status: typeof status === "number" ? status : undefined,
    systemCode: typeof code === "string" ? code : undefined,
  };
}

/** What is wrong with credentials, of an error of AWS or one that was made of it: nobody gave any, they are over, or AWS does not know them. */
export function credentialsFault(error: unknown): "missing" | "expired" | "unknown" | undefined {
  const { name } = readError(error);
  if (/^(CredentialsProviderError|TokenProviderError)$/.test(name)) return "missing";
  if (/^(ExpiredToken|ExpiredTokenException|SSOTokenProviderFailure)$/.test(name)) return "expired";
  if (CREDENTIALS.test(name)) return "unknown";
  return error instanceof Error && error.cause !== undefined ? credentialsFault(error.cause) : undefined;
}
