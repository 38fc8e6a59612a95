import { type AgentMessage, newMessage } from "./agent-message.ts";
import { newOutbox } from "./delivery.ts";

/** As many bytes a message as AWS's own client and agent send. */
const MOST_BYTES_A_MESSAGE = 1_024;
/** Messages that are not acknowledged yet; above that the writer waits, so that a command that does not read is not written to without end. */
const WINDOW = 64;

/** Sends a stream of messages, each again until it is acknowledged. */
export function newSender(transmit: (message: AgentMessage) => void) {
  const outbox = newOutbox();
  let next = 0;
  let isOver = false;
  let resending: NodeJS.Timeout | undefined;
  let waiting: (() => void)[] = [];

  function armResending(): void {
    clearTimeout(resending);
    const dueAt = outbox.dueAt();
    if (dueAt === undefined || isOver) return;
    resending = setTimeout(resend, Math.max(1, dueAt - Date.now()));
  }

  function resend(): void {
    const due = outbox.takeDue(Date.now());
    if (due !== undefined) transmit(due);
    armResending();
  }

  function letGoOn(): void {
    const all = waiting;
    waiting = [];
    for (const goOn of all) goOn();
  }

  /** At once, whatever is out. */
  function post(payloadType: number, payload: Buffer): void {
    if (isOver) return;
    const now = Date.now();
    const message = newMessage({ messageType: "input_stream_data", payloadType, payload, sequenceNumber: next++ }, now);
    outbox.post(message, now);
    transmit(message);
    armResending();
  }

  return {
    post,

    /** In as many messages as needed. Resolves when more can be taken; after `stop` nothing is sent. */
    async write(payloadType: number, bytes: Buffer): Promise<void> {
      for (let at = 0; at < bytes.length && !isOver; at += MOST_BYTES_A_MESSAGE) {
        while (outbox.size >= WINDOW && !isOver) await new Promise<void>((resolve) => waiting.push(resolve));
        post(payloadType, bytes.subarray(at, at + MOST_BYTES_A_MESSAGE));
      }
    },

    acknowledge(sequenceNumber: number): void {
      outbox.acknowledge(sequenceNumber, Date.now());
      armResending();
      letGoOn();
    },

    stop(): void {
      isOver = true;
      clearTimeout(resending);
      letGoOn();
    },
  };
}
