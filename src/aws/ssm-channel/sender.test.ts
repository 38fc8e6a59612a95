import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { AgentMessage } from "./agent-message.ts";
import { newSender } from "./sender.ts";

const sent: AgentMessage[] = [];
const numbers = () => sent.map((one) => one.sequenceNumber);
beforeEach(() => {
  vi.useFakeTimers();
  sent.length = 0;
});
afterEach(() => vi.useRealTimers());

const sender = () => newSender((message) => void sent.push(message));

it("cuts what is long into messages of a kilobyte, numbered from zero", async () => {
  const { write } = sender();
  await write(1, Buffer.from("ab".repeat(1_000)));
  expect(sent.map(({ payload }) => payload.length)).toEqual([1_024, 976]);
  expect(numbers()).toEqual([0, 1]);
  expect(Buffer.concat(sent.map(({ payload }) => payload)).toString()).toBe("ab".repeat(1_000));
  expect(sent.every(({ messageType }) => messageType === "input_stream_data")).toBe(true);
});

it("has no more than 64 messages out, and goes on as they are acknowledged", async () => {
  const { write, acknowledge } = sender();
  const writing = write(1, Buffer.alloc(100 * 1_024));
  await vi.advanceTimersByTimeAsync(0);
  expect(sent).toHaveLength(64);
  for (let number = 0; number < 10; number++) acknowledge(number);
  await vi.advanceTimersByTimeAsync(0);
  expect(sent).toHaveLength(74);
  for (let number = 10; number < 100; number++) {
    acknowledge(number);
    await vi.advanceTimersByTimeAsync(0);
  }
  await writing;
  expect(numbers()).toEqual(Array.from({ length: 100 }, (_, index) => index));
});

it("sends again what nobody acknowledges, and nothing once it was stopped", async () => {
  const { post, write, stop } = sender();
  post(6, Buffer.from("one"));
  const writing = write(1, Buffer.alloc(80 * 1_024));
  await vi.advanceTimersByTimeAsync(3_000);
  expect(numbers().slice(64)).toEqual([0, 0]);
  stop();
  await writing;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent).toHaveLength(66);
});
