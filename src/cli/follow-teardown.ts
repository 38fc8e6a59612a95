import { newNarrator } from "../events/narrate.ts";
import { errorCode, toProblem } from "../shared/errors.ts";
import { colorLine } from "./color-line.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";

/**
 * Shows a teardown live on stderr until it ends: 0 when what was asked for is gone, 1 when it is not, 130 when the watcher left, which cancels nothing. With
 * `approve` a plan that comes to wait is approved by whoever watches, where they may.
 */
export async function followTeardown(
  id: string,
  { after = 0, approve = false }: { after?: number; approve?: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  const client = await context.client();
  const narrator = newNarrator();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.interrupted, stop.signal]);
  try {
    for await (const event of client.followEvents({ after, deliveryId: id }, { signal })) {
      for (const line of narrator.tell(event)) context.say(colorLine(line, context.colors.err));
      if (event.kind === "infra.waiting" && typeof event.data.runId === "string")
        await atTheGate(event.data.runId, approve, context);
      if (event.kind === "teardown.ended") return event.data.status === "succeeded" ? 0 : 1;
    }
  } finally {
    stop.abort();
  }
  context.say("");
  context.say("You left; the work goes on, and so does the wait for an approval.");
  context.say("  Watch it again: the same command once more.");
  return 130;
}

async function atTheGate(runId: string, approve: boolean, context: CommandContext): Promise<void> {
  const client = await context.client();
  // Of what is told again to somebody who came back, the gate may lie behind.
  if ((await client.getInfraRun(runId)).status !== "waiting") return;
  if (!approve) return context.say("  It goes on by itself then. Ctrl-C leaves, and loses nothing.");
  try {
    await client.approveInfraRun(runId);
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    const { message, hint } = toProblem(error);
    context.say(`${context.colors.err.yellow("!")} ${message}`);
    if (hint !== undefined) context.say(`  → ${hint}`);
    context.say("  It goes on by itself once somebody else has approved. Ctrl-C leaves, and loses nothing.");
  }
}
