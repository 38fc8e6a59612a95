import { newNarrator } from "../events/narrate.ts";
import { colorLine } from "./color-line.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";

/** Shows an infra run live on stderr until it ends or waits: 0 when it ended as wanted or waits for an approval, 1 when not, 130 when the watcher left. */
export async function followInfra(
  started: { runId: string; deliveryId: string },
  context: CommandContext,
  after = 0,
  wanted: "succeeded" | "canceled" = "succeeded",
): Promise<ExitCode> {
  const client = await context.client();
  const narrator = newNarrator();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.interrupted, stop.signal]);
  try {
    for await (const event of client.followEvents({ after, deliveryId: started.deliveryId }, { signal })) {
      if (event.data.runId !== started.runId) continue;
      for (const line of narrator.tell(event)) context.say(colorLine(line, context.colors.err));
      if (event.kind === "infra.waiting") return 0;
      if (event.kind === "infra.ended") return event.data.status === wanted ? 0 : 1;
    }
  } finally {
    stop.abort();
  }
  context.say("");
  context.say("You left; the work goes on.");
  context.say(`  See it: \`shipway infra runs ${started.runId}\``);
  return 130;
}
