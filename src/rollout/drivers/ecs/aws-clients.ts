import type { ApplicationAutoScaling } from "@aws-sdk/client-application-auto-scaling";
import type { CloudWatch } from "@aws-sdk/client-cloudwatch";
import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { ECR } from "@aws-sdk/client-ecr";
import type { ECS } from "@aws-sdk/client-ecs";
import type { ElasticLoadBalancingV2 } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { ResourceGroupsTaggingAPI } from "@aws-sdk/client-resource-groups-tagging-api";
import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import type { Asked } from "../../../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../../../aws/calls.ts";

export type AwsClients = {
  ecs: ECS;
  elb: ElasticLoadBalancingV2;
  logs: CloudWatchLogs;
  secrets: SecretsManager;
  tagging: ResourceGroupsTaggingAPI;
  /** Loaded by its first call: few environments have any of it. */
  scaling(): Promise<ApplicationAutoScaling>;
  /** Loaded when somebody asks for figures. */
  cloudwatch(): Promise<CloudWatch>;
  /** Loaded when somebody asks how things are. */
  ecr(): Promise<ECR>;
  /** What was being asked when this error came. */
  askedOf(error: unknown): Asked | undefined;
};

/** Clients of one Region. The SDK is loaded by the first call of this, not before: on Docker nobody needs it. */
export async function openAws(options: AwsOptions): Promise<AwsClients> {
  const [{ ECS }, { ElasticLoadBalancingV2 }, { CloudWatchLogs }, { SecretsManager }, { ResourceGroupsTaggingAPI }] =
    await Promise.all([
      import("@aws-sdk/client-ecs"),
      import("@aws-sdk/client-elastic-load-balancing-v2"),
      import("@aws-sdk/client-cloudwatch-logs"),
      import("@aws-sdk/client-secrets-manager"),
      import("@aws-sdk/client-resource-groups-tagging-api"),
    ]);
  const calls = newAwsCalls(options);
  let opening: Promise<ApplicationAutoScaling> | undefined;
  let openingCloudWatch: Promise<CloudWatch> | undefined;
  let openingEcr: Promise<ECR> | undefined;
  return {
    ecs: calls.open(ECS, "ecs"),
    elb: calls.open(ElasticLoadBalancingV2, "elasticloadbalancing"),
    logs: calls.open(CloudWatchLogs, "logs"),
    secrets: calls.open(SecretsManager, "secretsmanager"),
    tagging: calls.open(ResourceGroupsTaggingAPI, "tag"),
    scaling() {
      opening ??= import("@aws-sdk/client-application-auto-scaling").then(({ ApplicationAutoScaling }) =>
        calls.open(ApplicationAutoScaling, "application-autoscaling"),
      );
      return opening;
    },
    cloudwatch() {
      openingCloudWatch ??= import("@aws-sdk/client-cloudwatch").then(({ CloudWatch }) =>
        calls.open(CloudWatch, "cloudwatch"),
      );
      return openingCloudWatch;
    },
    ecr() {
      openingEcr ??= import("@aws-sdk/client-ecr").then(({ ECR }) => calls.open(ECR, "ecr"));
      return openingEcr;
    },
    askedOf: calls.askedOf,
  };
}
