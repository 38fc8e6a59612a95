import { newNarrator } from "../events/narrate.ts";
import { colorLine } from "./color-line.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";

/**
 * Shows a pipeline run live on stderr until it ends or pauses: 0 when it passed or pauses, 1 when not, 130 when the watcher left. What was before the event
 * `after` is read, since the end counts all steps, and not shown.
 */
export async function followPipeline(
  { pipelineId, deliveryId, after }: { pipelineId: string; deliveryId: string; after: number },
  context: CommandContext,
): Promise<ExitCode> {
  const client = await context.client();
  const narrator = newNarrator();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.interrupted, stop.signal]);
  try {
    for await (const event of client.followEvents({ after: 0, deliveryId }, { signal })) {
      if (event.data.pipelineId !== pipelineId) continue;
      const lines = narrator.tell(event);
      if (event.id <= after) continue;
      for (const line of lines) context.say(colorLine(line, context.colors.err));
      if (event.kind === "ci.pipelinePaused") return event.data.reason === undefined ? 0 : 1;
      if (event.kind === "ci.pipelineEnded") return event.data.status === "passed" ? 0 : 1;
    }
  } finally {
    stop.abort();
  }
  context.say("");
  context.say("You left; the work goes on.");
  context.say(`  See it: \`shipway pipelines ${pipelineId}\``);
  return 130;
}
