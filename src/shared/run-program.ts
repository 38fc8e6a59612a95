import { execFile } from "node:child_process";

export type ProgramResult = { stdout: string; stderr: string };

/**
 * Runs a program from an argument array (never through a shell) and returns what it printed.
 * @throws an Error with the exit code and the last lines of stderr when it does not exit 0.
 */
export function runProgram(
  argv: readonly [string, ...string[]] | readonly string[],
  options: {
    cwd?: string;
    env?: NodeJS.ProcessEnv;
    uid?: number;
    gid?: number;
    signal?: AbortSignal;
    maxBytes?: number;
  } = {},
): Promise<ProgramResult> {
  const [program = "", ...args] = argv;
  const { maxBytes = 16 * 1024 * 1024, ...rest } = options;
  return new Promise((resolve, reject) => {
    execFile(program, args, { ...rest, maxBuffer: maxBytes, encoding: "utf8" }, (error, stdout, stderr) => {
      if (!error) return resolve({ stdout, stderr });
      const tail = stderr.trim().split("\n").slice(-5).join(" / ");
      reject(
        new Error(`${program} ${args[0] ?? ""} failed (${error.code ?? error.signal}): ${tail}`, { cause: error }),
      );
    });
  });
}
