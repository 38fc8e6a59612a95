import type { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import type { CodeBuild } from "@aws-sdk/client-codebuild";
import { toAwsError } from "../../../aws/aws-errors.ts";
import { type AwsOptions, clientConfig, GUARD_AT, newAwsGuard } from "../../../aws/calls.ts";

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
  const config = clientConfig(options);
  const guard = newAwsGuard(options);
  const clients = { codebuild: new CodeBuild(config), logs: new CloudWatchLogs(config) };
  clients.codebuild.middlewareStack.add(guard.of("codebuild"), GUARD_AT);
  clients.logs.middlewareStack.add(guard.of("logs"), GUARD_AT);
  return { ...clients, toError: (error) => toAwsError(error, guard.askedOf(error)) };
}
