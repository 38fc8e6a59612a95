import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";
import { followWork } from "./follow-work.ts";

/** Shows an infra run live on stderr until it ends or waits: 0 when it ended as wanted or waits for an approval, 1 when not, 130 when the watcher left. */
export function followInfra(
  { runId, deliveryId }: { runId: string; deliveryId: string },
  context: CommandContext,
  after = 0,
  wanted: "succeeded" | "canceled" = "succeeded",
): Promise<ExitCode> {
  const onLeave = ["You left; the work goes on.", `  See it: \`shipway infra runs ${runId}\``];
  const isOurs = ({ data }: { data: Record<string, unknown> }) => data.runId === runId;
  return followWork({ deliveryId, after, isOurs, onLeave }, context, ({ kind, data }) => {
    if (kind === "infra.waiting") return 0;
    if (kind === "infra.ended") return data.status === wanted ? 0 : 1;
    return undefined;
  });
}
