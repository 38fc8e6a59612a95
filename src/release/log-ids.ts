/** Names of kept logs. They are part of the API (`/api/logs?id=`). */
export const stepLogId = (pipelineId: string, stepId: string): string => `${pipelineId}.step-${stepId}`;
export const buildLogId = (deliveryId: string, service: string): string => `${deliveryId}.build-${service}`;
export const taskRunLogId = (runId: string): string => `${runId}.output`;
export const deploymentLogId = (deploymentId: string, name: string): string =>
  `${deploymentId}.${name.replace(/[^A-Za-z0-9._-]/g, "-")}`;
