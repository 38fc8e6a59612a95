import { toProblem } from "../../shared/errors.ts";
import type { Check } from "../doctor.ts";

/** Something was found out, and it is not as it must be. */
export class Disproved extends Error {
  readonly fix: string | undefined;
  readonly figures: Record<string, number> | undefined;
  constructor(found: string, { fix, figures }: { fix?: string; figures?: Record<string, number> } = {}) {
    super(found);
    this.fix = fix;
    this.figures = figures;
  }
}

export type Found = string | { found: string; status?: "ok" | "warn"; fix?: string; figures?: Record<string, number> };

/** Looks; what is disproved, or could not be found out, is a failed line, and what an interruption cut off says nothing. */
export async function look(name: string, find: () => Promise<Found>, interrupted: AbortSignal): Promise<Check> {
  const wasInterrupted = interrupted.aborted;
  try {
    const found = await find();
    return { name, status: "ok", ...(typeof found === "string" ? { found } : found) };
  } catch (error) {
    if (interrupted.aborted && !wasInterrupted) return { name, status: "skip", found: "interrupted" };
    return { name, status: "fail", ...describe(error) };
  }
}

function describe(error: unknown): Omit<Check, "name" | "status"> {
  if (error instanceof Disproved) {
    const { message, fix, figures } = error;
    return { found: message, ...(fix !== undefined && { fix }), ...(figures !== undefined && { figures }) };
  }
  const { message, hint } = toProblem(error);
  return { found: message, ...(hint !== undefined && { fix: hint }) };
}
