import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import type { SSM } from "@aws-sdk/client-ssm";
import type { SecretReference } from "../spec/secret-reference.ts";
import { kindOf, noneWithout, policyLine, toAwsError } from "./aws-errors.ts";
import { type AwsOptions, newAwsCalls, partitionOf } from "./calls.ts";

/** What is known of a secret of the account without its value. */
export type LookedUp =
  | {
      status: "found";
      /** As a task definition names it. ECS reads a secret in this version and a parameter in its newest. */
      valueFrom: string;
      version: string;
      isPinned: boolean;
      /** What a policy names. */
      resource: string;
      /** The KMS key of the account's own that it is encrypted with; undefined for AWS's. */
      key?: string;
    }
  | { status: "missing"; why: string }
  | { status: "denied"; why: string; policy: string };

export type AccountSecrets = {
  /** Each by itself, in their order; reads no value. @throws AWS_UNREACHABLE and its like, where none can be looked at */
  lookUp(references: SecretReference[]): Promise<LookedUp[]>;
};

type SecretNamed = SecretReference & { kind: "secret" };
type ParameterNamed = SecretReference & { kind: "parameter" };

/** Of the environment's Region, and of the account that its execution role is of. The SDK is loaded by the first look. */
export function openAccountSecrets({
  executionRole,
  ...options
}: AwsOptions & { executionRole: string }): AccountSecrets {
  const here = { region: options.region, account: executionRole.split(":")[4] ?? "" };
  let opening: ReturnType<typeof openClients> | undefined;
  return {
    async lookUp(references) {
      opening ??= openClients(options);
      const { secrets, ssm, askedOf } = await opening;
      const told = <T>(work: Promise<T>): Promise<T | (LookedUp & { status: "denied" })> =>
        work.catch((error: unknown) => {
          if (kindOf(error) !== "denied") throw toAwsError(error, askedOf(error));
          const asked = askedOf(error);
          return {
            status: "denied" as const,
            why: `Shipway's role may not call ${asked?.action}`,
            policy: policyLine(asked?.action ?? "", asked?.subject),
          };
        });
      const parameters = references.filter(isParameter);
      const versions = await told(findParameters(ssm, [...new Set(parameters.flatMap(({ names }) => names))]));
      return Promise.all(
        references.map(async (reference): Promise<LookedUp> => {
          const elsewhere = elsewhereThan(here, reference);
          if (elsewhere !== undefined) return { status: "missing", why: elsewhere };
          if (!isParameter(reference)) return told(lookUpSecret(secrets, reference));
          return versions instanceof Map ? parameterOf(versions, reference, here) : versions;
        }),
      );
    },
  };
}

const isParameter = (reference: SecretReference): reference is ParameterNamed => reference.kind === "parameter";

function elsewhereThan({ region, account }: { region: string; account: string }, reference: SecretReference) {
  if (reference.region !== undefined && reference.region !== region)
    return `it lies in ${reference.region}, and the environment runs in ${region}`;
  if (reference.kind === "parameter" && reference.account !== undefined && reference.account !== account)
    return `it is of account ${reference.account}, and the environment runs in ${account}: parameters of others cannot be looked at`;
  return undefined;
}

async function lookUpSecret(secrets: SecretsManager, reference: SecretNamed): Promise<LookedUp> {
  const { arn, key, stage = "AWSCURRENT", versionId } = reference;
  const found = await secrets.describeSecret({ SecretId: arn }).catch(noneWithout("ResourceNotFound"));
  if (found === undefined) return { status: "missing", why: "there is no such secret" };
  if (found.DeletedDate !== undefined) return { status: "missing", why: "it was deleted, and waits for its end" };
  const versions = found.VersionIdsToStages ?? {};
  const version = versionId ?? Object.keys(versions).find((id) => versions[id]?.includes(stage));
  if (version === undefined)
    return { status: "missing", why: stage === "AWSCURRENT" ? "it has no value yet" : `it has no version ${stage}` };
  // Versions without a stage are not among those; they can still be read until AWS removes them.
  if (versions[version] === undefined && !(await hasVersion(secrets, arn, version)))
    return { status: "missing", why: `its version ${version} is not there (any more)` };
  return {
    status: "found",
    valueFrom: `${found.ARN ?? arn}:${key ?? ""}::${version}`,
    version,
    isPinned: true,
    resource: found.ARN ?? arn,
    ...(found.KmsKeyId !== undefined && { key: found.KmsKeyId }),
  };
}

async function hasVersion(secrets: SecretsManager, arn: string, version: string): Promise<boolean> {
  let NextToken: string | undefined;
  do {
    const page = await secrets.listSecretVersionIds({ SecretId: arn, IncludeDeprecated: true, NextToken });
    if (page.Versions?.some(({ VersionId }) => VersionId === version)) return true;
    // An emulator gives an empty one.
    NextToken = page.NextToken || undefined;
  } while (NextToken !== undefined);
  return false;
}

type Parameter = { name: string; version: number; key: string | undefined };

/** At most 50 values a filter (AWS Systems Manager API, ParameterStringFilter). */
const NAMES_A_CALL = 50;

/** DescribeParameters, since GetParameterHistory would give values, those of plain parameters in clear. */
async function findParameters(ssm: SSM, names: string[]): Promise<Map<string, Parameter>> {
  const found = new Map<string, Parameter>();
  for (let at = 0; at < names.length; at += NAMES_A_CALL) {
    const ParameterFilters = [{ Key: "Name", Option: "Equals", Values: names.slice(at, at + NAMES_A_CALL) }];
    let NextToken: string | undefined;
    do {
      // Pages may be empty although more follow (AWS Systems Manager API, DescribeParameters).
      const page = await ssm.describeParameters({ ParameterFilters, MaxResults: NAMES_A_CALL, NextToken });
      for (const { Name = "", Version = 0, KeyId } of page.Parameters ?? [])
        found.set(Name, { name: Name, version: Version, key: KeyId });
      NextToken = page.NextToken;
    } while (NextToken !== undefined);
  }
  return found;
}

/** What a SecureString is encrypted with when nobody chose a key; every role of the account may use it through Systems Manager. */
const DEFAULT_KEY = "alias/aws/ssm";

function parameterOf(
  known: ReadonlyMap<string, Parameter>,
  { names }: ParameterNamed,
  { region, account }: { region: string; account: string },
): LookedUp {
  const found = names.map((name) => known.get(name)).find((one) => one !== undefined);
  if (found === undefined) return { status: "missing", why: "there is no such parameter" };
  const { name, version, key } = found;
  return {
    status: "found",
    // By its name, which ECS takes for the task's own Region; an ARN would not say whether it begins with a slash.
    valueFrom: name,
    version: String(version),
    isPinned: false,
    resource: `arn:${partitionOf(region)}:ssm:${region}:${account}:parameter/${name.replace(/^\//, "")}`,
    ...(key !== undefined && key !== DEFAULT_KEY && { key }),
  };
}

async function openClients(options: AwsOptions) {
  const [{ SecretsManager }, { SSM }] = await Promise.all([
    import("@aws-sdk/client-secrets-manager"),
    import("@aws-sdk/client-ssm"),
  ]);
  const calls = newAwsCalls(options);
  return {
    secrets: calls.open(SecretsManager, "secretsmanager"),
    ssm: calls.open(SSM, "ssm"),
    askedOf: calls.askedOf,
  };
}
