import type { AgentMessage } from "./agent-message.ts";

/** How far ahead of a missing message the other side's are kept; AWS's own client has the same bound. */
const INBOX_CAPACITY = 10_000;

/** Puts what comes into order, and each once. */
export function newInbox(capacity = INBOX_CAPACITY) {
  let expected = 0;
  const early = new Map<number, AgentMessage>();
  return {
    /** `inOrder`: what can be handled now. What is not to be acknowledged has to come again. */
    take(message: AgentMessage): { acknowledge: boolean; inOrder: AgentMessage[] } {
      const { sequenceNumber } = message;
      // Of what was had already the acknowledgement got lost.
      if (sequenceNumber < expected) return { acknowledge: true, inOrder: [] };
      if (sequenceNumber > expected) {
        if (early.size >= capacity && !early.has(sequenceNumber)) return { acknowledge: false, inOrder: [] };
        early.set(sequenceNumber, message);
        return { acknowledge: true, inOrder: [] };
      }
      const inOrder = [message];
      expected++;
      for (let next = early.get(expected); next !== undefined; next = early.get(expected)) {
        early.delete(expected);
        inOrder.push(next);
        expected++;
      }
      return { acknowledge: true, inOrder };
    },
  };
}

/** First guess, least and most of how long an acknowledgement may take; `longestMs` also bounds the growing pauses between repetitions. */
const WAIT = { firstMs: 1_000, leastMs: 200, longestMs: 10_000 };

type Posted = { message: AgentMessage; sentAt: number; attempts: number };

/**
 * Keeps what was sent until it is acknowledged. How long that may take is learnt as in TCP (RFC 6298); what was sent twice is no measure, since nobody
 * knows which of both was acknowledged. Only the oldest is repeated: the other side keeps what came early.
 */
export function newOutbox() {
  const posted = new Map<number, Posted>();
  let roundTrip: { meanMs: number; deviationMs: number } | undefined;

  function waitMs(attempts: number): number {
    const once =
      roundTrip === undefined ? WAIT.firstMs : Math.max(WAIT.leastMs, roundTrip.meanMs + 4 * roundTrip.deviationMs);
    return Math.min(WAIT.longestMs, once * 2 ** (attempts - 1));
  }

  function learn(tookMs: number): void {
    const { meanMs, deviationMs } = roundTrip ?? { meanMs: tookMs, deviationMs: tookMs / 2 };
    roundTrip = {
      meanMs: meanMs + (tookMs - meanMs) / 8,
      deviationMs: deviationMs + (Math.abs(tookMs - meanMs) - deviationMs) / 4,
    };
  }

  return {
    get size(): number {
      return posted.size;
    },

    post(message: AgentMessage, now: number): void {
      posted.set(message.sequenceNumber, { message, sentAt: now, attempts: 1 });
    },

    acknowledge(sequenceNumber: number, now: number): void {
      const known = posted.get(sequenceNumber);
      if (known === undefined) return;
      if (known.attempts === 1) learn(now - known.sentAt);
      posted.delete(sequenceNumber);
    },

    /** When the oldest is to be sent again; undefined when nothing is out. */
    dueAt(): number | undefined {
      const [oldest] = posted.values();
      return oldest && oldest.sentAt + waitMs(oldest.attempts);
    },

    /** The oldest, when its time is over. It counts as sent again. */
    takeDue(now: number): AgentMessage | undefined {
      const [oldest] = posted.values();
      if (oldest === undefined || now < oldest.sentAt + waitMs(oldest.attempts)) return undefined;
      oldest.sentAt = now;
      oldest.attempts++;
      return oldest.message;
    },
  };
}
