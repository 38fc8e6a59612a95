import type Docker from "dockerode";
import { newLineSplitter } from "../../../shared/log-line.ts";
import type { ContainerLine } from "../../step-log.ts";

/**
 * Hands on every line that a container wrote, from the first, in batches, and those it goes on to write with `follow`; resolves when it has stopped
 * (or, without `follow`, at the end of what there is).
 */
export async function readLogs(
  container: Docker.Container,
  follow: boolean,
  onLines: (lines: ContainerLine[]) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stream = await openLogs(container, follow, signal);
  let batch: ContainerLine[] = [];
  const demux = newDemux((line) => batch.push(line));
  try {
    for await (const chunk of stream) {
      demux.write(chunk as Buffer);
      if (batch.length > 0) onLines(batch);
      batch = [];
    }
  } finally {
    demux.end();
    if (batch.length > 0) onLines(batch);
  }
}

async function openLogs(
  container: Docker.Container,
  follow: boolean,
  signal?: AbortSignal,
): Promise<AsyncIterable<unknown>> {
  const options = { stdout: true, stderr: true, timestamps: true, ...(signal ? { abortSignal: signal } : {}) };
  if (follow) return (await container.logs({ ...options, follow: true })) as unknown as AsyncIterable<unknown>;
  const all = await container.logs({ ...options, follow: false });
  return (async function* () {
    yield all;
  })();
}

/**
 * Takes apart the engine's multiplexed stream: frames of one stored message each, `[stream, 0, 0, 0, length (4 bytes)]`, whose payload starts with the time
 * (Engine API, "Attach to a container"; `timestamps`). A line over 16 KiB is stored as several messages; only the last ends with a newline.
 */
export function newDemux(onLine: (line: ContainerLine) => void): { write(chunk: Buffer): void; end(): void } {
  let rest: Buffer = Buffer.alloc(0);
  let at = 0;
  const splitters = {
    out: newLineSplitter((text) => onLine({ stream: "out", at, text })),
    err: newLineSplitter((text) => onLine({ stream: "err", at, text })),
  };
  return {
    write(chunk) {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (rest.length >= 8) {
        const length = rest.readUInt32BE(4);
        if (rest.length < 8 + length) return;
        const payload = rest.subarray(8, 8 + length);
        const space = payload.indexOf(0x20);
        at = Date.parse(payload.toString("latin1", 0, space)) || at;
        splitters[rest[0] === 2 ? "err" : "out"].write(payload.subarray(space + 1));
        rest = rest.subarray(8 + length);
      }
    },
    end() {
      splitters.out.end();
      splitters.err.end();
    },
  };
}
