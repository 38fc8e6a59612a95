import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeMessage, encodeMessage, newMessage } from "./agent-message.ts";

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

/** Laid out by hand, from the field list of the agent's source; time, id and payload are those of its own test. */
const BY_HAND = [
  "00000074", // 116
  "696e7075745f73747265616d5f64617461202020202020202020202020202020", // "input_stream_data" and spaces
  "00000001",
  "0000015e0baa7884", // 1503434274948
  "0000000000000001",
  "0000000000000002",
  "a508b5f073f31b16dd01e56bff48483e", // dd01e56b-ff48-483e-a508-b5f073f31b16, its halves swapped
  sha256(Buffer.from("payload")),
  "00000001",
  "00000007",
  "7061796c6f6164", // "payload"
].join("");

/** What a browser's terminal sent when it was resized, as its author wrote it down: names are filled up in front, with zeros. Its digest is 32 hex digits, which is wrong. */
const FROM_A_BROWSER = [
  "00000074",
  "000000000000000000000000000000696e7075745f73747265616d5f64617461",
  "00000001",
  "000000001e5b37e2",
  "0000000000000000",
  "0000000000000001",
  "730f664914534e2a9f01a37dbffefce1",
  "6534343336356239353131363265646136346163656664323735373232303965",
  "00000003",
  "00000016",
  "7b22636f6c73223a3230322c22726f7773223a31387d",
].join("");

describe("a message", () => {
  const message = {
    messageType: "input_stream_data",
    createdAt: 1_503_434_274_948,
    sequenceNumber: 1,
    flags: 2,
    messageId: "dd01e56b-ff48-483e-a508-b5f073f31b16",
    payloadType: 1,
    payload: Buffer.from("payload"),
  };

  it("has the bytes that the agent's source describes", () => {
    expect(encodeMessage(message).toString("hex")).toBe(BY_HAND);
    expect(decodeMessage(Buffer.from(BY_HAND, "hex"))).toEqual(message);
  });

  it("is read as others write it, but for a wrong digest", () => {
    const bytes = Buffer.from(FROM_A_BROWSER, "hex");
    expect(decodeMessage(bytes)).toBeUndefined();
    const payload = Buffer.from('{"cols":202,"rows":18}');
    Buffer.from(sha256(payload), "hex").copy(bytes, 80);
    expect(decodeMessage(bytes)).toEqual({
      messageType: "input_stream_data",
      createdAt: 0x1e5b37e2,
      sequenceNumber: 0,
      flags: 1,
      messageId: "9f01a37d-bffe-fce1-730f-664914534e2a",
      payloadType: 3,
      payload,
    });
  });

  it("comes back as it was sent, whatever it holds", () => {
    const any = fc.record({
      messageType: fc.constantFrom("input_stream_data", "acknowledge", "channel_closed"),
      createdAt: fc.nat(2 ** 43),
      sequenceNumber: fc.nat(2 ** 40),
      flags: fc.nat(3),
      messageId: fc.uuid(),
      payloadType: fc.nat(12),
      payload: fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
    });
    fc.assert(fc.property(any, (one) => void expect(decodeMessage(encodeMessage(one))).toEqual(one)));
  });

  it("is not taken when it is cut off, or any byte of its payload or digest is another", () => {
    const bytes = encodeMessage(message);
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeMessage(bytes.subarray(0, length))).toBeUndefined();
    }
    for (const at of [...range(80, 112), ...range(120, bytes.length)]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(decodeMessage(changed)).toBeUndefined();
    }
  });

  it("with a longer header, as a later version may have, is read all the same", () => {
    const bytes = encodeMessage(message);
    const longer = Buffer.concat([bytes.subarray(0, 116), Buffer.alloc(8), bytes.subarray(116)]);
    longer.writeUInt32BE(124, 0);
    expect(decodeMessage(longer)?.payload.toString()).toBe("payload");
  });

  it("of ours has a random id and the time it was made", () => {
    const [one, other] = [1, 2].map(() =>
      newMessage({ messageType: "acknowledge", payloadType: 0, payload: Buffer.alloc(0) }, 7),
    );
    expect(one).toMatchObject({ createdAt: 7, sequenceNumber: 0, flags: 0 });
    expect(one?.messageId).not.toBe(other?.messageId);
    expect(one?.messageId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);
