import { newNarrator } from "../events/narrate.ts";
import type { ApiEvent } from "../http/schemas.ts";
import { colorLine } from "./color-line.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";

export type Work = {
  deliveryId: string;
  /** Events up to this one are not asked for. */
  after?: number;
  /** Of several pieces of work in one delivery. */
  isOurs?: (event: ApiEvent) => boolean;
  /** What is not shown is known nevertheless: later sentences count it. */
  isShown?: (event: ApiEvent) => boolean;
  /** How to see it again, for whoever leaves. */
  onLeave: string[];
};

/**
 * Shows work live on stderr until `conclude` makes an exit code of an event that was shown; 130 when the watcher left, which cancels nothing. A connection
 * that is lost is made again.
 */
export async function followWork(
  { deliveryId, after = 0, isOurs = () => true, isShown = () => true, onLeave }: Work,
  context: CommandContext,
  conclude: (event: ApiEvent) => ExitCode | undefined | Promise<ExitCode | undefined>,
): Promise<ExitCode> {
  const client = await context.client();
  const narrator = newNarrator();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.interrupted, stop.signal]);
  try {
    for await (const event of client.followEvents(
      { after, deliveryId },
      { signal, onReconnect: sayWhenLost(context) },
    )) {
      if (!isOurs(event)) continue;
      const lines = narrator.tell(event);
      if (!isShown(event)) continue;
      for (const line of lines) context.say(colorLine(line, context.colors.err));
      const code = await conclude(event);
      if (code !== undefined) return code;
    }
  } finally {
    stop.abort();
  }
  context.say("");
  for (const line of onLeave) context.say(line);
  return 130;
}

/** Says once that the connection was lost, not at each attempt. */
export const sayWhenLost =
  ({ say, colors }: CommandContext) =>
  (attempt: number): void => {
    if (attempt === 1) say(colors.err.dim("… the connection was lost; the work goes on, connecting again"));
  };
