/** Says whether a path of the build context (`a/b.txt`, no leading slash) is left out. */
export type IgnoreRule = (path: string) => boolean;

type Piece = { literal: string } | { any: "one" | "name" | "path" | "folders" } | { oneOf: string; not: boolean };
type Pattern = { negated: boolean; pieces: Piece[] };

/**
 * The rules of a `.dockerignore` file. BuildKit does not apply the file when it gets the context as a tar stream (seen with Docker Engine 20.10), so we do,
 * as moby's `patternmatcher` does: the last pattern that matches a path or one of its folders decides, and `!` takes a path back in.
 * Patterns are walked, not turned into regular expressions: one that is made to backtrack would stop the whole process.
 */
export function parseDockerIgnore(text: string): IgnoreRule {
  const patterns = text
    .replace(/^\ufeff/, "")
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .map((line) => line.trim())
    .flatMap(parsePattern);
  const folders = new Map<string, boolean[]>([["", patterns.map(() => false)]]);
  /** Which patterns match `path` itself or a folder above it. */
  const matchesOf = (path: string): boolean[] => {
    const above = foldersOf(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
    return patterns.map(({ pieces }, index) => above[index] === true || matches(pieces, path));
  };
  const foldersOf = (folder: string): boolean[] => {
    const known = folders.get(folder);
    if (known) return known;
    const found = matchesOf(folder);
    folders.set(folder, found);
    return found;
  };
  return (path) => {
    const last = matchesOf(path).lastIndexOf(true);
    return last !== -1 && patterns[last]?.negated === false;
  };
}

function parsePattern(line: string): Pattern[] {
  const negated = line.startsWith("!");
  const cleaned = cleanPath(negated ? line.slice(1).trim() : line);
  return cleaned === "" ? [] : [{ negated, pieces: parsePieces(cleaned) }];
}

/** As Go's `filepath.Clean` and without leading slashes: `./a//b/../c/` → `a/c`; "." (everything) has no effect in moby either. */
function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function parsePieces(pattern: string): Piece[] {
  const pieces: Piece[] = [];
  for (let at = 0; at < pattern.length; ) {
    const rest = pattern.slice(at);
    const token = /^\*\*+\/?|^\*|^\?|^\[\^?\]?[^\]]*\]|^\\./s.exec(rest)?.[0] ?? rest.charAt(0);
    pieces.push(toPiece(token));
    at += token.length;
  }
  return pieces;
}

function toPiece(token: string): Piece {
  if (token.startsWith("**")) return { any: token.endsWith("/") ? "folders" : "path" };
  if (token === "*") return { any: "name" };
  if (token === "?") return { any: "one" };
  if (token.length > 1 && token.startsWith("[")) {
    const not = token.startsWith("[^");
    return { oneOf: token.slice(not ? 2 : 1, -1), not };
  }
  return { literal: token.length > 1 && token.startsWith("\\") ? token.slice(1) : token };
}

function matches(pieces: readonly Piece[], path: string): boolean {
  let places = new Set([0]);
  for (const piece of pieces) {
    const next = new Set<number>();
    for (const place of places) for (const end of endsOf(piece, path, place)) next.add(end);
    if (next.size === 0) return false;
    places = next;
  }
  return places.has(path.length);
}

function endsOf(piece: Piece, path: string, place: number): number[] {
  if ("literal" in piece) return path.startsWith(piece.literal, place) ? [place + piece.literal.length] : [];
  const char = path[place];
  if ("oneOf" in piece) return char !== undefined && inClass(piece.oneOf, char) !== piece.not ? [place + 1] : [];
  if (piece.any === "one") return char !== undefined && char !== "/" ? [place + 1] : [];
  const slash = path.indexOf("/", place);
  const last = piece.any === "name" && slash !== -1 ? slash : path.length;
  const ends = Array.from({ length: last - place + 1 }, (_, step) => place + step);
  // `**/` is no folder or any number of whole ones.
  return piece.any === "folders" ? ends.filter((end) => end === place || path[end - 1] === "/") : ends;
}

/** `a-z_` without its brackets. */
function inClass(members: string, char: string): boolean {
  for (let at = 0; at < members.length; at++) {
    const from = members[at] === "\\" ? (members[++at] ?? "") : (members[at] ?? "");
    const to = members[at + 1] === "-" ? members[at + 2] : undefined;
    if (to === undefined ? char === from : char >= from && char <= to) return true;
    if (to !== undefined) at += 2;
  }
  return false;
}
