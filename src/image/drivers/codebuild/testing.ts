import { randomBytes } from "node:crypto";
import type { AwsOptions } from "../../../aws/calls.ts";
import { type AwsStage, hasMoto, newAwsStage } from "../../../rollout/drivers/ecs/testing.ts";
import { hasRegistry, newTestRegistry } from "../../registry/testing.ts";
import { type BuildClients, openBuildClients } from "./aws-clients.ts";
import type { CodeBuildTimes } from "./codebuild-builder.ts";

/** Where moto or the registry is missing, these tests are skipped, and say so. */
export const hasBuildStage = hasMoto && hasRegistry;

/** moto, on which `test/aws/builds.py` really performs what CodeBuild is asked for, and Debian's registry in ECR's place. */
export type BuildStage = {
  stage: AwsStage;
  registryEndpoint: string;
  settings: { region: string; workBucket: string; buildProject: string };
  aws: Omit<AwsOptions, "region">;
  clients: BuildClients;
  /** Another project, whose name tells how its builds behave. */
  newProject(name: string): Promise<void>;
  startedBuilds(): Promise<string[]>;
  cleanUp(): Promise<void>;
};

/** As fast as the stand-in; on AWS seconds are enough. */
export const FAST: CodeBuildTimes = {
  pollMs: 60,
  gapMs: 300,
  lagMs: 2_000,
  unseenMs: 4 * 60_000,
  staleMs: 60 * 60_000,
};

const ROLE = "arn:aws:iam::123456789012:role/shipway-build";

export async function newBuildStage(): Promise<BuildStage> {
  const registry = await newTestRegistry();
  const stage = await newAwsStage({ registry: registry.endpoint }).catch(async (error: unknown) => {
    await registry.cleanUp();
    throw error;
  });
  const aws = { endpoint: stage.endpoint, attempts: 2, speed: 1_000 };
  const { region } = stage.settings;
  const clients = await openBuildClients({ ...aws, region });
  const settings = { region, workBucket: `work-${randomBytes(4).toString("hex")}`, buildProject: "shipway-images" };
  const newProject = async (name: string) => {
    await clients.codebuild.createProject({
      name,
      serviceRole: ROLE,
      source: { type: "S3", location: `${settings.workBucket}/shipway/images/` },
      artifacts: { type: "NO_ARTIFACTS" },
      environment: {
        type: "LINUX_CONTAINER",
        computeType: "BUILD_GENERAL1_SMALL",
        image: "standard",
        privilegedMode: true,
      },
    });
  };
  const { S3 } = await import("@aws-sdk/client-s3");
  const s3 = new S3({ region, endpoint: stage.endpoint });
  await s3.createBucket({
    Bucket: settings.workBucket,
    CreateBucketConfiguration: { LocationConstraint: region as "eu-central-1" },
  });
  await newProject(settings.buildProject);
  return {
    stage,
    registryEndpoint: registry.endpoint,
    settings,
    aws,
    clients,
    newProject,
    startedBuilds: async () =>
      (await clients.codebuild.listBuildsForProject({ projectName: settings.buildProject })).ids ?? [],
    async cleanUp() {
      await stage.cleanUp();
      await registry.cleanUp();
    },
  };
}
