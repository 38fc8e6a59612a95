import { lastEventId } from "../events/event-stream.ts";
import type { StoredEvent } from "../events/event.ts";
import { narrate, newNarration } from "../events/narrate.ts";
import type { ReceivedPush } from "../source/change.ts";
import { recordPush } from "../source/record-push.ts";
import type { Platform } from "./platform.ts";

/**
 * Records a push, starts its deliveries and tells what happens to them, line by line, until all have ended.
 * The work is durable once the first line comes: whoever stops reading stops nothing.
 */
export async function* pushProgress(platform: Platform, push: ReceivedPush): AsyncGenerator<string, void, void> {
  const { store, repositories, engine, events } = platform;
  const after = await lastEventId(store.db);
  const { changes, remarks } = await recordPush(store.db, repositories, push);
  for (const { id } of changes) await engine.startDelivery(id);
  for (const remark of remarks) yield remark;
  if (changes.length === 0) return;
  if (push.options.includes("no-wait")) {
    yield `Working on it. Follow with \`shipway events -f --app ${push.app}\`.`;
    return;
  }
  const open = new Set(changes.map(({ id }) => id));
  const stop = new AbortController();
  let narration = newNarration();
  try {
    for await (const event of events.follow({ app: push.app, after }, stop.signal)) {
      if (event.deliveryId === null || !open.has(event.deliveryId)) continue;
      const told = narrate(narration, event);
      narration = told.state;
      for (const line of told.lines) yield line;
      if (isEnd(event)) open.delete(event.deliveryId);
      if (open.size === 0) return;
    }
  } finally {
    stop.abort();
  }
}

const isEnd = (event: StoredEvent) => event.kind === "delivery.ended";
