import type { Colors } from "picocolors/types.js";
import type { Check } from "./doctor.ts";

const SIGNS = { ok: "✓", warn: "!", fail: "✗", skip: "–" } as const;

/** A line each, and one below it with what is to be done. `width`: of the column of names, where not all checks are known yet. */
export function renderChecks(checks: readonly Check[], colors: Colors, width = widthOf(checks)): string[] {
  const paint = { ok: colors.green, warn: colors.yellow, fail: colors.red, skip: colors.dim };
  return checks.flatMap(({ name, status, found, fix }) => [
    `${paint[status](SIGNS[status])} ${name.padEnd(width)}  ${found}`,
    ...(fix === undefined || status === "ok" ? [] : [`  ${" ".repeat(width)}  ${colors.cyan("→")} ${fix}`]),
  ]);
}

const widthOf = (checks: readonly { name: string }[]): number => Math.max(0, ...checks.map(({ name }) => name.length));
