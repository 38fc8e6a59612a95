/** A secret that lies in the AWS account of an environment. Shipway never reads it; ECS does, when it starts a task. */
export type SecretReference =
  | {
      kind: "secret";
      arn: string;
      region: string;
      /** Of a secret that is JSON: whose value the task gets. */
      key?: string;
      stage?: string;
      versionId?: string;
    }
  | {
      kind: "parameter";
      /** As Systems Manager may have it: an ARN does not say whether a name of one part begins with a slash. */
      names: string[];
      /** Undefined where only its name is given: then it is where the environment is. */
      region?: string;
      account?: string;
    };

const ARN = /^arn:aws[a-z-]*:([a-z0-9-]+):([a-z0-9-]+):(\d{12}):(.*)$/;
const FORMS =
  "write ssm:/shop/db-password for a parameter, or the ARN of a parameter or of a secret (…:secret:NAME-AbCdEf, with :KEY behind it for one value of its JSON)";

/** What a text names, or what is wrong with it. */
export function readSecretReference(text: string): SecretReference | { problem: string } {
  if (text.startsWith("ssm:")) return parameter(text.slice("ssm:".length), {});
  const [, service, region = "", account = "", resource = ""] = ARN.exec(text) ?? [];
  if (service === "ssm" && resource.startsWith("parameter/"))
    return parameter(resource.slice("parameter".length), { region, account });
  if (service === "secretsmanager" && resource.startsWith("secret:")) return secret(text, region);
  return { problem: FORMS };
}

function parameter(text: string, where: { region?: string; account?: string }): SecretReference | { problem: string } {
  const [path = "", ...selector] = text.split(":");
  if (selector.length > 0)
    return {
      problem: `ECS takes no version of a parameter, it reads the newest: leave :${selector.join(":")} out, or put the version into the name`,
    };
  // In an ARN a slash stands before the name, whether or not the name has one itself.
  const isOneWord = path.lastIndexOf("/") <= 0;
  const names = where.region !== undefined && isOneWord ? [path, path.slice(1)] : [path];
  if (/^\/?[\w.-]+$/.test(path) || /^(\/[\w.-]+){2,15}$/.test(path)) return { kind: "parameter", names, ...where };
  return {
    problem:
      "the name of a parameter has letters, digits and . - _, and begins with a slash where it has several parts",
  };
}

function secret(text: string, region: string): SecretReference | { problem: string } {
  const parts = text.split(":");
  const [name = "", key = "", stage = "", versionId = "", ...more] = parts.slice(6);
  const arn = parts.slice(0, 7).join(":");
  if (more.length > 0) return { problem: "behind the ARN of a secret stand at most KEY:STAGE:VERSION" };
  if (!/^[\w/+=.@-]+-[A-Za-z0-9]{6}$/.test(name))
    return {
      problem: "the ARN of a secret ends in a dash and six characters that Secrets Manager chose: take all of it",
    };
  if (stage !== "" && versionId !== "")
    return { problem: "ECS takes a stage or a version of a secret, not both: leave one empty" };
  return {
    kind: "secret",
    arn,
    region,
    ...(key !== "" && { key }),
    ...(stage !== "" && { stage }),
    ...(versionId !== "" && { versionId }),
  };
}
