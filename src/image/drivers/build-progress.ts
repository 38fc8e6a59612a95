import { formatDurationMs } from "../../shared/duration.ts";
import { type LogLine, type LogSink, newLineSplitter } from "../../shared/log-line.ts";
import type { BuildTrace, Vertex } from "./buildkit-trace.ts";

/** A step that failed: its name as BuildKit gives it and the last lines it printed. */
export type FailedStep = { name: string; error: string; lastLines: string[] };

export type BuildProgress = {
  add(trace: BuildTrace): void;
  failedStep(): FailedStep | undefined;
};

type Step = {
  name: string;
  shown: "no" | "started" | "ended";
  error?: string;
  lastLines: string[];
  out: ReturnType<typeof newLineSplitter>;
  err: ReturnType<typeof newLineSplitter>;
};

const KEPT_LINES = 40;

/**
 * Turns BuildKit's trace into a log a person reads while it grows: `[2/5] RUN npm ci`, its output, `[2/5] done in 3.2 s`; a cached step is one line.
 * Stages build side by side: where the output of another step begins, its heading is repeated.
 */
export function newBuildProgress(log: LogSink): BuildProgress {
  const steps = new Map<string, Step>();
  /** The step whose lines came last. */
  let current: Step | undefined;
  let at = 0;

  const say = (line: LogLine) => log([line]);
  const newStep = (digest: string): Step => {
    const lastLines: string[] = [];
    const print = (stream: "out" | "err") => (text: string) => {
      lastLines.push(text);
      if (lastLines.length > KEPT_LINES) lastLines.shift();
      if (current !== step)
        say({ at, stream: "meta", text: step.shown === "no" ? step.name : `${step.name} (goes on)` });
      if (step.shown === "no") step.shown = "started";
      current = step;
      say({ at, stream, text });
    };
    const step: Step = {
      name: "",
      shown: "no",
      lastLines,
      out: newLineSplitter(print("out")),
      err: newLineSplitter(print("err")),
    };
    steps.set(digest, step);
    return step;
  };
  const stepOf = (digest: string) => steps.get(digest) ?? newStep(digest);

  const addVertex = (vertex: Vertex) => {
    const step = stepOf(vertex.digest);
    step.name = vertex.name;
    if (vertex.error !== undefined) step.error = vertex.error;
    at = vertex.completedAt ?? vertex.startedAt ?? at;
    if (isInternal(vertex) || step.shown === "ended") return;
    const ended = vertex.completedAt !== undefined;
    if (vertex.startedAt !== undefined && !ended && step.shown === "no" && isLong(vertex)) {
      step.shown = "started";
      current = step;
      say({ at, stream: "meta", text: vertex.name });
    }
    if (!ended) return;
    step.out.end();
    step.err.end();
    const text = endLine(vertex, step.shown === "started");
    if (text === undefined) return;
    step.shown = "ended";
    say({ at, stream: "meta", text });
  };

  return {
    add({ vertexes, logs }) {
      for (const vertex of vertexes) addVertex(vertex);
      for (const line of logs) {
        at = line.at;
        stepOf(line.vertex)[line.stream].write(line.chunk);
      }
    },
    failedStep() {
      const failed = [...steps.values()].filter(({ error }) => error !== undefined && !isCanceled(error));
      const [step] = failed;
      if (step?.error === undefined) return undefined;
      step.out.end();
      step.err.end();
      return { name: step.name, error: step.error, lastLines: step.lastLines };
    },
  };
}

/** BuildKit's own errands: loading the context, unpacking it, asking for metadata. */
function isInternal({ name }: Vertex): boolean {
  return name.startsWith("[internal]") || name === "copy /context /";
}

/** Steps whose beginning is worth a line; the others (COPY, FROM of a local image) are told when they are done. */
function isLong({ name }: Vertex): boolean {
  return /^(\[[^\]]*\] )?RUN\b/.test(name);
}

/** What the end of a step says; nothing yet for a step that may be reported again with a result (a base image that is only looked up). */
function endLine(vertex: Vertex, wasShown: boolean): string | undefined {
  const tookMs = (vertex.completedAt ?? 0) - (vertex.startedAt ?? vertex.completedAt ?? 0);
  const prefix = /^\[[^\]]*\]/.exec(vertex.name)?.[0];
  const short = wasShown && prefix !== undefined ? prefix : vertex.name;
  if (vertex.error !== undefined) {
    return isCanceled(vertex.error) ? `${short} canceled` : `${short} failed after ${formatDurationMs(tookMs)}`;
  }
  if (vertex.cached) return `${short} CACHED`;
  if (wasShown) return `${short} done in ${formatDurationMs(tookMs)}`;
  return /^FROM\b|\] FROM\b/.test(vertex.name) && tookMs < 500 ? undefined : `${short} (${formatDurationMs(tookMs)})`;
}

function isCanceled(error: string): boolean {
  return /context canceled|rpc error: code = Canceled/.test(error);
}
