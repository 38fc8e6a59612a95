import { z } from "zod";
import type { BuildTrace, Vertex } from "../buildkit-trace.ts";

/** buildx prints times with nanoseconds; a step that was never begun has none, or the year 1. */
const Time = z
  .string()
  .optional()
  .transform((text) => {
    const at = Date.parse((text ?? "").replace(/(\.\d{3})\d+/, "$1"));
    return at > 0 ? at : undefined;
  });

/** A `client.SolveStatus` of BuildKit, as `buildx build --progress=rawjson` prints it; what is not shown is passed over. */
const Status = z.object({
  vertexes: z
    .array(
      z.object({
        digest: z.string(),
        name: z.string().default(""),
        cached: z.boolean().default(false),
        started: Time,
        completed: Time,
        error: z.string().default(""),
      }),
    )
    .default([]),
  logs: z
    .array(
      z.object({
        vertex: z.string().default(""),
        stream: z.number().default(1),
        data: z.base64().default(""),
        timestamp: Time,
      }),
    )
    .default([]),
});

/** @throws an Error when it is not of that form */
export function decodeRawJson(status: unknown): BuildTrace {
  const { vertexes, logs } = Status.parse(status);
  return {
    vertexes: vertexes.map(
      ({ digest, name, cached, started, completed, error }): Vertex => ({
        digest,
        name,
        cached,
        ...(started !== undefined && { startedAt: started }),
        ...(completed !== undefined && { completedAt: completed }),
        ...(error !== "" && { error }),
      }),
    ),
    logs: logs.map(({ vertex, stream, data, timestamp = 0 }) => ({
      vertex,
      at: timestamp,
      stream: stream === 2 ? "err" : "out",
      chunk: Buffer.from(data, "base64"),
    })),
  };
}
