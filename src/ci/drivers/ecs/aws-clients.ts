import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { ECS } from "@aws-sdk/client-ecs";
import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { toAwsError } from "../../../aws/aws-errors.ts";
import { type AwsOptions, clientConfig, GUARD_AT, newAwsGuard } from "../../../aws/calls.ts";

export type StepAws = {
  ecs: ECS;
  logs: CloudWatchLogs;
  secrets: SecretsManager;
  /** An error of one of them in a public code. */
  toPublic(error: unknown): unknown;
};

/** The SDK is loaded by the first call of this, not before: steps on Docker do not need it. */
export async function openStepAws(options: AwsOptions): Promise<StepAws> {
  const [{ ECS }, { CloudWatchLogs }, { SecretsManager }] = await Promise.all([
    import("@aws-sdk/client-ecs"),
    import("@aws-sdk/client-cloudwatch-logs"),
    import("@aws-sdk/client-secrets-manager"),
  ]);
  const config = clientConfig(options);
  const guard = newAwsGuard(options);
  const clients = { ecs: new ECS(config), logs: new CloudWatchLogs(config), secrets: new SecretsManager(config) };
  clients.ecs.middlewareStack.add(guard.of("ecs"), GUARD_AT);
  clients.logs.middlewareStack.add(guard.of("logs"), GUARD_AT);
  clients.secrets.middlewareStack.add(guard.of("secretsmanager"), GUARD_AT);
  return { ...clients, toPublic: (error) => toAwsError(error, guard.askedOf(error)) };
}
