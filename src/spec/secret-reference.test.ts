import { describe, expect, it } from "vitest";
import { readSecretReference } from "./secret-reference.ts";

const SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/db-AbCdEf";
const region = "eu-central-1";
const account = "123456789012";

describe("readSecretReference", () => {
  it.each([
    [SECRET, { kind: "secret", arn: SECRET, region }],
    [`${SECRET}:password`, { kind: "secret", arn: SECRET, region, key: "password" }],
    [`${SECRET}:password::`, { kind: "secret", arn: SECRET, region, key: "password" }],
    [`${SECRET}::AWSPREVIOUS:`, { kind: "secret", arn: SECRET, region, stage: "AWSPREVIOUS" }],
    [`${SECRET}:::0c1d`, { kind: "secret", arn: SECRET, region, versionId: "0c1d" }],
    ["ssm:/shop/db", { kind: "parameter", names: ["/shop/db"] }],
    ["ssm:db", { kind: "parameter", names: ["db"] }],
    [`arn:aws:ssm:${region}:${account}:parameter/shop/db`, { kind: "parameter", names: ["/shop/db"], region, account }],
    [`arn:aws-cn:ssm:${region}:${account}:parameter/db`, { kind: "parameter", names: ["/db", "db"], region, account }],
  ])("reads %s", (text, expected) => {
    expect(readSecretReference(text)).toEqual(expected);
  });

  it.each([
    ["ssm:/shop/db:3", /takes no version of a parameter/],
    [`arn:aws:ssm:${region}:${account}:parameter/db:label`, /leave :label out/],
    ["ssm:shop/db", /begins with a slash/],
    ["ssm:", /the name of a parameter/],
    ["/shop/db", /^write ssm:/],
    ["arn:aws:s3:::bucket", /^write ssm:/],
    [SECRET.slice(0, -7), /six characters/],
    [`${SECRET}:password:AWSCURRENT:0c1d`, /a stage or a version of a secret, not both/],
    [`${SECRET}:a:b:c:d`, /at most KEY:STAGE:VERSION/],
  ])("says what is wrong with %s", (text, problem) => {
    expect(readSecretReference(text)).toEqual({ problem: expect.stringMatching(problem) });
  });
});
