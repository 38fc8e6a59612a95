import { describe, expect, it } from "vitest";
import { readSources } from "./secret-sources.ts";

const ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf";
const OUTPUTS = {
  arn: ARN,
  arns: { db: ARN, mail: "ssm:/mail" },
  with_key: `${ARN}:a`,
  password: "hunter2",
  list: [ARN],
};

describe("readSources", () => {
  it("takes what is written, an output, an entry of one, and a key of that", () => {
    const sources = { A: "ssm:/a", B: { output: "arn" }, C: { output: "arns.db", key: "password" } };
    const { references, problems } = readSources(sources, OUTPUTS);
    expect(problems).toEqual([]);
    expect(references.map(({ name, from }) => `${name} ${from}`)).toEqual([
      "A ssm:/a",
      `B ${ARN}`,
      `C ${ARN}:password`,
    ]);
    expect(references[2]?.reference).toEqual({ kind: "secret", arn: ARN, region: "eu-central-1", key: "password" });
  });

  it("names all that is wrong at its place, and quotes no output", () => {
    const sources = {
      A: { output: "nothing" },
      B: { output: "password" },
      C: { output: "arns.mail", key: "x" },
      D: { output: "with_key", key: "x" },
      E: { output: "list" },
      F: { output: "arns.none" },
    };
    const { problems } = readSources(sources, OUTPUTS);
    expect(problems.map(({ path, message }) => `${path.join(".")} ${message}`)).toEqual([
      expect.stringMatching(/^A.output there is no Terraform output nothing: there are arn, arns, with_key/),
      "B.output the Terraform output password is no ARN of a secret or a parameter",
      "C.key only a secret has keys, and the Terraform output arns.mail is a parameter",
      "D.key the Terraform output with_key names a key already",
      "E.output the Terraform output list is no ARN of a secret or a parameter",
      expect.stringMatching(/^F.output there is no Terraform output arns.none/),
    ]);
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });
});
