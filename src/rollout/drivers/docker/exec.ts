import type Docker from "dockerode";
import { newLogReader } from "./container-logs.ts";
import { asking } from "./docker-errors.ts";

export type Executed = { exitCode: number; output: string };

/** As much of a probe's output as a person reads. */
const OUTPUT_LIMIT = 2_000;
/** What the engine answers when the container is gone, stopped or paused: the command could not run. */
const NOT_RUN = new Set([404, 409]);

/** Runs a command in a running container; exit code 126 with the engine's reason when it could not be run. */
export async function execIn(
  docker: Docker,
  id: string,
  command: string[],
  options: { env?: string[]; timeoutMs: number },
): Promise<Executed> {
  try {
    const exec = await docker.getContainer(id).exec({
      Cmd: command,
      Env: options.env ?? [],
      AttachStdout: true,
      AttachStderr: true,
    });
    const stream = await exec.start({ hijack: false, stdin: false });
    const output = await readAll(stream, options.timeoutMs);
    if (output === undefined) return { exitCode: 124, output: `gave no answer within ${options.timeoutMs} ms` };
    const { ExitCode } = await exec.inspect();
    return { exitCode: ExitCode ?? 0, output };
  } catch (error) {
    const status = (error as { statusCode?: number }).statusCode;
    if (status !== undefined && NOT_RUN.has(status)) return { exitCode: 126, output: "the container is not running" };
    return await asking("Running a command in a container", () => Promise.reject(error));
  }
}

function readAll(stream: NodeJS.ReadableStream, timeoutMs: number): Promise<string | undefined> {
  let output = "";
  const reader = newLogReader(({ text }) => {
    if (output.length < OUTPUT_LIMIT) output += `${text}\n`;
  });
  return new Promise((resolve) => {
    const finish = (result: string | undefined) => {
      clearTimeout(timer);
      (stream as unknown as { destroy(): void }).destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish(undefined), timeoutMs);
    stream.on("data", (chunk: Buffer) => reader.write(chunk));
    for (const event of ["end", "close", "error"]) {
      stream.on(event, () => {
        reader.end();
        finish(output.trim());
      });
    }
  });
}
