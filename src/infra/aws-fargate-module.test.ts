import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { S3_ACTIONS } from "../aws/calls.ts";
import { runProgram } from "../shared/run-program.ts";

const MODULE = join(import.meta.dirname, "../../terraform/aws-fargate");
const DRIVER = join(import.meta.dirname, "../rollout/drivers/ecs");

type Statement = {
  Sid: string;
  Effect: string;
  Action: string | string[];
  Resource?: string | string[];
  Principal?: object;
  Condition?: Record<string, Record<string, string | string[]>>;
};
type Policy = { Version: string; Statement: Statement[] };
type Document = { name: string; text: string; policy: Policy };

/** AWS's own policies limit it to sessions (AWS Systems Manager user guide, quickstart end user policies); cfn-lint 1.51 knows an older state of it. */
const LIMITED_SINCE = new Set(["ssmmessages:OpenDataChannel"]);

const statementsOfDriver = (all: Document[]): Statement[] =>
  all.filter(({ name }) => name.startsWith("driver-")).flatMap(({ policy }) => policy.Statement);
const actionsOfDriver = (all: Document[]): string[] => statementsOfDriver(all).flatMap(({ Action }) => list(Action));

const read = (file: string) => readFile(join(MODULE, file), "utf8");
const list = (one: string | string[] | undefined): string[] => (one === undefined ? [] : [one].flat());
const isEverywhere = ({ Resource }: Statement) => list(Resource).includes("*");

/** The longest that each value can be, in the partition with the longest name: limits hold for all. */
const LONGEST = {
  partition: "aws-us-gov",
  region: "ap-southeast-1",
  account: "123456789012",
  name: `shipway-${"x".repeat(12)}`,
  log_bucket: `shipway-${"x".repeat(12)}-logs-123456789012-ap-southeast-1`,
  state_bucket: `shipway-${"x".repeat(12)}-state-123456789012-ap-southeast-1`,
  app_secrets: `arn:aws-us-gov:secretsmanager:ap-southeast-1:123456789012:secret:shipway-${"x".repeat(12)}-backing/*`,
  app_parameters: "arn:aws-us-gov:ssm:ap-southeast-1:123456789012:parameter/shipway/*",
  app_secret_keys: `arn:aws-us-gov:kms:ap-southeast-1:123456789012:key/${"0".repeat(36)}`,
};
const fill = (text: string, values: Record<string, string>) =>
  text.replace(/\$\{(\w+)\}/g, (_all, name: string) => values[name] ?? `[no value ${name}]`);

let policies: Document[];
let readme: string;
beforeAll(async () => {
  const names = (await readdir(join(MODULE, "policies"))).sort();
  policies = await Promise.all(
    names.map(async (name) => {
      const text = await read(`policies/${name}`);
      return { name, text, policy: JSON.parse(text) as Policy };
    }),
  );
  readme = await read("README.md");
});

describe("the README of terraform/aws-fargate", () => {
  it("lists every input with its default and its description as the code has them", async () => {
    const rows = blocks(await read("variables.tf"), "variable").map(
      ({ name, body }) => `| \`${name}\` | \`${/^ {2}default += (.*)$/m.exec(body)?.[1]}\` | ${describedAs(body)} |`,
    );
    expect(rows.length).toBeGreaterThan(20);
    expect(table(readme, "## Inputs")).toEqual(rows);
  });

  it("lists every output with its description as the code has them", async () => {
    const rows = blocks(await read("outputs.tf"), "output").map(
      ({ name, body }) => `| \`${name}\` | ${describedAs(body)} |`,
    );
    expect(rows.length).toBeGreaterThan(15);
    expect(table(readme, "## Outputs")).toEqual(rows);
  });

  it("gives a reason for every statement that names no resource, and for no other", () => {
    const open = policies.flatMap(({ name, policy }) =>
      policy.Statement.filter(isEverywhere).map(({ Sid, Action }) => `${name} ${Sid}: ${list(Action).join(", ")}`),
    );
    const explained = table(readme, "### Statements without a resource").map((row) => {
      const [, file = "", sid = "", actions = "", reason = ""] = row.split("|").map((cell) => cell.trim());
      expect(reason).not.toBe("");
      return `${file} ${sid}: ${actions}`.replaceAll("`", "");
    });
    expect(explained).toEqual(open);
  });
});

