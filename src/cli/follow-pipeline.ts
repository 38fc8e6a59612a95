import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";
import { followWork } from "./follow-work.ts";

/**
 * Shows a pipeline run live on stderr until it ends or pauses: 0 when it passed or pauses, 1 when not, 130 when the watcher left. What was before the event
 * `after` is read, since the end counts all steps, and not shown.
 */
export function followPipeline(
  { pipelineId, deliveryId, after }: { pipelineId: string; deliveryId: string; after: number },
  context: CommandContext,
): Promise<ExitCode> {
  const work = {
    deliveryId,
    isOurs: ({ data }: { data: Record<string, unknown> }) => data.pipelineId === pipelineId,
    isShown: ({ id }: { id: number }) => id > after,
    onLeave: ["You left; the work goes on.", `  See it: \`shipway pipelines ${pipelineId}\``],
  };
  return followWork(work, context, ({ kind, data }) => {
    if (kind === "ci.pipelinePaused") return data.reason === undefined ? 0 : 1;
    if (kind === "ci.pipelineEnded") return data.status === "passed" ? 0 : 1;
    return undefined;
  });
}
