import { describe, expect, it } from "vitest";
import type { LogLine } from "../shared/log-line.ts";
import { newDemux } from "./drivers/docker/follow-logs.ts";
import type { StepProgress } from "./executor.ts";
import { type ContainerLine, type LogPlace, newStepLog } from "./step-log.ts";

const mark = (at: number, text: string): ContainerLine => ({ stream: "err", at, text: `\u001dn ${text}` });
const out = (at: number, text: string): ContainerLine => ({ stream: "out", at, text });

const WHOLE = [
  mark(100, "command 0"),
  out(100, "\u001dn+ a"),
  out(150, "x"),
  mark(200, "command 1"),
  out(200, "unfinished\u001dn+ b"),
  mark(260, "scriptEnd 3"),
  out(260, "\u001dn outEnd"),
];

function read(lines: ContainerLine[], from: LogPlace = { lines: 0 }) {
  const sent: LogLine[] = [];
  const told: StepProgress[] = [];
  const log = newStepLog(
    { script: ["a", "b"] },
    "n",
    from,
    (batch) => sent.push(...batch),
    (event) => told.push(event),
  );
  log.take(lines);
  return {
    log,
    sent: sent.map(({ text }) => text),
    told: told.map((event) => `${event.kind} ${"index" in event ? event.index : ""}`),
  };
}

describe("newStepLog", () => {
  it("times commands by their markers and hides these", () => {
    const { log, sent, told } = read(WHOLE);
    expect(sent).toEqual(["+ a", "x", "unfinished", "+ b"]);
    expect(told).toEqual(["commandStarted 0", "commandEnded 0", "commandStarted 1", "commandEnded 1"]);
    expect(log.commands(999, 3)).toEqual([
      { command: "a", durationMs: 100, exitCode: 0 },
      { command: "b", durationMs: 60, exitCode: 3 },
    ]);
    expect(log.isComplete()).toBe(true);
  });

  it.each([0, 1, 2, 3, 4])("after a crash with %i lines logged, sends the rest and knows the whole", (skip) => {
    const { log, sent } = read(WHOLE, { lines: skip });
    expect(sent).toEqual(["+ a", "x", "unfinished", "+ b"].slice(skip));
    expect(log.commands(999, 3)).toHaveLength(2);
    expect(log.lastLines()).toEqual(["+ a", "x", "unfinished", "+ b"]);
  });

  it("does not tell again what belongs to lines logged before", () => {
    expect(read(WHOLE, { lines: 4 }).told).toEqual(["commandEnded 1"]);
  });

  it.each([...WHOLE.keys()])(
    "reads on where a stream was cut after %i messages: nothing twice, nothing lost",
    (cut) => {
      const first = read(WHOLE.slice(0, cut));
      const second = read(WHOLE, first.log.place());
      expect([...first.sent, ...second.sent]).toEqual(read(WHOLE).sent);
      expect([...first.told, ...second.told]).toEqual(read(WHOLE).told);
    },
  );

  it("is not complete while the end of the output is missing, even when the script has ended", () => {
    expect(read(WHOLE.slice(0, -1)).log.isComplete()).toBe(false);
  });

  it("ends the running command when the container was killed", () => {
    const { log } = read(WHOLE.slice(0, 5));
    expect(log.isComplete()).toBe(false);
    expect(log.commands(500, 137).at(-1)).toEqual({ command: "b", durationMs: 300, exitCode: 137 });
  });
});

describe("newDemux", () => {
  const frame = (stream: number, text: string): Buffer => {
    const payload = Buffer.from(`2026-01-02T03:04:05.678901234Z ${text}`);
    const head = Buffer.alloc(8);
    head[0] = stream;
    head.writeUInt32BE(payload.length, 4);
    return Buffer.concat([head, payload]);
  };

  it("gives the same lines however the stream is cut", () => {
    const whole = Buffer.concat([
      frame(1, "grün\n"),
      frame(2, "oops\n"),
      frame(1, "long…"),
      frame(1, "…line\n"),
      frame(1, "last"),
    ]);
    const expected = [
      { stream: "out", text: "grün" },
      { stream: "err", text: "oops" },
      { stream: "out", text: "long……line" },
      { stream: "out", text: "last" },
    ].map((line) => ({ ...line, at: Date.parse("2026-01-02T03:04:05.678Z") }));
    for (let size = 1; size <= whole.length; size++) {
      const lines: ContainerLine[] = [];
      const demux = newDemux((line) => lines.push(line));
      for (let at = 0; at < whole.length; at += size) demux.write(whole.subarray(at, at + size));
      demux.end();
      expect(lines).toEqual(expected);
    }
  });
});
