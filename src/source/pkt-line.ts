/** git's framing (gitprotocol-common(5)): four hex digits of length, themselves included, then the payload. */
export type Packet = { kind: "data"; payload: Buffer } | { kind: "flush" | "delimiter" | "end" };

export const FLUSH = Buffer.from("0000");

// 65520 bytes at most (gitprotocol-common(5)), less 4 of length and 1 of band.
const BAND_PAYLOAD_BYTES = 65_515;

/** The bytes are not in git's framing. */
export class PacketError extends Error {}

export function encodePacket(payload: string | Uint8Array): Buffer {
  const bytes = Buffer.from(payload);
  return Buffer.concat([Buffer.from((bytes.length + 4).toString(16).padStart(4, "0")), bytes]);
}

/** Text for the person at the other end, which git shows behind `remote: `. Long text is cut into several packets. */
export function encodeProgress(line: string): Buffer {
  // The client's git reads the text as a C string: what follows a NUL would be lost.
  const text = Buffer.from(`${line.replaceAll("\0", "").replace(/\n+$/, "")}\n`);
  const packets: Buffer[] = [];
  for (let start = 0; start < text.length; start += BAND_PAYLOAD_BYTES) {
    packets.push(encodeBand(2, text.subarray(start, start + BAND_PAYLOAD_BYTES)));
  }
  return Buffer.concat(packets);
}

/** Shows nothing; proves to proxies in between that the connection is alive. */
export const KEEP_ALIVE = encodePacket(Buffer.of(2));

export function encodeBand(band: 1 | 2 | 3, payload: Uint8Array): Buffer {
  return encodePacket(Buffer.concat([Buffer.of(band), payload]));
}

/** Cuts a stream of chunks into packets. `next()` is undefined until a whole packet is there. */
export function newPacketReader(): { write(chunk: Buffer): void; next(): Packet | undefined; rest(): Buffer } {
  let pending: Buffer = Buffer.alloc(0);
  return {
    write(chunk) {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    },
    next() {
      if (pending.length < 4) return undefined;
      const length = lengthOf(pending);
      if (length < 4) {
        pending = pending.subarray(4);
        return specialPacket(length);
      }
      if (pending.length < length) return undefined;
      const payload = pending.subarray(4, length);
      pending = pending.subarray(length);
      return { kind: "data", payload };
    },
    rest: () => pending,
  };
}

function lengthOf(bytes: Buffer): number {
  const digits = bytes.toString("latin1", 0, 4);
  if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new PacketError(`not a packet length: ${JSON.stringify(digits)}`);
  return Number.parseInt(digits, 16);
}

function specialPacket(length: number): Packet {
  if (length === 0) return { kind: "flush" };
  if (length === 1) return { kind: "delimiter" };
  if (length === 2) return { kind: "end" };
  throw new PacketError(`not a packet length: ${length}`);
}
