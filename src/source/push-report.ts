import { newPacketReader, type Packet, PacketError } from "./pkt-line.ts";

/** What git answered to a push (gitprotocol-pack(5), "Report Status"). */
export type PushReport = {
  /** `ok`, or why the pack could not be stored. */
  unpack: string;
  /** Refs that are stored. */
  stored: Set<string>;
};

/**
 * Reads git's answer to a push as its chunks arrive and says what to pass on: everything but the flush that ends a
 * side-band answer, so that more progress can follow. `report` is there once git has stored the refs and said so.
 */
export type PushAnswerReader = {
  /** The bytes to pass on, in whole packets. */
  write(chunk: Buffer): Buffer;
  report(): PushReport | undefined;
  /** True when the closing flush was held back. */
  ended(): boolean;
};

export function newPushAnswerReader(sideBand: boolean): PushAnswerReader {
  return sideBand ? sideBandAnswer() : plainAnswer();
}

function sideBandAnswer(): PushAnswerReader {
  const packets = newPacketReader();
  const report = newReportReader();
  let ended = false;
  return {
    write(chunk) {
      packets.write(chunk);
      const passOn: Buffer[] = [];
      for (let packet = packets.next(); packet !== undefined; packet = packets.next()) {
        if (packet.kind !== "data") {
          ended = true;
          continue;
        }
        if (packet.payload[0] === 1) report.write(packet.payload.subarray(1));
        passOn.push(framed(packet.payload));
      }
      return Buffer.concat(passOn);
    },
    report: report.result,
    ended: () => ended,
  };
}

// The payload is a view into the chunk right behind its four digits of length; taking both spares a copy.
function framed(payload: Buffer): Buffer {
  return Buffer.from(payload.buffer, payload.byteOffset - 4, payload.length + 4);
}

function plainAnswer(): PushAnswerReader {
  const report = newReportReader();
  return {
    write(chunk) {
      report.write(chunk);
      return chunk;
    },
    report: report.result,
    ended: () => false,
  };
}

function newReportReader(): { write(chunk: Buffer): void; result(): PushReport | undefined } {
  const packets = newPacketReader();
  const report: PushReport = { unpack: "no answer", stored: new Set() };
  let state: "open" | "complete" | "unreadable" = "open";
  const take = (packet: Packet) => {
    if (packet.kind !== "data") state = "complete";
    else readReportLine(report, packet.payload.toString("utf8").replace(/\n$/, ""));
  };
  return {
    write(chunk) {
      if (state !== "open" || chunk.length === 0) return;
      try {
        packets.write(chunk);
        for (let packet = packets.next(); packet !== undefined && state === "open"; packet = packets.next()) {
          take(packet);
        }
      } catch (error) {
        if (!(error instanceof PacketError)) throw error;
        // Not a report, so there is none; what is stored is then read from the refs themselves.
        state = "unreadable";
      }
    },
    result: () => (state === "complete" ? report : undefined),
  };
}

function readReportLine(report: PushReport, line: string): void {
  if (line.startsWith("unpack ")) report.unpack = line.slice("unpack ".length);
  if (line.startsWith("ok ")) report.stored.add(line.slice("ok ".length));
}
