import { bucketArn } from "../aws/calls.ts";
import type { BuildSettings } from "../spec/ci-settings.ts";
import { arnsIn, checkRole, lackingCheck, looked, permissionsOn as on, roleNameOf } from "./aws-check.ts";
import { BUILDS } from "./ci-permissions.ts";
import type { Check } from "./doctor.ts";
import type { CiFacts, ProjectFacts } from "./doctor-ci.ts";

const CODEBUILD = "codebuild.amazonaws.com";
/** CodeBuild's machines by what their images are for; on those of Lambda there is no Docker (AWS CodeBuild API, ProjectEnvironment, `type`). */
const MACHINES = { x86_64: /^LINUX_(?!LAMBDA)/, arm64: /^ARM_(?!LAMBDA)/ };
const USUAL = { x86_64: "LINUX_CONTAINER", arm64: "ARM_CONTAINER" };

/** What image builds in CodeBuild rest on beside the bucket. */
export function buildChecks(
  facts: CiFacts,
  settings: BuildSettings,
  project: () => Promise<ProjectFacts | undefined>,
  account: string,
): Promise<Check | undefined>[] {
  return [
    looked("build project", async () => checkProject(settings, await project()), "not needed"),
    looked("build role", async () => checkBuildRole(facts, settings, await project(), account), "not needed"),
    looked("build log", async () => checkBuildLog(facts, await project()), "not needed"),
  ];
}

function checkProject({ buildProject, region, architecture }: BuildSettings, seen: ProjectFacts | undefined): Check {
  const name = "build project";
  const failed = (found: string, fix: string): Check => ({ name, status: "fail", found, fix });
  if (seen === undefined)
    return failed(
      `there is no CodeBuild project ${buildProject} in ${region}`,
      "Name one that is there under `aws: { buildProject }`, or apply the environment's Terraform: `shipway infra apply`.",
    );
  if (!MACHINES[architecture].test(seen.machine))
    return failed(
      `${buildProject} builds on ${seen.machine}, and the tasks are ${architecture}`,
      `Make it ${USUAL[architecture]} (\`build_architecture\` of the module), or write \`aws: { architecture }\` as it is.`,
    );
  if (!seen.privileged)
    return failed(
      `${buildProject} has no privileged mode, so no Docker Engine starts in its builds`,
      "Turn it on: Project, Environment, “Privileged” (`privileged_mode` of Terraform).",
    );
  const found = `${buildProject} builds on ${seen.machine}, ${seen.image}`;
  if (seen.isPublic)
    return {
      name,
      status: "warn",
      found: `${found}; everybody may read its builds and their logs`,
      fix: "Make the project private: `aws codebuild update-project-visibility --project-visibility PRIVATE`.",
    };
  if (!/^aws\/codebuild\/(amazonlinux|standard|ubuntu)/.test(seen.image))
    return {
      name,
      status: "warn",
      found,
      fix: "It is not one of AWS's own images: see that it has Docker with buildx, Python 3 and the AWS command line.",
    };
  return { name, status: "ok", found };
}

async function checkBuildRole(
  facts: CiFacts,
  { region, workBucket }: BuildSettings,
  project: ProjectFacts | undefined,
  account: string,
): Promise<Check | undefined> {
  if (project === undefined) return undefined;
  const name = "build role";
  const by = { service: CODEBUILD, who: "builds" };
  const checked = checkRole(name, project.role, await facts.role(roleNameOf(project.role)), by);
  if (checked.status !== "ok") return checked;
  const at = arnsIn(region, account);
  const lacking = await facts.lacking(project.role, [
    ...on(bucketArn(region, `${workBucket}/${BUILDS}doctor`), {}, "s3:GetObject"),
    ...on(bucketArn(region, workBucket), { "s3:prefix": `${BUILDS}doctor` }, "s3:ListBucket"),
    ...on("*", {}, "ecr:GetAuthorizationToken"),
    ...on(
      at("ecr", "repository/shipway/doctor"),
      {},
      ...[
        "BatchCheckLayerAvailability",
        "InitiateLayerUpload",
        "UploadLayerPart",
        "CompleteLayerUpload",
        "PutImage",
      ].map((action) => `ecr:${action}`),
    ),
    ...(project.logGroup === undefined
      ? []
      : on(
          at("logs", `log-group:${project.logGroup}:log-stream:doctor`),
          {},
          "logs:CreateLogStream",
          "logs:PutLogEvents",
        )),
  ]);
  const found = `${project.role} reads contexts, pushes images and writes the log`;
  return lackingCheck(name, project.role, lacking, found, "build.json");
}

/** How a build goes and what it made is read from its log. */
async function checkBuildLog(facts: CiFacts, project: ProjectFacts | undefined): Promise<Check | undefined> {
  if (project === undefined) return undefined;
  const name = "build log";
  if (project.logGroup === undefined)
    return {
      name,
      status: "fail",
      found: "builds write no log to CloudWatch, which is how Shipway follows them",
      fix: "Turn CloudWatch logs on in the project (`logs_config` of Terraform).",
    };
  if (await facts.hasLogGroup(project.logGroup)) return { name, status: "ok", found: project.logGroup };
  return {
    name,
    status: "warn",
    found: `there is no log group ${project.logGroup}`,
    fix: "CodeBuild makes it with the first build where its role may (`logs:CreateLogGroup`), and then for good: better make it, with a retention.",
  };
}
