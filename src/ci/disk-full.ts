import { fail } from "../shared/errors.ts";

export function diskFull(doing: string, cause: unknown): Error {
  return fail("DISK_FULL", {
    message: `The disk is full: could not ${doing}.`,
    hint: "Free some space; `docker system df` shows what Docker uses.",
    cause,
  });
}
