import type { ApplicationAutoScaling } from "@aws-sdk/client-application-auto-scaling";
import type { CloudWatch } from "@aws-sdk/client-cloudwatch";
import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { ECS } from "@aws-sdk/client-ecs";
import type { ElasticLoadBalancingV2 } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { ResourceGroupsTaggingAPI } from "@aws-sdk/client-resource-groups-tagging-api";
import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import type { Asked } from "../../../aws/aws-errors.ts";
import { type AwsOptions, clientConfig, GUARD_AT, newAwsGuard } from "../../../aws/calls.ts";

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
  const config = clientConfig(options);
  const guard = newAwsGuard(options);
  const clients = {
    ecs: new ECS(config),
    elb: new ElasticLoadBalancingV2(config),
    logs: new CloudWatchLogs(config),
    secrets: new SecretsManager(config),
    tagging: new ResourceGroupsTaggingAPI(config),
  };
  clients.ecs.middlewareStack.add(guard.of("ecs"), GUARD_AT);
  clients.elb.middlewareStack.add(guard.of("elasticloadbalancing"), GUARD_AT);
  clients.logs.middlewareStack.add(guard.of("logs"), GUARD_AT);
  clients.secrets.middlewareStack.add(guard.of("secretsmanager"), GUARD_AT);
  // Policies call it by this name.
  clients.tagging.middlewareStack.add(guard.of("tag"), GUARD_AT);
  let opening: Promise<ApplicationAutoScaling> | undefined;
  const scaling = () => {
    opening ??= import("@aws-sdk/client-application-auto-scaling").then(({ ApplicationAutoScaling }) => {
      const made = new ApplicationAutoScaling(config);
      made.middlewareStack.add(guard.of("application-autoscaling"), GUARD_AT);
      return made;
    });
    return opening;
  };
  let openingCloudWatch: Promise<CloudWatch> | undefined;
  const cloudwatch = () => {
    openingCloudWatch ??= import("@aws-sdk/client-cloudwatch").then(({ CloudWatch }) => {
      const made = new CloudWatch(config);
      made.middlewareStack.add(guard.of("cloudwatch"), GUARD_AT);
      return made;
    });
    return openingCloudWatch;
  };
  return { ...clients, scaling, cloudwatch, askedOf: guard.askedOf };
}
