import { describe, expect, it } from "vitest";
import { newLogReader, parseTimestamped } from "./container-logs.ts";

describe("newLogReader", () => {
  it("cuts frames into lines whatever pieces the connection delivers", () => {
    const bytes = Buffer.concat([frame(1, "one\ntw"), frame(2, "bad\n"), frame(1, "o\nlast")]);
    for (const size of [1, 3, 7, 100]) {
      const lines: string[] = [];
      const reader = newLogReader(({ stream, text }) => lines.push(`${stream} ${text}`));
      for (let at = 0; at < bytes.length; at += size) reader.write(bytes.subarray(at, at + size));
      reader.end();
      expect(lines).toEqual(["out one", "err bad", "out two", "out last"]);
    }
  });

  it("keeps a character that two frames share", () => {
    const euro = Buffer.from("€\n");
    const lines: string[] = [];
    const reader = newLogReader(({ text }) => lines.push(text));
    reader.write(Buffer.concat([frame(1, euro.subarray(0, 2)), frame(1, euro.subarray(2))]));
    expect(lines).toEqual(["€"]);
  });
});

describe("parseTimestamped", () => {
  it("takes time and text apart, an empty line too", () => {
    const at = Date.parse("2026-11-23T01:02:03.004Z");
    expect(parseTimestamped("2026-11-23T01:02:03.004005006Z hello world")).toMatchObject({ at, text: "hello world" });
    expect(parseTimestamped("2026-11-23T01:02:03.004005006Z ")).toMatchObject({ at, text: "" });
    expect(parseTimestamped("no time here")).toBeUndefined();
  });
});

function frame(stream: 1 | 2, payload: string | Buffer): Buffer {
  const body = Buffer.from(payload);
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}
