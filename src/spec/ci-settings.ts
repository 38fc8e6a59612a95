import type { z } from "zod";
import { fail } from "../shared/errors.ts";
import { type AppSpec, AwsBuildSettings, AwsStepSettings } from "./app-spec.ts";
import { resolveAws } from "./resolve-aws.ts";
import { resolveEnvironment } from "./resolve-environment.ts";

/** What a driver for steps on Fargate has to know of an AWS account. Plain JSON, without secrets. */
export type StepSettings = Omit<z.infer<typeof AwsStepSettings>, "stepSecurityGroups"> & {
  architecture: "x86_64" | "arm64";
  /** Disk of each task; Fargate gives 20 for nothing. */
  storageGiB: number;
  logRetentionDays: number;
};

/** What a driver for builds on CodeBuild has to know. Plain JSON, without secrets. */
export type BuildSettings = z.infer<typeof AwsBuildSettings> & { architecture: "x86_64" | "arm64" };

/** Where an app's steps run and its images are built. */
export type CiSettings = {
  steps: { kind: "docker" } | { kind: "ecs"; settings: StepSettings };
  images: { kind: "docker" } | { kind: "codebuild"; settings: BuildSettings };
};

/**
 * By the spec and by what the Terraform of `ci.environment` gives (values by name; undefined when it was never applied), before any release is there.
 * @throws AWS_SETTINGS_INVALID naming every setting that is missing or of another form, and what to do first where nothing was applied yet
 */
export function ciSettingsOf(spec: AppSpec, outputs: Record<string, unknown> | undefined): CiSettings {
  const { steps = "docker", images = "docker", environment = "" } = spec.ci ?? {};
  if (steps === "docker" && images === "docker") return { steps: { kind: "docker" }, images: { kind: "docker" } };
  const resolved = resolveEnvironment(spec, environment);
  const forSteps = steps === "docker" ? undefined : resolveAws(AwsStepSettings, resolved, outputs ?? {});
  const forImages = images === "docker" ? undefined : resolveAws(AwsBuildSettings, resolved, outputs ?? {});
  const problems = [forSteps, forImages].flatMap((one) => (one && "problems" in one ? one.problems : []));
  if (problems.length > 0) {
    const unapplied = resolved.infra !== undefined && outputs === undefined;
    throw unusable(spec, environment, [...new Set(problems)], unapplied);
  }
  const architecture = resolved.aws?.architecture ?? "x86_64";
  const [storageGiB, logRetentionDays] = [resolved.aws?.storage ?? 20, resolved.aws?.logDays ?? 30];
  return {
    steps:
      forSteps && "settings" in forSteps
        ? { kind: "ecs", settings: { ...stepSettings(forSteps.settings), architecture, storageGiB, logRetentionDays } }
        : { kind: "docker" },
    images:
      forImages && "settings" in forImages
        ? { kind: "codebuild", settings: { ...forImages.settings, architecture } }
        : { kind: "docker" },
  };
}

function stepSettings({ stepSecurityGroups, ...settings }: z.infer<typeof AwsStepSettings>) {
  return { ...settings, securityGroups: stepSecurityGroups ?? settings.securityGroups };
}

function unusable({ app, ci }: AppSpec, environment: string, problems: string[], unapplied: boolean) {
  const what = [ci?.steps === "ecs" ? "steps" : [], ci?.images === "codebuild" ? "image builds" : []].flat();
  const message = `The CI of ${app} cannot use the AWS account of ${environment} for its ${what.join(" and ")}: ${problems.join("; ")}.`;
  if (!unapplied) {
    return fail("AWS_SETTINGS_INVALID", {
      message,
      hint: `Write them under \`aws:\` of ${environment} in shipway.yml, or name the Terraform outputs they come from under \`aws: { outputs: … }\`. After a change of the Terraform code: \`shipway infra apply --app ${app} --env ${environment}\`.`,
    });
  }
  return fail("AWS_SETTINGS_INVALID", {
    message: `${message} Its Terraform, which gives them, was never applied.`,
    hint: `A first deployment would apply it, but CI comes before. So apply it once by hand: \`shipway infra apply --app ${app} --env ${environment}\` (--ref BRANCH for another branch than the default one), then run this again: \`shipway deploy --app ${app}\`.`,
  });
}
