import type { AccountSecrets, LookedUp } from "../aws/account-secrets.ts";
import type { NamedReference } from "../environment/secret-sources.ts";
import type { EcsSettings } from "../rollout/runtime.ts";
import { lackingCheck, looked, permissionsOn } from "./aws-check.ts";
import type { Check } from "./doctor.ts";
import type { AwsFacts, Permission } from "./doctor-aws.ts";

/** Secrets of the account that shipway.yml names. `problems`: of outputs that do not have them. `unseen`: those whose outputs are not shown to anybody. */
export type SecretNeeds = { references: NamedReference[]; problems: string[]; unseen: string[] };

/** Whether they are there, and whether ECS may read them. Reads no value and never throws. */
export async function runSecretsDoctor(
  facts: Pick<AwsFacts, "lacking">,
  account: AccountSecrets,
  { references, problems, unseen }: SecretNeeds,
  { region, executionRole }: EcsSettings,
): Promise<Check[]> {
  let found: LookedUp[] = [];
  const seen = await looked("secrets", async () => {
    found = await account.lookUp(references.map(({ reference }) => reference));
    return checkThere({ references, problems, unseen }, found);
  });
  const readable = await looked(
    "secrets for tasks",
    async () => {
      const needed = found.flatMap((one) => permissionsFor(one, region));
      if (needed.length === 0) return undefined;
      const lacking = await facts.lacking(executionRole, needed);
      const all = `the execution role may read all ${references.length}`;
      return lackingCheck("secrets for tasks", "the execution role", lacking, all, "execution.json");
    },
    "not needed",
  );
  return [seen, readable].filter((check) => check !== undefined);
}

function checkThere({ references, problems, unseen }: SecretNeeds, found: LookedUp[]): Check {
  const name = "secrets";
  const all = references.map(({ name, from }, index) => ({ name, from, ...(found[index] ?? ABSENT) }));
  const bad = all.flatMap((one) => (one.status === "found" ? [] : [`${one.name}: ${one.why} (${one.from})`]));
  const policies = all.flatMap((one) => (one.status === "denied" ? [one.policy] : []));
  if (bad.length + problems.length > 0) {
    const allow =
      policies.length === 0 ? "" : ` Add to the policy of Shipway's role: ${[...new Set(policies)].join(", ")}.`;
    return {
      name,
      status: "fail",
      found: [...problems, ...bad].join("; "),
      fix: `Make them, or name others under \`secrets\` of the environment.${allow}`,
    };
  }
  const there = all.flatMap((one) => (one.status === "found" ? [`${one.name} (${one.from})`] : []));
  if (unseen.length === 0) return { name, status: "ok", found: there.join(", ") };
  return {
    name,
    status: "warn",
    found: [...there, `not tested: ${unseen.join(", ")}, whose output is sensitive`].join(", "),
    fix: "An ARN is no secret: without `sensitive` at the output it can be looked at here, too.",
  };
}

const ABSENT = { status: "missing" as const, why: "it was not looked at" };

/** What ECS calls for it when it starts a task (Amazon ECS developer guide, task execution IAM role). */
function permissionsFor(one: LookedUp, region: string): Permission[] {
  if (one.status !== "found") return [];
  const service = one.isPinned ? "secretsmanager" : "ssm";
  const action = one.isPinned ? "secretsmanager:GetSecretValue" : "ssm:GetParameters";
  const key = one.key?.startsWith("arn:") ? one.key : undefined;
  const through = { "kms:ViaService": `${service}.${region}.amazonaws.com` };
  return [
    ...permissionsOn(one.resource, {}, action),
    ...(key === undefined ? [] : permissionsOn(key, through, "kms:Decrypt")),
  ];
}
