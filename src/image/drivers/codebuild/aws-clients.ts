import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { CodeBuild } from "@aws-sdk/client-codebuild";
import { toAwsError } from "../../../aws/aws-errors.ts";
import { type AwsOptions, newAwsCalls } from "../../../aws/calls.ts";

export type BuildClients = {
  codebuild: CodeBuild;
  logs: CloudWatchLogs;
  /** An error of a call of theirs in public codes. */
  toError(error: unknown): unknown;
};

/** The SDK is loaded by the first call of this, not before. */
export async function openBuildClients(options: AwsOptions): Promise<BuildClients> {
  const [{ CodeBuild }, { CloudWatchLogs }] = await Promise.all([
    import("@aws-sdk/client-codebuild"),
    import("@aws-sdk/client-cloudwatch-logs"),
  ]);
  const calls = newAwsCalls(options);
  return {
    codebuild: calls.open(CodeBuild, "codebuild"),
    logs: calls.open(CloudWatchLogs, "logs"),
    toError: (error) => toAwsError(error, calls.askedOf(error)),
  };
}
