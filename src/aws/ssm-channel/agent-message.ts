import { createHash, randomUUID } from "node:crypto";

/**
 * One message of a Session Manager data channel, as the agent and AWS's own client have it. Source: the comments and constants of
 * `agent/session/contracts/agentmessage.go` in github.com/aws/amazon-ssm-agent and `src/message/clientmessage.go` in github.com/aws/session-manager-plugin
 * (AWS publishes no other description):
 *
 *     offset  bytes  field
 *          0      4  length of what is before the payload's length: 116
 *          4     32  message type, filled up with spaces
 *         36      4  schema version: 1
 *         40      8  when it was made, ms since 1970
 *         48      8  sequence number
 *         56      8  flags: 1 the first of a stream, 2 the last
 *         64     16  message id, a UUID with its halves swapped
 *         80     32  SHA-256 of the payload
 *        112      4  payload type
 *        116      4  payload length
 *        120         payload
 *
 * Numbers are big-endian.
 */
export type AgentMessage = {
  messageType: string;
  createdAt: number;
  sequenceNumber: number;
  flags: number;
  messageId: string;
  payloadType: number;
  payload: Buffer;
};

const HEADER_BYTES = 116;
const PAYLOAD_AT = 120;
const SCHEMA_VERSION = 1;
const TYPE = { at: 4, bytes: 32 };
const ID_AT = 64;
const DIGEST = { at: 80, bytes: 32 };

/** What a message is before its time and id. */
export type NewMessage = Pick<AgentMessage, "messageType" | "payloadType" | "payload"> &
  Partial<Pick<AgentMessage, "sequenceNumber" | "flags">>;

export function newMessage(message: NewMessage, now: number): AgentMessage {
  return { sequenceNumber: 0, flags: 0, ...message, createdAt: now, messageId: randomUUID() };
}

export function encodeMessage(message: AgentMessage): Buffer {
  const bytes = Buffer.alloc(PAYLOAD_AT + message.payload.length);
  bytes.writeUInt32BE(HEADER_BYTES, 0);
  bytes.write(message.messageType.padEnd(TYPE.bytes, " "), TYPE.at, TYPE.bytes, "latin1");
  bytes.writeUInt32BE(SCHEMA_VERSION, 36);
  bytes.writeBigUInt64BE(BigInt(message.createdAt), 40);
  bytes.writeBigInt64BE(BigInt(message.sequenceNumber), 48);
  bytes.writeBigUInt64BE(BigInt(message.flags), 56);
  const id = Buffer.from(message.messageId.replaceAll("-", ""), "hex");
  id.copy(bytes, ID_AT, 8, 16);
  id.copy(bytes, ID_AT + 8, 0, 8);
  digestOf(message.payload).copy(bytes, DIGEST.at);
  bytes.writeUInt32BE(message.payloadType, 112);
  bytes.writeUInt32BE(message.payload.length, 116);
  message.payload.copy(bytes, PAYLOAD_AT);
  return bytes;
}

/** @returns undefined for what is cut off, or has another payload than its digest says: its sender will send it again */
export function decodeMessage(bytes: Buffer): AgentMessage | undefined {
  if (bytes.length < PAYLOAD_AT) return undefined;
  // A later version may have a longer header; the payload's length is always behind it.
  const lengthAt = bytes.readUInt32BE(0);
  if (lengthAt < HEADER_BYTES || bytes.length < lengthAt + 4) return undefined;
  const payload = bytes.subarray(lengthAt + 4);
  if (payload.length !== bytes.readUInt32BE(lengthAt)) return undefined;
  const digest = bytes.subarray(DIGEST.at, DIGEST.at + DIGEST.bytes);
  if (payload.length > 0 && !digest.equals(digestOf(payload))) return undefined;
  return {
    messageType: bytes
      .toString("latin1", TYPE.at, TYPE.at + TYPE.bytes)
      .replaceAll("\0", "")
      .trim(),
    createdAt: Number(bytes.readBigUInt64BE(40)),
    sequenceNumber: Number(bytes.readBigInt64BE(48)),
    flags: Number(bytes.readBigUInt64BE(56)),
    messageId: uuidOf(bytes),
    payloadType: bytes.readUInt32BE(112),
    payload,
  };
}

function uuidOf(bytes: Buffer): string {
  const hex = bytes.toString("hex", ID_AT + 8, ID_AT + 16) + bytes.toString("hex", ID_AT, ID_AT + 8);
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const digestOf = (payload: Buffer): Buffer => createHash("sha256").update(payload).digest();