describe("the policies of terraform/aws-fargate", () => {
  it("have no placeholder that the module does not fill", async () => {
    const filled = [
      ...(/policy_values = \{([\s\S]*?)^ {2}\}/m.exec(await read("main.tf"))?.[1] ?? "").matchAll(/^ +(\w+) +=/gm),
    ];
    expect(filled.map(([, name]) => name).sort()).toEqual(Object.keys(LONGEST).sort());
    for (const { name, text } of policies) expect(fill(text, LONGEST), name).not.toContain("[no value");
  });

  it("stay within what IAM takes, whatever the name and the region", () => {
    // A managed policy has at most 6144 characters, blanks not counted (IAM user guide, IAM and STS quotas); inline ones and trust policies are far shorter here.
    for (const { name, text } of policies) {
      expect(fill(text, LONGEST).replace(/\s/g, "").length, name).toBeLessThanOrEqual(
        name.startsWith("trust-") ? 2048 : 6144,
      );
    }
    expect(LONGEST.state_bucket.length).toBeLessThanOrEqual(63);
  });

  it("allow named actions only, each statement under a name of its own", () => {
    for (const { name, policy } of policies) {
      expect(policy.Version).toBe("2012-10-17");
      expect(new Set(policy.Statement.map(({ Sid }) => Sid)).size, name).toBe(policy.Statement.length);
      for (const { Sid, Effect, Action } of policy.Statement) {
        expect(Effect, Sid).toBe("Allow");
        expect(
          list(Action).filter((action) => !/^[a-z0-9-]+:[A-Z][A-Za-z]+$/.test(action)),
          Sid,
        ).toEqual([]);
      }
    }
  });

  it("let the driver write secrets and never read one, and hand over only the roles made for tasks", () => {
    const driver = statementsOfDriver(policies);
    const actions = actionsOfDriver(policies);
    expect(actions).toContain("secretsmanager:PutSecretValue");
    expect(actions.filter((action) => /GetSecretValue|BatchGetSecret|ssm:Get|kms:/.test(action))).toEqual([]);
    expect(new Set(actions.filter((action) => action.startsWith("iam:")))).toEqual(new Set(["iam:PassRole"]));
    const passes = driver.filter(({ Action }) => list(Action).includes("iam:PassRole"));
    for (const { Condition } of passes)
      expect(Condition).toEqual({ StringEquals: { "iam:PassedToService": "ecs-tasks.amazonaws.com" } });
    const passed = passes.flatMap(({ Resource }) => list(Resource));
    expect(passed.filter((arn) => !/:role\/\$\{name\}-(exec|task|task-\*|step)$/.test(arn))).toEqual([]);
  });

  it("let the driver see which versions of the account's secrets there are, by every call it makes for that", async () => {
    const text = await readFile(join(import.meta.dirname, "../aws/account-secrets.ts"), "utf8");
    const made = [...text.matchAll(/\b(secrets|ssm)\.([a-z]\w+)\(/g)].map(
      ([, client = "", call = ""]) =>
        `${client === "ssm" ? "ssm" : "secretsmanager"}:${call.slice(0, 1).toUpperCase()}${call.slice(1)}`,
    );
    const looks = statementsOfDriver(policies).filter(({ Sid }) => /^(Secrets|Parameters)Versions$/.test(Sid));
    expect(new Set(made)).toEqual(new Set(looks.flatMap(({ Action }) => list(Action))));
  });

  it.skipIf(!existsSync(DRIVER))("allow every call that the ecs driver makes", async () => {
    const services: Record<string, string> = {
      ecs: "ecs",
      elb: "elasticloadbalancing",
      logs: "logs",
      secrets: "secretsmanager",
      cloudwatch: "cloudwatch",
    };
    const made = new Set<string>();
    for (const file of await readdir(DRIVER, { recursive: true })) {
      if (!file.endsWith(".ts") || /(\.test|testing)\.ts$/.test(file)) continue;
      for (const [, client = "", call = ""] of (await readFile(join(DRIVER, file), "utf8")).matchAll(
        /\b(?:aws\.)?(ecs|elb|logs|secrets|cloudwatch)\s*\.([a-z]\w+)\(/g,
      )) {
        made.add(`${services[client]}:${call.slice(0, 1).toUpperCase()}${call.slice(1)}`);
      }
    }
    const allowed = new Set(actionsOfDriver(policies));
    expect(made.size).toBeGreaterThan(20);
    expect([...made].filter((action) => !allowed.has(action))).toEqual([]);
  });

  it("allow every call that steps on Fargate and what they share with builds make", async () => {
    const services: Record<string, string> = { ecs: "ecs", logs: "logs", secrets: "secretsmanager", s3: "s3" };
    const made = new Set<string>();
    for (const file of ["ci/drivers/ecs/account.ts", "aws/bucket.ts"]) {
      const text = await readFile(join(import.meta.dirname, "..", file), "utf8");
      for (const [, client = "", call = ""] of text.matchAll(/\b(?:aws\.)?(ecs|logs|secrets|s3)\s*\.([a-z]\w+)\(/g)) {
        const command = `${call.slice(0, 1).toUpperCase()}${call.slice(1)}`;
        made.add(`${services[client]}:${client === "s3" ? (S3_ACTIONS[command] ?? command) : command}`);
      }
    }
    const allowed = new Set(actionsOfDriver(policies));
    expect(made.size).toBeGreaterThan(20);
    expect([...made].filter((action) => !allowed.has(action))).toEqual([]);
  });

  it("let nothing be made without Shipway's tag, where only a tag tells ours from others'", () => {
    const statements = policies.flatMap(({ policy }) => policy.Statement);
    const conditionOf = (action: string) =>
      statements.filter(({ Action }) => list(Action).includes(action)).map(({ Condition }) => Condition?.Null);
    const made = { "aws:RequestTag/shipway:install": "false" };
    const ours = { "aws:ResourceTag/shipway:install": "false" };
    for (const action of ["ecs:RegisterTaskDefinition", "ecs:CreateService", "ecs:RunTask"])
      expect(conditionOf(action), action).toEqual([made]);
    for (const action of ["CreateTargetGroup", "CreateRule"])
      expect(conditionOf(`elasticloadbalancing:${action}`), action).toEqual([made]);
    for (const action of ["ecs:UpdateService", "ecs:DeleteService", "ecs:DeleteTaskDefinitions"])
      expect(conditionOf(action), action).toEqual([ours]);
    for (const action of ["ModifyRule", "DeleteRule", "ModifyTargetGroup", "DeleteTargetGroup"])
      expect(conditionOf(`elasticloadbalancing:${action}`), action).toEqual([ours]);
  });
});

/** cfn-lint brings AWS's own list of actions and of the resources that each can be limited to. */
const hasLint = spawnSync("cfn-lint", ["--version"], { stdio: "ignore" }).status === 0;

describe.skipIf(!hasLint)("the policies of terraform/aws-fargate, to somebody else's eyes (cfn-lint)", () => {
  const values = { ...LONGEST, partition: "aws" };

  it("name actions that exist, and resources that fit them", async () => {
    const templates = policies.map(({ name, text, policy }) => {
      const document = JSON.parse(fill(text, values)) as Policy;
      const isTrust = policy.Statement.every(({ Principal }) => Principal !== undefined);
      return {
        name,
        resource: isTrust
          ? { Type: "AWS::IAM::Role", Properties: { AssumeRolePolicyDocument: document } }
          : { Type: "AWS::IAM::ManagedPolicy", Properties: { PolicyDocument: document } },
      };
    });
    const wrong = {
      Statement: [
        {
          Sid: "Wrong",
          Effect: "Allow",
          Action: ["ecs:RunTusk", "ecs:RunTask"],
          Resource: "arn:aws:logs:eu-central-1:123456789012:log-group:x",
        },
      ],
    };
    const found = await lint([
      ...templates,
      {
        name: "wrong",
        resource: {
          Type: "AWS::IAM::ManagedPolicy",
          Properties: { PolicyDocument: { Version: "2012-10-17", ...wrong } },
        },
      },
    ]);
    // The last one shows that the lint would have spoken.
    expect(found).toEqual(["wrong I3510", "wrong W3037"]);
  });

  it("leave a resource open only where AWS knows none or the cluster is asked for, and name none where it must be open", async () => {
    const typesOf = await resourceTypes();
    const narrower: string[] = [];
    const tooNarrow: string[] = [];
    for (const { name, policy } of policies.filter(({ name }) => !name.startsWith("trust-"))) {
      for (const statement of policy.Statement) {
        const isOfCluster = statement.Condition?.ArnEquals?.["ecs:cluster"] !== undefined;
        for (const action of list(statement.Action)) {
          const hasType = typesOf(action);
          if (isEverywhere(statement) && hasType && !isOfCluster) narrower.push(`${name} ${action}`);
          if (!isEverywhere(statement) && !hasType && !LIMITED_SINCE.has(action)) tooNarrow.push(`${name} ${action}`);
        }
      }
    }
    expect({ narrower, tooNarrow }).toEqual({ narrower: [], tooNarrow: [] });
  });

  async function lint(resources: { name: string; resource: object }[]): Promise<string[]> {
    const dir = await mkdtemp(join(tmpdir(), "shipway-policies-"));
    try {
      const names = new Map<string, string>();
      for (const [index, { name, resource }] of resources.entries()) {
        const file = join(dir, `${index}.json`);
        names.set(file, name);
        await writeFile(file, JSON.stringify({ Resources: { Checked: resource } }));
      }
      const { stdout } = spawnSync(
        "cfn-lint",
        ["--include-checks", "I", "--format", "json", "--template", ...names.keys()],
        {
          encoding: "utf8",
        },
      );
      const problems = JSON.parse(stdout) as { Filename: string; Rule: { Id: string } }[];
      return problems.map(({ Filename, Rule }) => `${names.get(Filename)} ${Rule.Id}`).sort();
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  async function resourceTypes(): Promise<(action: string) => boolean> {
    const script =
      "import cfnlint, os; print(os.path.join(os.path.dirname(cfnlint.__file__), 'data/AdditionalSpecs/Policies.json'))";
    const { stdout } = await runProgram(["python3", "-c", script]);
    const known = JSON.parse(await readFile(stdout.trim(), "utf8")) as Record<
      string,
      { Actions: Record<string, { Resources?: string[] } | undefined> }
    >;
    return (action) => {
      const [service = "", name = ""] = action.split(":");
      const actions = known[service]?.Actions;
      if (actions === undefined || !(name in actions || name.toLowerCase() in actions))
        throw new Error(`cfn-lint does not know ${action}`);
      return ((actions[name] ?? actions[name.toLowerCase()])?.Resources ?? []).length > 0;
    };
  }
});

function blocks(text: string, kind: "variable" | "output"): { name: string; body: string }[] {
  return [...text.matchAll(new RegExp(`^${kind} "(\\w+)" \\{\\n([\\s\\S]*?)^\\}`, "gm"))].map(
    ([, name = "", body = ""]) => ({ name, body }),
  );
}

const describedAs = (body: string): string =>
  JSON.parse(/^ {2}description += (".*")$/m.exec(body)?.[1] ?? '"(none)"') as string;

/** The rows of the first table below a heading, without its head. */
function table(text: string, heading: string): string[] {
  const after = text.split(`\n${heading}\n`)[1] ?? "";
  const lines = after.split("\n");
  const start = lines.findIndex((line) => line.startsWith("|"));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith("|"));
  return lines.slice(start + 2, end === -1 ? undefined : end);
}
