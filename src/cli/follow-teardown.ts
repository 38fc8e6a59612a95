import { errorCode, toProblem } from "../shared/errors.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";
import { followWork } from "./follow-work.ts";

/**
 * Shows a teardown live on stderr until it ends: 0 when what was asked for is gone, 1 when it is not, 130 when the watcher left, which cancels nothing. With
 * `approve` a plan that comes to wait is approved by whoever watches, where they may.
 */
export function followTeardown(
  id: string,
  { after = 0, approve = false }: { after?: number; approve?: boolean },
  context: CommandContext,
): Promise<ExitCode> {
  const onLeave = [
    "You left; the work goes on, and so does the wait for an approval.",
    "  Watch it again: the same command once more.",
  ];
  return followWork({ deliveryId: id, after, onLeave }, context, async ({ kind, data }) => {
    if (kind === "infra.waiting" && typeof data.runId === "string") await atTheGate(data.runId, approve, context);
    if (kind === "teardown.ended") return data.status === "succeeded" ? 0 : 1;
    return undefined;
  });
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
