import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BuildRecord, newRecordReader } from "./build-log.ts";

const said = (text: string, time = 5) => ({ say: text, time });
/** As `build.py` prints them. */
const lineOf = (record: object, number: number, pieceLength = 6_000): string[] => {
  const text = JSON.stringify(record);
  const pieces = Array.from({ length: Math.ceil(text.length / pieceLength) }, (_, index) =>
    text.slice(index * pieceLength, (index + 1) * pieceLength),
  );
  return pieces.map((piece, index) => `shipway ${number} ${index + 1}/${pieces.length} ${piece}`);
};
const textsOf = (records: BuildRecord[]) =>
  records.map((record) => (record.kind === "said" ? record.text : record.kind));

describe("the log of a build", () => {
  it("is read in the order of its records, each once, in whatever order its events come and however often", () => {
    const texts = fc.array(fc.string({ unit: "grapheme" }), { minLength: 1, maxLength: 12 });
    const cases = texts.chain((all) => {
      const lines = all.flatMap((text, index) => lineOf(said(text), index + 1, 7));
      const repeated = fc.array(fc.constantFrom(...lines), { maxLength: 5 });
      return fc.tuple(fc.constant(all), fc.shuffledSubarray(lines, { minLength: lines.length }), repeated);
    });
    fc.assert(
      fc.property(cases, ([all, lines, again]) => {
        const reader = newRecordReader();
        const got = [...lines, ...again].flatMap((line) => reader.read(`${line}\n`));
        expect(textsOf(got)).toEqual(all);
        expect(reader.hasGap()).toBe(false);
      }),
    );
  });

  it("takes several lines from one event, and tells CodeBuild's own from them", () => {
    const reader = newRecordReader();
    const event = ["[Container] Entering phase BUILD", ...lineOf(said("a"), 1), "", ...lineOf(said("b"), 2)].join(
      "\r\n",
    );
    expect(textsOf(reader.read(event))).toEqual(["a", "b"]);
    expect(reader.others()).toEqual(["[Container] Entering phase BUILD"]);
  });

  it("waits for a record that is late, and gives it up when it is told to", () => {
    const reader = newRecordReader();
    expect(textsOf(reader.read(lineOf(said("a"), 1)[0] ?? ""))).toEqual(["a"]);
    expect(reader.read(lineOf({ end: {} }, 4)[0] ?? "")).toEqual([]);
    expect(reader.hasGap()).toBe(true);
    expect(reader.skipGap()).toEqual({ records: [{ kind: "ended", ending: {} }], missing: 2 });
    expect(reader.hasGap()).toBe(false);
  });

  it("has nothing to give up where nothing follows, save a record whose end is missing", () => {
    const reader = newRecordReader();
    expect(reader.skipGap()).toEqual({ records: [], missing: 0 });
    reader.read(lineOf(said("a long text"), 1, 10)[0] ?? "");
    expect(reader.hasGap()).toBe(true);
    expect(reader.skipGap()).toEqual({ records: [], missing: 1 });
  });

  it("says how the build ended", () => {
    const ended = newRecordReader().read(lineOf({ end: { at: "push", error: "denied" } }, 1)[0] ?? "");
    expect(ended).toEqual([{ kind: "ended", ending: { at: "push", error: "denied" } }]);
  });

  it("has the steps that buildx reported, its times in milliseconds", () => {
    const status = {
      vertexes: [
        { digest: "sha256:a", name: "[1/2] RUN x", started: "2026-11-26T08:18:55.005286686Z", error: "exit code: 3" },
        { digest: "sha256:b", name: "later", started: "0001-01-01T00:00:00Z", inputs: ["sha256:a"], progressGroup: {} },
      ],
      logs: [{ vertex: "sha256:a", stream: 2, data: "b29wcwo=", timestamp: "2026-11-26T08:18:55.62Z" }],
    };
    expect(newRecordReader().read(lineOf({ status }, 1)[0] ?? "")).toEqual([
      {
        kind: "trace",
        trace: {
          vertexes: [
            {
              digest: "sha256:a",
              name: "[1/2] RUN x",
              cached: false,
              startedAt: 1_795_681_135_005,
              error: "exit code: 3",
            },
            { digest: "sha256:b", name: "later", cached: false },
          ],
          logs: [{ vertex: "sha256:a", at: 1_795_681_135_620, stream: "err", chunk: Buffer.from("oops\n") }],
        },
      },
    ]);
  });
});
