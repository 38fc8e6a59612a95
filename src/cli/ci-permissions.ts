import { bucketArn } from "../aws/calls.ts";
import type { BuildSettings, StepSettings } from "../spec/ci-settings.ts";
import { arnsIn, permissionsOn as on, TASKS } from "./aws-check.ts";
import type { Permission } from "./doctor-aws.ts";

/** What the apps' steps have below, and what builds have. */
export const STEPS = "shipway/";
export const BUILDS = "shipway/images/";

/** What CI does with Shipway's own credentials, on names such as it makes: a sample. `buildLog`: the project's log group, where it is not the usual one. Pure. */
export function ciPermissions(
  { steps, images }: { steps: StepSettings | undefined; images: BuildSettings | undefined },
  account: string,
  buildLog?: string,
): Permission[] {
  return [
    ...(steps ? onBucket(steps, `${STEPS}doctor/ci/`) : []),
    ...(steps ? stepPermissions(steps, account) : []),
    ...(images ? onBucket(images, `${BUILDS}doctor/`) : []),
    ...(images ? buildPermissions(images, account, buildLog) : []),
  ];
}

function onBucket({ region, workBucket }: { region: string; workBucket: string }, prefix: string): Permission[] {
  const objects = ["PutObject", "GetObject", "DeleteObject", "AbortMultipartUpload"].map((action) => `s3:${action}`);
  return [
    ...on(bucketArn(region, `${workBucket}/${prefix}doctor`), {}, ...objects),
    ...on(bucketArn(region, workBucket), { "s3:prefix": prefix }, "s3:ListBucket"),
  ];
}

function stepPermissions({ region, cluster, executionRole, stepRole }: StepSettings, account: string): Permission[] {
  const at = arnsIn(region, account);
  const tags = { "aws:RequestTag/shipway:install": "doctor", "aws:ResourceTag/shipway:install": "doctor" };
  const inCluster = { ...tags, "ecs:cluster": at("ecs", `cluster/${cluster}`) };
  const passed = { "iam:PassedToService": TASKS };
  const definition = at("ecs", "task-definition/shipway-doctor_doctor__ci_doctor:1");
  const secret = at("secretsmanager", "secret:shipway/doctor/doctor/_ci/run/1/step/values");
  return [
    ...on(definition, inCluster, "ecs:RegisterTaskDefinition", "ecs:RunTask", "ecs:DeleteTaskDefinitions"),
    ...on(at("ecs", `task/${cluster}/0123456789abcdef`), inCluster, "ecs:StopTask", "ecs:DescribeTasks"),
    ...on(at("logs", "log-group:/shipway/doctor/doctor/_ci"), tags, "logs:CreateLogGroup", "logs:GetLogEvents"),
    ...on(secret, tags, "secretsmanager:CreateSecret", "secretsmanager:DeleteSecret"),
    ...on(executionRole, passed, "iam:PassRole"),
    ...(stepRole === undefined ? [] : on(stepRole, passed, "iam:PassRole")),
  ];
}

function buildPermissions(
  { region, buildProject }: BuildSettings,
  account: string,
  buildLog = `/aws/codebuild/${buildProject}`,
): Permission[] {
  const at = arnsIn(region, account);
  const calls = ["StartBuild", "StopBuild", "BatchGetBuilds", "ListBuildsForProject"];
  return [
    ...on(at("codebuild", `project/${buildProject}`), {}, ...calls.map((call) => `codebuild:${call}`)),
    ...on(at("logs", `log-group:${buildLog}:log-stream:doctor`), {}, "logs:GetLogEvents"),
    ...on(at("ecr", "repository/shipway/doctor"), {}, "ecr:DescribeRepositories"),
  ];
}
