import { execFile } from "node:child_process";
import { fail } from "../shared/errors.ts";

export type GitResult = { exitCode: number; stdout: Buffer; stderr: string };

/** The git program in an environment of our own: nothing of the user's or the system's configuration reaches it. */
export type GitCommand = {
  /** The environment for a git process that is spawned rather than run to its end, with `settings` on top of its configuration. */
  environment(settings?: Record<string, string>): Record<string, string>;
  /**
   * Runs git to its end. `input` is its standard input.
   * Output beyond `maxBytes` (default 64 MiB) stops it: then `cut` is true and `stdout` holds the beginning.
   * @throws GIT_FAILED when the exit code is not in `okExitCodes` (default only 0) or git cannot be started
   */
  run(
    args: string[],
    options?: { input?: string; okExitCodes?: number[]; maxBytes?: number },
  ): Promise<GitResult & { cut: boolean }>;
};

/** `searchPath` is a PATH in which git is found. */
export function gitCommand(searchPath: string): GitCommand {
  const environment = (settings: Record<string, string> = {}) => gitEnvironment(searchPath, settings);
  const env = environment();
  return {
    environment,
    run: (args, options = {}) =>
      new Promise((resolve, reject) => {
        const { input = "", okExitCodes = [0], maxBytes = 64 * 1024 * 1024 } = options;
        const child = execFile(
          "git",
          args,
          { env, encoding: "buffer", maxBuffer: maxBytes },
          (error, stdout, stderrBytes) => {
            const stderr = stderrBytes.toString("utf8").trim();
            if (error?.code === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER") {
              return resolve({ exitCode: 0, stdout, stderr, cut: true });
            }
            const exitCode = error === null ? 0 : typeof error.code === "number" ? error.code : undefined;
            if (exitCode !== undefined && okExitCodes.includes(exitCode)) {
              return resolve({ exitCode, stdout, stderr, cut: false });
            }
            reject(gitFailed(args, stderr, error));
          },
        );
        // git may end before it read everything; its exit code tells, not this.
        child.stdin?.on("error", () => {});
        child.stdin?.end(input);
      }),
  };
}

function gitEnvironment(searchPath: string, settings: Record<string, string>): Record<string, string> {
  return {
    PATH: searchPath,
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    // A pushed refs/replace/… must not make a commit read as another one.
    GIT_NO_REPLACE_OBJECTS: "1",
    // The directory is ours by construction, whichever user owns the volume it lies on.
    ...asVariables({ "safe.directory": "*", ...settings }),
  };
}

/** Settings of one git run as environment variables (git-config(1), GIT_CONFIG_COUNT). */
function asVariables(settings: Record<string, string>): Record<string, string> {
  const entries = Object.entries(settings);
  const pairs = entries.flatMap(([key, value], n) => [
    [`GIT_CONFIG_KEY_${n}`, key],
    [`GIT_CONFIG_VALUE_${n}`, value],
  ]);
  return { GIT_CONFIG_COUNT: String(entries.length), ...Object.fromEntries(pairs) };
}

function gitFailed(args: string[], stderr: string, cause: unknown) {
  const missing = typeof cause === "object" && cause !== null && "code" in cause && cause.code === "ENOENT";
  const verb = args.find((arg) => !arg.startsWith("-")) ?? "git";
  if (missing) return fail("GIT_FAILED", { message: "The git program was not found.", hint: "Install git.", cause });
  return fail("GIT_FAILED", { message: `git ${verb} failed: ${stderr || String(cause)}`, cause });
}
