import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeBand, encodePacket, encodeProgress, FLUSH, newPacketReader, PacketError } from "./pkt-line.ts";
import { newPushAnswerReader } from "./push-report.ts";
import { newPushHeadReader, type PushHead } from "./push-request.ts";

const A = "a".repeat(40);
const B = "b".repeat(40);
const NONE = "0".repeat(40);

/** Cuts `bytes` at the places given as fractions of its length. */
function cut(bytes: Buffer, places: number[]): Buffer[] {
  const at = [0, ...places.map((place) => Math.floor(place * bytes.length)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, n) => bytes.subarray(at[n], end));
}
const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });

describe("packets", () => {
  test("come out as they went in, however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), places, (payloads, cuts) => {
        const reader = newPacketReader();
        const seen: Buffer[] = [];
        for (const chunk of cut(Buffer.concat(payloads.map(encodePacket)), cuts)) {
          reader.write(chunk);
          for (let packet = reader.next(); packet; packet = reader.next()) {
            if (packet.kind === "data") seen.push(Buffer.from(packet.payload));
          }
        }
        expect(seen).toEqual(payloads.map((payload) => Buffer.from(payload)));
        expect(reader.rest()).toHaveLength(0);
      }),
    );
  });

  test.each(["zzzz", "0003", "-001", "00 4"])("a length of %j is refused", (length) => {
    const reader = newPacketReader();
    reader.write(Buffer.from(length));
    expect(() => reader.next()).toThrow(PacketError);
  });

  test("progress of any length fits into packets that git accepts, and is one line", () => {
    const reader = newPacketReader();
    reader.write(encodeProgress(`${"x".repeat(200_000)}\0\n\n`));
    const payloads: Buffer[] = [];
    for (let packet = reader.next(); packet; packet = reader.next()) {
      if (packet.kind === "data") payloads.push(packet.payload);
    }
    expect(Math.max(...payloads.map(({ length }) => length + 4))).toBe(65_520);
    expect(new Set(payloads.map((payload) => payload[0]))).toEqual(new Set([2]));
    const text = Buffer.concat(payloads.map((payload) => payload.subarray(1))).toString();
    expect(text).toBe(`${"x".repeat(200_000)}\n`);
  });
});

function readHead(bytes: Buffer, cuts: number[] = []): PushHead | undefined {
  const reader = newPushHeadReader();
  let head: PushHead | undefined;
  for (const chunk of cut(bytes, cuts)) head ??= reader.write(chunk);
  return head;
}

describe("the head of a push", () => {
  const commands = Buffer.concat([
    encodePacket(`shallow ${A}\n`),
    encodePacket(`${A} ${B} refs/heads/main\0 report-status side-band-64k push-options agent=git/2\n`),
    encodePacket(`${NONE} ${B} refs/tags/v 1\n`),
    encodePacket(`${A} ${NONE} refs/heads/ü`),
    FLUSH,
  ]);
  const options = Buffer.concat([encodePacket("skip-ci"), encodePacket("reason=a b\n"), FLUSH]);

  test("is read the same however it is cut, and nothing of the pack is taken for it", () => {
    fc.assert(
      fc.property(places, (cuts) => {
        const head = readHead(Buffer.concat([commands, options, Buffer.from("PACKzzzz0000")]), cuts);
        expect(head?.options).toEqual(["skip-ci", "reason=a b"]);
        expect(head?.capabilities.has("side-band-64k")).toBe(true);
        expect(head?.commands).toEqual([
          { ref: "refs/heads/main", oldId: A, newId: B },
          { ref: "refs/tags/v 1", oldId: undefined, newId: B },
          { ref: "refs/heads/ü", oldId: A, newId: undefined },
        ]);
      }),
    );
  });

  test("is not complete before its options are", () => {
    expect(readHead(commands)).toBeUndefined();
  });

  test("of the client's probe has no commands", () => {
    expect(readHead(FLUSH)).toMatchObject({ commands: [], options: [] });
  });

  test.each([
    ["a signed push", encodePacket("push-cert\0x\n")],
    ["a short id", encodePacket(`${A.slice(1)} ${B} refs/heads/main\0x`)],
    ["no ref", encodePacket(`${A} ${B} `)],
    ["a delimiter", Buffer.from("0001")],
    ["a name that is not UTF-8", encodePacket(Buffer.from(`${A} ${B} refs/heads/\xff`, "latin1"))],
  ])("with %s is refused", (_, bytes) => {
    expect(() => readHead(bytes)).toThrow(PacketError);
  });
});

describe("git's answer to a push", () => {
  const report = Buffer.concat([
    encodePacket("unpack ok\n"),
    encodePacket("ok refs/heads/main\n"),
    encodePacket("ng refs/heads/old non-fast-forward\n"),
    FLUSH,
  ]);
  const packets = [
    encodeBand(2, Buffer.from("Resolving\n")),
    encodeBand(1, report.subarray(0, 21)),
    encodeBand(2, Buffer.from("hint\n")),
    encodeBand(1, report.subarray(21)),
  ];

  test("is passed on but for its last flush, and its report is read, however it is cut", () => {
    fc.assert(
      fc.property(places, (cuts) => {
        const reader = newPushAnswerReader(true);
        const passedOn = cut(Buffer.concat([...packets, FLUSH]), cuts).map((chunk) => Buffer.from(reader.write(chunk)));
        expect(Buffer.concat(passedOn)).toEqual(Buffer.concat(packets));
        expect(reader.report()).toEqual({ unpack: "ok", stored: new Set(["refs/heads/main"]) });
        expect(reader.ended()).toBe(true);
      }),
    );
  });

  test("gives no report before all of it is there", () => {
    const reader = newPushAnswerReader(true);
    for (const packet of packets.slice(0, -1)) reader.write(packet);
    expect(reader.report()).toBeUndefined();
    expect(reader.ended()).toBe(false);
  });

  test("without side-band is passed on whole", () => {
    const reader = newPushAnswerReader(false);
    expect(reader.write(report)).toEqual(report);
    expect(reader.report()?.stored).toEqual(new Set(["refs/heads/main"]));
  });

  test("that is no report is passed on and gives none", () => {
    const reader = newPushAnswerReader(false);
    expect(reader.write(Buffer.from("what?"))).toEqual(Buffer.from("what?"));
    expect(reader.report()).toBeUndefined();
  });
});
