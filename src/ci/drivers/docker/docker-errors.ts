import { errorCode, fail } from "../../../shared/errors.ts";
import { diskFull } from "../../disk-full.ts";

/** The public error for what the engine's client threw while `doing` (`start the step`). Errors that have a code already pass unchanged. */
export function toDockerError(error: unknown, doing: string): Error {
  if (errorCode(error) !== undefined && error instanceof Error) return error;
  const text = messageOf(error);
  if (isUnreachable(error)) {
    return fail("DOCKER_UNREACHABLE", {
      message: `Docker did not answer while trying to ${doing}: ${text}`,
      hint: "Start Docker with `systemctl start docker`; `shipway doctor` says whether it is well.",
      cause: error,
    });
  }
  if (/no space left on device|disk quota exceeded/i.test(text)) return diskFull(doing, error);
  return fail("DOCKER_FAILED", { message: `Docker could not ${doing}: ${text}`, cause: error });
}

/** HTTP status of the engine's answer, if it answered. */
export function statusOf(error: unknown): number | undefined {
  const status = typeof error === "object" && error !== null && "statusCode" in error ? error.statusCode : undefined;
  return typeof status === "number" ? status : undefined;
}

/** The engine's own sentence, without the client's wrapping. */
export function messageOf(error: unknown): string {
  const json = typeof error === "object" && error !== null && "json" in error ? error.json : undefined;
  if (typeof json === "object" && json !== null && "message" in json) return String(json.message);
  return error instanceof Error ? error.message : String(error);
}

const UNREACHABLE = [
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOENT",
  "EACCES",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "ERR_STREAM_PREMATURE_CLOSE",
];

function isUnreachable(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  return UNREACHABLE.includes(code) && statusOf(error) === undefined;
}
