import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { newMessage } from "./agent-message.ts";
import { newInbox, newOutbox } from "./delivery.ts";

const message = (sequenceNumber: number) =>
  newMessage({ messageType: "output_stream_data", payloadType: 1, payload: Buffer.alloc(0), sequenceNumber }, 0);
const numbers = (messages: { sequenceNumber: number }[]) => messages.map((one) => one.sequenceNumber);

describe("newInbox", () => {
  it("gives each message once and in order, however they come, and acknowledges them all", () => {
    const arrivals = fc
      .nat(30)
      .chain((count) => fc.shuffledSubarray(sequence(count), { minLength: count }))
      .chain((order) => fc.array(fc.constantFrom(0, ...order)).map((repeated) => [...order, ...repeated]));
    fc.assert(
      fc.property(arrivals, (arriving) => {
        const inbox = newInbox();
        const results = arriving.map((number) => inbox.take(message(number)));
        const wanted = Math.max(-1, ...arriving) + 1;
        expect(numbers(results.flatMap(({ inOrder }) => inOrder))).toEqual(sequence(wanted));
        expect(results.every(({ acknowledge }) => acknowledge)).toBe(true);
      }),
    );
  });

  it("gives nothing behind a gap until that is filled", () => {
    const inbox = newInbox();
    expect(inbox.take(message(1)).inOrder).toEqual([]);
    expect(inbox.take(message(3)).inOrder).toEqual([]);
    expect(numbers(inbox.take(message(0)).inOrder)).toEqual([0, 1]);
    expect(numbers(inbox.take(message(2)).inOrder)).toEqual([2, 3]);
  });

  it("does not acknowledge what it has no room for, so that it comes again", () => {
    const inbox = newInbox(2);
    expect([4, 5, 6].map((number) => inbox.take(message(number)).acknowledge)).toEqual([true, true, false]);
    expect(inbox.take(message(5)).acknowledge).toBe(true);
    expect([0, 1, 2].map((number) => inbox.take(message(number)).acknowledge)).toEqual([true, true, true]);
    expect(numbers(inbox.take(message(3)).inOrder)).toEqual([3, 4, 5]);
    expect(numbers(inbox.take(message(6)).inOrder)).toEqual([6]);
  });
});

describe("newOutbox", () => {
  it("repeats the oldest, with growing pauses up to ten seconds, until it is acknowledged", () => {
    const outbox = newOutbox();
    outbox.post(message(0), 0);
    outbox.post(message(1), 0);
    const repeated: number[] = [];
    for (let now = 0; now <= 60_000; now++) if (outbox.takeDue(now)) repeated.push(now);
    expect(repeated).toEqual([1_000, 3_000, 7_000, 15_000, 25_000, 35_000, 45_000, 55_000]);
    outbox.acknowledge(0, 60_000);
    expect(outbox.size).toBe(1);
    expect(outbox.takeDue(60_001)?.sequenceNumber).toBe(1);
    outbox.acknowledge(1, 60_002);
    expect([outbox.size, outbox.dueAt(), outbox.takeDue(99_999)]).toEqual([0, undefined, undefined]);
  });

  it("waits as long as acknowledgements take on this connection, and learns nothing from what was sent twice", () => {
    const outbox = newOutbox();
    for (let number = 0; number < 100; number++) {
      outbox.post(message(number), 1_000 * number);
      outbox.acknowledge(number, 1_000 * number + 400);
    }
    outbox.post(message(100), 0);
    expect(outbox.dueAt()).toBeCloseTo(400, -1);
    expect(outbox.takeDue(500)).toBeDefined();
    outbox.acknowledge(100, 90_000);
    outbox.post(message(101), 0);
    expect(outbox.dueAt()).toBeCloseTo(400, -1);
  });

  it("is not confused by an acknowledgement of what it never sent", () => {
    const outbox = newOutbox();
    outbox.post(message(0), 0);
    outbox.acknowledge(7, 1);
    expect(outbox.size).toBe(1);
  });
});

const sequence = (count: number) => Array.from({ length: count }, (_, index) => index);
