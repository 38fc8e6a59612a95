import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { ECS } from "@aws-sdk/client-ecs";
import type { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { toAwsError } from "../../../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../../../aws/calls.ts";

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
  const calls = newAwsCalls(options);
  return {
    ecs: calls.open(ECS, "ecs"),
    logs: calls.open(CloudWatchLogs, "logs"),
    secrets: calls.open(SecretsManager, "secretsmanager"),
    toPublic: (error) => toAwsError(error, calls.askedOf(error)),
  };
}
