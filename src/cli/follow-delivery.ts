import { z } from "zod";
import { newNarrator } from "../events/narrate.ts";
import type { ApiEvent, Started } from "../http/schemas.ts";
import type { ApiClient } from "./client.ts";
import { colorLine } from "./color-line.ts";
import type { CommandContext } from "./command.ts";
import type { ExitCode } from "./context.ts";
import { sayWhenLost } from "./follow-work.ts";

/** How long after the deployment's own end the delivery's end is waited for. */
const LAST_WORDS_MS = 3_000;

export type FollowedDelivery = { code: ExitCode; events: ApiEvent[] };

/**
 * Shows a delivery live on stderr until it ends or waits for an approval: 0 when what was asked for is live or waits, 1 when it is not, 130 when the watcher left. Leaving (Ctrl-C)
 * cancels nothing.
 */
export async function followDelivery(started: Started, context: CommandContext, after = 0): Promise<FollowedDelivery> {
  const client = await context.client();
  const stop = new AbortController();
  const signal = AbortSignal.any([context.interrupted, stop.signal]);
  const onReconnect = sayWhenLost(context);
  const narrator = newNarrator();
  let lastWords: NodeJS.Timeout | undefined;
  const events: ApiEvent[] = [];
  try {
    for await (const event of client.followEvents({ after, deliveryId: started.deliveryId }, { signal, onReconnect })) {
      events.push(event);
      for (const line of narrator.tell(event)) context.say(colorLine(line, context.colors.err));
      if (event.kind === "delivery.waiting" && (await isStillWaiting(event, client)))
        return { code: events.some(hasFailed) ? 1 : 0, events };
      if (event.kind === "delivery.ended") return { code: deliveryCode(event), events };
      const ours = event.kind === "deployment.ended" && event.data.deploymentId === started.deploymentId;
      if (ours) lastWords ??= setTimeout(() => stop.abort(), LAST_WORDS_MS);
    }
  } finally {
    clearTimeout(lastWords);
    stop.abort();
  }
  const ended = events.findLast((event) => event.kind === "deployment.ended");
  if (ended !== undefined && !context.interrupted.aborted) {
    return { code: ended.data.status === "succeeded" ? 0 : 1, events };
  }
  sayHowToReturn(started, events, context);
  return { code: 130, events };
}

/** What is read may be long past: it went on since, or was turned down. */
async function isStillWaiting(event: ApiEvent, client: ApiClient): Promise<boolean> {
  const { deployments } = Waiting.parse(event.data);
  const now = await Promise.all(deployments.map(({ deploymentId }) => client.getDeployment(deploymentId)));
  return now.some(({ status }) => status === "waiting");
}

const Waiting = z.object({ deployments: z.array(z.object({ deploymentId: z.string() })) });

const hasFailed = ({ kind, data }: ApiEvent) => kind === "deployment.ended" && data.status !== "succeeded";

function deliveryCode(event: ApiEvent): ExitCode {
  return event.data.status === "live" || event.data.status === "nothing-to-deploy" ? 0 : 1;
}

/** Ctrl-C leaves, it does not cancel: say where the work can be seen and how it can be stopped. */
function sayHowToReturn(started: Started, events: readonly ApiEvent[], context: CommandContext): void {
  const known = events.findLast((event) => typeof event.data.deploymentId === "string")?.data.deploymentId;
  const id = started.deploymentId ?? (typeof known === "string" ? known : undefined);
  context.say("");
  context.say("You left; the work goes on.");
  context.say(`  Follow it: \`shipway deployments ${id ?? started.deliveryId}\``);
  // There is nothing to cancel before tests and images are done: until then nothing touches an environment.
  context.say(id === undefined ? "  It has not begun to deploy yet." : `  Stop it:   \`shipway cancel ${id}\``);
}
