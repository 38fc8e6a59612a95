import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { SSM } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasMoto, type Moto, startMoto } from "../infra/moto-testing.ts";
import { readSecretReference, type SecretReference } from "../spec/secret-reference.ts";
import { openAccountSecrets } from "./account-secrets.ts";
import type { AwsOptions } from "./calls.ts";

const REGION = "eu-central-1";
const ROLE = "arn:aws:iam::123456789012:role/exec";
const ABSENT = `arn:aws:secretsmanager:${REGION}:123456789012:secret:none-AbCdEf`;

let moto: Moto;
let arn: string;
let versions: [first: string, second: string];
const calls: string[] = [];
const account = (options: Partial<AwsOptions> = {}) =>
  openAccountSecrets({
    region: REGION,
    endpoint: moto?.endpoint,
    executionRole: ROLE,
    attempts: 1,
    speed: 1_000,
    onCall: ({ service, command }) => calls.push(`${service}:${command}`),
    ...options,
  });
const reference = (text: string): SecretReference => {
  const read = readSecretReference(text);
  if ("problem" in read) throw new Error(read.problem);
  return read;
};
const lookUp = (...texts: string[]) => account().lookUp(texts.map(reference));

beforeAll(async () => {
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" });
  if (!hasMoto) return console.warn("SKIPPED, for want of moto_server: secrets of an account");
  moto = await startMoto();
  const at = { region: REGION, endpoint: moto.endpoint };
  const [secrets, ssm] = [new SecretsManager(at), new SSM(at)];
  const made = await secrets.createSecret({ Name: "shop/db", SecretString: "one" });
  const put = await secrets.putSecretValue({ SecretId: "shop/db", SecretString: "two" });
  arn = made.ARN ?? "";
  versions = [made.VersionId ?? "", put.VersionId ?? ""];
  for (const Value of ["one", "two"])
    await ssm.putParameter({ Name: "/shop/mail", Value, Type: "SecureString", Overwrite: true });
  await ssm.putParameter({ Name: "plain", Value: "x", Type: "String" });
});
afterAll(() => moto?.close());

describe.skipIf(!hasMoto)("secrets of an account", () => {
  it("are found in the version they have now, by stage or by id, and nothing that gives a value is called", async () => {
    calls.length = 0;
    const [first, second] = versions;
    const found = await lookUp(arn, `${arn}:password`, `${arn}::AWSPREVIOUS`, `${arn}:::${first}`, "ssm:/shop/mail");
    expect(found.map((one) => one.status === "found" && one.valueFrom)).toEqual([
      `${arn}:::${second}`,
      `${arn}:password::${second}`,
      `${arn}:::${first}`,
      `${arn}:::${first}`,
      "/shop/mail",
    ]);
    expect(found.at(-1)).toMatchObject({
      version: "2",
      isPinned: false,
      resource: `arn:aws:ssm:${REGION}:123456789012:parameter/shop/mail`,
    });
    expect(new Set(calls)).toEqual(new Set(["secretsmanager:DescribeSecret", "ssm:DescribeParameters"]));
  });

  it("are found by an ARN that does not say whether the name begins with a slash", async () => {
    const [found] = await lookUp(`arn:aws:ssm:${REGION}:123456789012:parameter/plain`);
    expect(found).toMatchObject({ status: "found", valueFrom: "plain", version: "1" });
  });

  it("that cannot be used are told apart", async () => {
    const elsewhere = `arn:aws:ssm:eu-west-1:123456789012:parameter/plain`;
    const foreign = `arn:aws:ssm:${REGION}:210987654321:parameter/plain`;
    const looked = await lookUp(ABSENT, `${arn}::NONE`, `${arn}:::0c1d`, "ssm:/none", elsewhere, foreign);
    expect(looked.map((one) => (one.status === "missing" ? one.why : one))).toEqual([
      "there is no such secret",
      "it has no version NONE",
      "its version 0c1d is not there (any more)",
      "there is no such parameter",
      `it lies in eu-west-1, and the environment runs in ${REGION}`,
      expect.stringContaining("it is of account 210987654321"),
    ]);
    expect(calls).toContain("secretsmanager:ListSecretVersionIds");
  });

  it("that Shipway's role may not look at come with the statement to add, and more than fifty parameters with all pages", async () => {
    const denies = { handle: async () => ({ response: DENIED }) };
    const [secret, parameter] = await account({ requestHandler: denies as never }).lookUp([
      reference(ABSENT),
      reference("ssm:/shop/mail"),
    ]);
    expect(secret).toMatchObject({
      status: "denied",
      why: "Shipway's role may not call secretsmanager:DescribeSecret",
    });
    expect(secret).toHaveProperty("policy", JSON.stringify(statement("secretsmanager:DescribeSecret", ABSENT)));
    expect(parameter).toHaveProperty("policy", JSON.stringify(statement("ssm:DescribeParameters", "*")));
    const many = Array.from({ length: 60 }, (_, n) => `ssm:/many/${n}`);
    const found = await lookUp(...many, "ssm:plain");
    expect(found.map(({ status }) => status)).toEqual([...many.map(() => "missing"), "found"]);
  });
});

const statement = (Action: string, Resource: string) => ({ Effect: "Allow", Action, Resource });

/** As AWS answers with its JSON protocol. */
const DENIED = {
  statusCode: 400,
  headers: { "content-type": "application/x-amz-json-1.1" },
  body: new TextEncoder().encode('{"__type":"AccessDeniedException","Message":"no"}'),
};
