import { errorCode, fail } from "../../../shared/errors.ts";

/** What the engine answered, as far as it is known: the client's errors carry the HTTP status or the system's code. */
type EngineError = { statusCode: number | undefined; systemCode: string | undefined; text: string };

const UNREACHABLE = new Set(["ECONNREFUSED", "ENOENT", "EACCES", "ECONNRESET", "EPIPE", "ETIMEDOUT"]);

/** Asks the engine; whatever goes wrong comes back with a public code and the words of what was being done. */
export async function asking<T>(doing: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw toDockerError(error, doing);
  }
}

/** As `asking`, but these HTTP statuses mean that the work is done already (304, 409) or that there is nothing to do (404). */
export async function askingUnless<T>(
  statuses: number[],
  doing: string,
  ask: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (statuses.includes(statusOf(error) ?? 0)) return undefined;
    throw toDockerError(error, doing);
  }
}

export function statusOf(error: unknown): number | undefined {
  return readError(error).statusCode;
}

/** The engine has no code for these: they are told apart here, once, by its text (moby 20.10 to 28). */
export function isSubnetOverlap(error: unknown): boolean {
  return /pool overlaps|address space/i.test(readError(error).text);
}

export function isAddressTaken(error: unknown): boolean {
  return /address already in use|no available IPv4 addresses/i.test(readError(error).text) && !isPortTaken(error);
}

/** The program of a container's or an exec's command cannot be started, with the exit code that shells and `docker run` give for it. */
export function notStartable(error: unknown): { exitCode: 126 | 127; text: string } | undefined {
  const { statusCode, text } = readError(error);
  if (statusCode !== undefined && statusCode < 400) return undefined;
  const words = /exec: .*$/ms.exec(text)?.[0]?.trim() ?? text;
  // The image's own entry point may be what is missing, which the quoted words show.
  if (/executable file not found|no such file or directory/i.test(words) && /exec/i.test(text))
    return { exitCode: 127, text: words };
  if (/permission denied|is a directory|exec format error/i.test(words) && /exec/i.test(text))
    return { exitCode: 126, text: words };
  return undefined;
}

function isPortTaken(error: unknown): boolean {
  return /port is already allocated|bind for .* failed|bind: address already in use|failed to bind/i.test(
    readError(error).text,
  );
}

/** @returns the error with a public code; one that has a code already is returned as it is */
export function toDockerError(error: unknown, doing: string): Error {
  if (errorCode(error) !== undefined && error instanceof Error) return error;
  const { statusCode, systemCode, text } = readError(error);
  if (statusCode === undefined && systemCode !== undefined && UNREACHABLE.has(systemCode)) {
    return fail("DOCKER_UNREACHABLE", {
      message: `${doing} failed: Docker does not answer (${systemCode}).`,
      hint:
        systemCode === "EACCES"
          ? "This user may not use Docker's socket: add it to the group `docker` and log in again, then run `shipway doctor`."
          : "Start Docker with `systemctl start docker`, then run `shipway doctor`.",
      cause: error,
    });
  }
  if (/no space left on device/i.test(text)) {
    return fail("DISK_FULL", {
      message: `${doing} failed: no space is left on Docker's disk.`,
      hint: "See what takes it with `docker system df`, and remove what nobody needs.",
      cause: error,
    });
  }
  if (isPortTaken(error)) {
    const port = /(?:0\.0\.0\.0|\[?::\]?|127\.0\.0\.1):(\d+)/.exec(text)?.[1];
    return fail("PORT_IN_USE", {
      message: `${doing} failed: port ${port ?? "asked for"} of this machine is taken.`,
      hint: `See by what with \`ss -ltnp${port === undefined ? "" : ` sport = :${port}`}\`, and stop it or choose another port.`,
      cause: error,
    });
  }
  if (/no such image|pull access denied|manifest unknown|repository does not exist/i.test(text)) {
    return fail("IMAGE_UNAVAILABLE", { message: `${doing} failed: ${text}`, cause: error });
  }
  return fail("DOCKER_FAILED", { message: `${doing} failed: ${text}`, cause: error });
}

function readError(error: unknown): EngineError {
  if (typeof error !== "object" || error === null) {
    return { statusCode: undefined, systemCode: undefined, text: String(error) };
  }
  const { statusCode, code, json, message } = error as Record<string, unknown>;
  const told = typeof json === "object" && json !== null ? (json as Record<string, unknown>).message : undefined;
  return {
    statusCode: typeof statusCode === "number" ? statusCode : undefined,
    systemCode: typeof code === "string" ? code : undefined,
    text: String(told ?? message ?? error),
  };
}
