import { describe, expect, it } from "vitest";
import { errorCode, type ShipwayError } from "../shared/errors.ts";
import { kindOf, toAwsError } from "./aws-errors.ts";

const awsError = (name: string, status: number | undefined, message = "no") =>
  Object.assign(new Error(message), { name, ...(status !== undefined && { $metadata: { httpStatusCode: status } }) });
const systemError = (code: string) => Object.assign(new Error(code), { code });
const asked = { action: "ecs:CreateService", region: "eu-central-1", subject: "arn:aws:ecs:x:1:service/c/s" };
const publicOf = (error: unknown) => toAwsError(error, asked) as ShipwayError;

it.each([
  [awsError("ThrottlingException", 400), "throttle", "AWS_THROTTLED"],
  [awsError("TooManyRequestsException", 429), "throttle", "AWS_THROTTLED"],
  [awsError("ServerException", 500), "transient", "AWS_UNREACHABLE"],
  [awsError("TimeoutError", undefined), "transient", "AWS_UNREACHABLE"],
  [systemError("ECONNRESET"), "transient", "AWS_UNREACHABLE"],
  [systemError("ECONNREFUSED"), "unreachable", "AWS_UNREACHABLE"],
  [awsError("AccessDeniedException", 400), "denied", "AWS_DENIED"],
  [awsError("AccessDenied", 403), "denied", "AWS_DENIED"],
  [awsError("ExpiredTokenException", 400), "credentials", "AWS_CREDENTIALS"],
  [awsError("CredentialsProviderError", undefined), "credentials", "AWS_CREDENTIALS"],
  [
    awsError("InvalidSignatureException", 403, "Signature expired: 1 is now earlier than 2"),
    "clock",
    "AWS_CREDENTIALS",
  ],
  [awsError("LimitExceededException", 400), "quota", "AWS_QUOTA"],
  [awsError("TooManyRules", 400), "quota", "AWS_QUOTA"],
  [awsError("ClusterNotFoundException", 400), "missing", "AWS_NOT_FOUND"],
  [awsError("InvalidParameterException", 400, "Capacity is unavailable at this time"), "capacity", "AWS_CAPACITY"],
  [awsError("SyntaxError", 500), "gap", "AWS_REFUSED"],
  [awsError("InvalidParameterException", 400), "final", "AWS_REFUSED"],
])("takes %s for %s, in public %s", (error, kind, code) => {
  expect(kindOf(error)).toBe(kind);
  expect(errorCode(publicOf(error))).toBe(code);
  expect(publicOf(error).hint).toBeTruthy();
});

describe("what is shown", () => {
  it("names the action, the thing and the policy line that is missing", () => {
    const shown = publicOf(awsError("AccessDeniedException", 400, "User x is not authorized"));
    expect(shown.message).toContain("ecs:CreateService for arn:aws:ecs:x:1:service/c/s in eu-central-1");
    expect(shown.hint).toContain(
      '{"Effect":"Allow","Action":"ecs:CreateService","Resource":"arn:aws:ecs:x:1:service/c/s"}',
    );
  });

  it("leaves what is not AWS's, or has a code already, as it is", () => {
    const bug = new Error("a bug");
    expect(toAwsError(bug, undefined)).toBe(bug);
    const known = publicOf(awsError("AccessDenied", 403));
    expect(toAwsError(known, asked)).toBe(known);
  });
});
