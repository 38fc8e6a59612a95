import { describe, expect, it } from "vitest";
import type { LogLine } from "../../shared/log-line.ts";
import { newBuildProgress } from "./build-progress.ts";
import type { BuildTrace, Vertex } from "./buildkit-trace.ts";

const step = (name: string, rest: Partial<Vertex> = {}): BuildTrace => ({
  vertexes: [{ digest: name, name, cached: false, ...rest }],
  logs: [],
});
const printed = (vertex: string, text: string, stream: "out" | "err" = "out"): BuildTrace => ({
  vertexes: [],
  logs: [{ vertex, at: 7, stream, chunk: Buffer.from(text) }],
});

function shown(...traces: BuildTrace[]) {
  const lines: LogLine[] = [];
  const progress = newBuildProgress((some) => lines.push(...some));
  for (const trace of traces) progress.add(trace);
  return { text: lines.map(({ stream, text }) => `${stream} ${text}`), lines, failed: progress.failedStep() };
}

const RUN = "[2/3] RUN npm ci";

describe("newBuildProgress", () => {
  it("shows a command when it begins, its output, and its time when it is done", () => {
    const { text } = shown(
      step(RUN),
      step(RUN, { startedAt: 1_000 }),
      printed(RUN, "added 1 pack"),
      printed(RUN, "age\nwarn", "out"),
      printed(RUN, "oops\n", "err"),
      step(RUN, { startedAt: 1_000, completedAt: 4_200 }),
      step(RUN, { startedAt: 1_000, completedAt: 4_200 }),
    );
    expect(text).toEqual([`meta ${RUN}`, "out added 1 package", "err oops", "out warn", "meta [2/3] done in 3.2 s"]);
  });

  it("shows a cached step in one line, and not the engine's own errands", () => {
    const { text } = shown(
      step("[internal] load remote build context", { startedAt: 1, completedAt: 2 }),
      step("copy /context /", { startedAt: 1, completedAt: 2 }),
      step("[1/3] FROM docker.io/library/node:20", { startedAt: 1, completedAt: 2 }),
      step(RUN, { startedAt: 1, completedAt: 1, cached: true }),
    );
    expect(text).toEqual([`meta ${RUN} CACHED`]);
  });

  it("repeats the heading where the output of a stage beside it begins", () => {
    const other = "[test 2/2] RUN npm test";
    const { text } = shown(
      step(RUN, { startedAt: 1 }),
      step(other, { startedAt: 2 }),
      printed(RUN, "a\n"),
      printed(RUN, "b\n"),
      printed(other, "c\n"),
    );
    expect(text).toEqual([
      `meta ${RUN}`,
      `meta ${other}`,
      `meta ${RUN} (goes on)`,
      "out a",
      "out b",
      `meta ${other} (goes on)`,
      "out c",
    ]);
  });

  it("keeps the failing step with its last lines, and not one that was canceled for it", () => {
    const canceled = "[test 2/2] RUN npm test";
    const output = Array.from({ length: 100 }, (_, n) => `line ${n}\n`).join("");
    const { failed, text } = shown(
      step(canceled, { startedAt: 1 }),
      step(canceled, { startedAt: 1, completedAt: 2, error: "context canceled" }),
      step(RUN, { startedAt: 1 }),
      printed(RUN, `${output}no newline`),
      step(RUN, { startedAt: 1, completedAt: 301, error: "exit code: 1" }),
    );
    expect(failed).toMatchObject({ name: RUN, error: "exit code: 1" });
    expect(failed?.lastLines.at(-1)).toBe("no newline");
    expect(failed?.lastLines).toHaveLength(40);
    expect(text).toEqual(expect.arrayContaining(["meta [test 2/2] canceled", "meta [2/3] failed after 300 ms"]));
  });

  it("gives each line the engine's time", () => {
    expect(shown(step(RUN, { startedAt: 5 }), printed(RUN, "a\n")).lines.map(({ at }) => at)).toEqual([5, 7]);
  });
});
