import { matchesRefGlob } from "../shared/ref-glob.ts";

/** A path glob of artifacts, cache keys and change sets: as for branches, and `**` + `/` also matches no directory at all, so that `**` + `/*.xml` finds one at the root. */
export function matchesPathGlob(pattern: string, path: string): boolean {
  return matchesRefGlob(pattern.replace(/^\.\//, "").replace(/(^|\/)(?:\*\*\/)+/g, "$1{,**/}"), path);
}

/**
 * Of the patterns that match, the one most specific about `name`: the exact name, else the one with the most literal characters, else the one with
 * fewer wildcards, else the first of the file. (Bitbucket: exactly one pipeline per section; `feature/bb-123-*` over `feature/bb-*`.)
 */
export function mostSpecific<T extends { pattern: string }>(candidates: readonly T[], name: string): T | undefined {
  const exact = candidates.find(({ pattern }) => pattern === name);
  if (exact) return exact;
  const matching = candidates.filter(({ pattern }) => matchesRefGlob(pattern, name));
  return matching.sort((a, b) => compareSpecificity(a.pattern, b.pattern))[0];
}

function compareSpecificity(a: string, b: string): number {
  const literals = (pattern: string) => pattern.replace(/[*?{},]/g, "").length;
  const wildcards = (pattern: string) => (pattern.match(/[*?]/g) ?? []).length;
  return literals(b) - literals(a) || wildcards(a) - wildcards(b);
}
