import type { EventStream } from "../events/event-stream.ts";
import { type NotifyDeps, takeTurn } from "../notify/deliver.ts";
import { findHook, listHooks } from "../notify/hooks.ts";
import type { Logger } from "./durable.ts";

/** A ring that was lost, and hooks that other processes added, are noticed this late. */
const LOOK_EVERY_MS = 5_000;

export type NotifyLoopDeps = NotifyDeps & { events: EventStream; log: Logger };

/**
 * Tells hooks what they want to be told, each in a lane of its own: one receiver that is slow or down holds up no other, and never who writes events.
 * A lane goes on until there is nothing to tell; the next event, or a retry that falls due, opens it again.
 */
export function startNotifyLoop(deps: NotifyLoopDeps): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  /** How far each hook's events were looked through. */
  const positions = new Map<string, number>();
  /** Hooks whose next attempt is not due yet. */
  const waits = new Map<string, NodeJS.Timeout>();
  const lanes = new Map<string, Promise<void>>();
  /** Hooks whose lane was at work when something happened: it may have looked just before. */
  const rung = new Set<string>();

  const lane = async (id: string): Promise<void> => {
    while (!signal.aborted) {
      const hook = await findHook(deps.db, id);
      const turn = hook && (await takeTurn(deps, hook, positions.get(id) ?? 0, signal));
      if (turn === undefined || turn.is === "gone") return;
      positions.set(id, turn.position);
      if (turn.is === "wait") waitUntil(id, turn.untilMs);
      if (turn.is !== "more") return;
    }
  };
  const waitUntil = (id: string, untilMs: number): void => {
    const timer = setTimeout(
      () => {
        waits.delete(id);
        open(id);
      },
      Math.max(0, untilMs - deps.now()),
    );
    clearTimeout(waits.get(id));
    waits.set(id, timer);
  };
  const open = (id: string): void => {
    if (lanes.has(id)) {
      rung.add(id);
      return;
    }
    const running = lane(id)
      .catch((error: unknown) => {
        if (!signal.aborted) deps.log.warn({ err: error, hook: id }, "a hook could not be told");
      })
      .finally(() => {
        lanes.delete(id);
        if (rung.delete(id) && !waits.has(id) && !signal.aborted) open(id);
      });
    lanes.set(id, running);
  };
  const round = async (): Promise<void> => {
    const hooks = await listHooks(deps.db);
    const known = new Set(hooks.map(({ id }) => id));
    for (const id of positions.keys()) if (!known.has(id)) positions.delete(id);
    for (const { id } of hooks) if (!waits.has(id)) open(id);
  };
  const loop = async (): Promise<void> => {
    while (!signal.aborted) {
      // Wait for the ring before looking: one that comes while we look must not be lost.
      const ring = deps.events.nextRing({ withinMs: LOOK_EVERY_MS, signal });
      try {
        await round().catch((error: unknown) => deps.log.warn({ err: error }, "hooks could not be looked up"));
        await ring.promise;
      } finally {
        ring.release();
      }
    }
  };
  const looping = loop();
  return {
    async stop() {
      stopping.abort();
      await looping;
      await Promise.all(lanes.values());
      for (const timer of waits.values()) clearTimeout(timer);
    },
  };
}
