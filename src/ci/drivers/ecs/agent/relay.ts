import { open } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { newLineSplitter } from "../../../../shared/log-line.ts";
import type { ContainerLine } from "../../../step-log.ts";
import { PIPES_DIR } from "../order.ts";

/** Both streams of the script, read until nobody can write to them any more: until every process of its container has ended. */
export type Relay = { begun: Promise<void>; ended: Promise<void> };

export function relayScript(onLine: (line: ContainerLine) => void): Relay {
  const pipes = (["out", "err"] as const).map((stream) => {
    const splitter = newLineSplitter((text) => onLine({ stream, at: Date.now(), text }));
    const opened = openForReading(join(PIPES_DIR, stream));
    const ended = opened.then(async (pipe) => {
      for await (const chunk of pipe) splitter.write(chunk as Buffer);
      splitter.end();
    });
    return { opened, ended };
  });
  return {
    begun: Promise.all(pipes.map(({ opened }) => opened)).then(() => undefined),
    ended: Promise.all(pipes.map(({ ended }) => ended)).then(() => undefined),
  };
}

/**
 * Resolves once somebody opens the pipe for writing. Then it is read as a socket is: of two pipes, the one that was written to first comes first, which reads
 * in the thread pool do not promise.
 */
function openForReading(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    open(path, "r", (error, fd) => {
      if (error) reject(error);
      else resolve(new Socket({ fd, readable: true, writable: false }));
    });
  });
}
