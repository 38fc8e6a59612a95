import { bucketArn } from "../aws/calls.ts";
import type { StepSettings } from "../spec/ci-settings.ts";
import { arnsIn, checkRole, lackingCheck, looked, permissionsOn as on, roleNameOf } from "./aws-check.ts";
import type { Check } from "./doctor.ts";
import type { AwsFacts } from "./doctor-aws.ts";
import type { CiFacts } from "./doctor-ci.ts";

/** What pipeline steps on Fargate rest on beside the bucket. */
export function stepChecks(facts: CiFacts, settings: StepSettings, account: string): Promise<Check | undefined>[] {
  const { stepRole, securityGroups } = settings;
  return [
    looked(
      "step security groups",
      async () => checkStepGroups(securityGroups, await facts.securityGroups(securityGroups)),
      "not needed",
    ),
    looked("step start", async () => checkStepStart(facts, settings, account), "not needed"),
    ...(stepRole === undefined
      ? []
      : [looked("step role", async () => checkStepRole(facts, settings, stepRole), "not needed")]),
  ];
}

function checkStepGroups(wanted: string[], seen: Awaited<ReturnType<AwsFacts["securityGroups"]>>): Check {
  const name = "step security groups";
  const missing = wanted.filter((id) => !seen.some((one) => one.id === id));
  if (missing.length > 0)
    return {
      name,
      status: "fail",
      found: `${missing.join(", ")} not there`,
      fix: "Name those that are under `aws: { stepSecurityGroups }`.",
    };
  const found = wanted.join(", ");
  if (seen.every(({ out }) => out === "nowhere"))
    return {
      name,
      status: "fail",
      found: `${found} let nothing out at port 443`,
      fix: "Allow port 443 out of them: steps fetch images, checkouts and what their scripts ask for there.",
    };
  return { name, status: "ok", found };
}

/** What ECS does with the execution role before a step begins. */
async function checkStepStart(facts: CiFacts, { region, executionRole }: StepSettings, account: string) {
  const at = arnsIn(region, account);
  const stream = at("logs", "log-group:/shipway/doctor/doctor/_ci:log-stream:ci/step/0123456789abcdef");
  const lacking = await facts.lacking(executionRole, [
    ...on(stream, {}, "logs:CreateLogStream", "logs:PutLogEvents"),
    ...on(
      at("secretsmanager", "secret:shipway/doctor/doctor/_ci/run/1/step/values-AbCdEf"),
      {},
      "secretsmanager:GetSecretValue",
    ),
  ]);
  const found = `${executionRole} reads secrets of steps and writes their log`;
  return lackingCheck("step start", executionRole, lacking, found, "execution.json");
}

/**
 * Steps reach the bucket by addresses that are signed for them, so their role needs nothing of it; one that may read it gives every script the secrets
 * of every other.
 */
async function checkStepRole(facts: CiFacts, { region, workBucket }: StepSettings, role: string): Promise<Check> {
  const checked = checkRole("step role", role, await facts.role(roleNameOf(role)));
  if (checked.status !== "ok") return checked;
  const [read] = on(bucketArn(region, `${workBucket}/shipway/doctor/ci/runs/doctor`), {}, "s3:GetObject");
  const lacking = read === undefined ? [] : await facts.lacking(role, [read]);
  if (lacking.length > 0) return checked;
  return {
    ...checked,
    status: "warn",
    found: `${role} may read ${workBucket}, so any script can read what other steps are given, secrets among it`,
    fix: `Steps need nothing of the bucket: take \`s3:GetObject\` on ${workBucket}/shipway/* from the role.`,
  };
}
