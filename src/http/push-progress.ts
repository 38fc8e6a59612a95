import { lastEventId } from "../events/event-stream.ts";
import { narrate, newNarration } from "../events/narrate.ts";
import type { ReceivedPush } from "../source/change.ts";
import { findInfraRepository } from "../source/infra-repositories.ts";
import { recordPush } from "../source/record-push.ts";
import { infraPushProgress } from "./infra-push-progress.ts";
import type { Platform } from "./platform.ts";

/**
 * Records a push and starts its deliveries; what comes back tells of them, line by line, until all have ended or wait for an approval.
 * The work is durable once this resolves: whoever stops reading stops nothing.
 */
export async function pushProgress(
  platform: Platform,
  push: ReceivedPush,
  signal: AbortSignal,
): Promise<AsyncIterable<string>> {
  const { store, repositories, engine } = platform;
  const infra = await findInfraRepository(store.db, push.app);
  if (infra) return infraPushProgress(platform, infra, push, signal);
  const after = await lastEventId(store.db);
  const { changes, remarks } = await recordPush(store.db, repositories, push);
  for (const { id } of changes) await engine.startDelivery(id);
  return tell(platform, push, { after, remarks, deliveryIds: changes.map(({ id }) => id) }, signal);
}

type Told = { after: number; remarks: string[]; deliveryIds: string[] };

async function* tell(
  platform: Platform,
  push: ReceivedPush,
  { after, remarks, deliveryIds }: Told,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  yield* remarks;
  if (deliveryIds.length === 0) return;
  if (push.options.includes("no-wait")) {
    yield `Working on it. Follow with \`shipway events -f --app ${push.app}\`.`;
    return;
  }
  const open = new Set(deliveryIds);
  let narration = newNarration();
  for await (const event of platform.events.follow({ app: push.app, after }, signal)) {
    if (event.deliveryId === null || !open.has(event.deliveryId)) continue;
    const told = narrate(narration, event);
    narration = told.state;
    yield* told.lines;
    // Whoever pushed need not sit and wait for a colleague.
    if (event.kind === "delivery.ended" || event.kind === "delivery.waiting") open.delete(event.deliveryId);
    if (open.size === 0) return;
  }
}
