import type { Colors } from "picocolors/types.js";
import { ERRORS, errorCode } from "../shared/errors.ts";
import type { ExitCode } from "./context.ts";
import { ServerFailure } from "./request.ts";

/** What is told of a thrown value: what happened, then what to do next, on lines of their own. */
export function renderProblem(error: unknown, colors: Colors): string[] {
  const { message, hint } = describe(error);
  const [first = "", ...rest] = message.split("\n");
  return [`${colors.red("✗")} ${first}`, ...rest.map((line) => `  ${line}`.trimEnd()), ...renderHint(hint, colors)];
}

/** The next thing to do; further lines (an example) stand under the first. */
export function renderHint(hint: string, colors: Colors): string[] {
  const [first = "", ...rest] = hint.trimEnd().split("\n");
  return [`  ${colors.cyan("→")} ${first}`, ...rest.map((line) => `    ${line}`.trimEnd())];
}

export function exitCodeOf(error: unknown): ExitCode {
  const code = errorCode(error);
  return code === undefined ? 70 : ERRORS[code].exit;
}

function describe(error: unknown): { message: string; hint: string } {
  if (errorCode(error) !== undefined) {
    const { message, hint } = error as { message: string; hint?: string };
    return { message, hint: hint ?? "Try again; `shipway doctor` looks for the cause on the server's machine." };
  }
  if (error instanceof ServerFailure) {
    const where = error.requestId === undefined ? "" : ` Its log has it under request ${error.requestId}.`;
    return { message: `Shipway failed inside: ${error.message}`, hint: `This is our fault, not yours.${where}` };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    message: `The command line failed inside: ${text}`,
    hint: "This is our fault, not yours: please report the lines above.",
  };
}
