import {
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  visit,
} from "yaml";

/** A place in a YAML text, 1-based; `length` is how many characters the caret line underlines. */
export type YamlPosition = { line: number; column: number; length: number };

export type YamlProblem = { line: number; column: number; length?: number; message: string };

/** A parsed YAML text that still knows where everything stands. */
export type YamlSource = { doc: Document.Parsed; text: string; lines: LineCounter };

const MAX_BYTES = 1024 * 1024;
/** More expansions of one document than any real file needs; a file that wants more is an attack ("billion laughs"). */
const MAX_ALIASES = 1_000;
const MAX_SHOWN_WIDTH = 140;

/** The parser's errors that people meet most, in words that say what to do. */
const PARSER_WORDS: Partial<Record<ErrorCode, string>> = {
  BLOCK_AS_IMPLICIT_KEY: 'a value that contains ": " must be in quotes, or begin on a line of its own',
  DUPLICATE_KEY: "this key is written twice: keys must be unique",
  MULTIPLE_DOCS: "a second YAML document begins here: the file must hold one",
  TAB_AS_INDENT: "tabs are not allowed as indentation: use spaces",
};

/**
 * Reads YAML with merge keys and keeps the positions. Problems of the YAML itself (syntax, size, aliases that lead nowhere or to themselves) come
 * back as `problems`, not as an exception; `source.doc` must only be used when there are none.
 * `duplicateKeys: "last-wins"` is for formats whose own reader accepts a key twice.
 */
export function readYaml(
  text: string,
  options: { duplicateKeys?: "problem" | "last-wins" } = {},
): { source: YamlSource; problems: YamlProblem[] } {
  const tooLarge = Buffer.byteLength(text) > MAX_BYTES;
  const lines = new LineCounter();
  const doc = parseDocument(tooLarge ? "" : text, {
    lineCounter: lines,
    merge: true,
    prettyErrors: false,
    uniqueKeys: options.duplicateKeys !== "last-wins",
  });
  const source = { doc, text, lines };
  if (tooLarge) return { source, problems: [{ line: 1, column: 1, message: "the file is larger than 1 MiB" }] };
  const problems = doc.errors.map(
    ({ code, message, pos }) =>
      unclosedProblem(source, message, pos[0]) ?? {
        ...positionAt(lines, pos[0], pos[1]),
        message: PARSER_WORDS[code] ?? lowerFirst(message),
      },
  );
  if (problems.length > 0) return { source, problems };
  return { source, problems: [...aliasProblems(source), ...mergeProblems(source)] };
}

/** The parser notices a bracket that is not closed only where something else begins, often lines later: what helps is where it was opened. */
function unclosedProblem(source: YamlSource, message: string, noticedAt: number): YamlProblem | undefined {
  const closing = /must be .*end with a ([}\]])$/.exec(message)?.[1];
  if (closing === undefined) return undefined;
  const opening = closing === "}" ? "{" : "[";
  let openedAt: number | undefined;
  visit(source.doc, {
    Collection: (_key, { range }) => {
      if (!range || source.text[range[0]] !== opening || range[0] >= noticedAt || range[1] < noticedAt) return;
      openedAt = range[0];
    },
  });
  if (openedAt === undefined) return undefined;
  return {
    ...positionAt(source.lines, openedAt, openedAt + 1),
    message: `this ${opening} is not closed: add the ${closing} it needs`,
  };
}

/**
 * Where `path` stands: the key of the last segment, or its value with `at: "value"`. Keys that arrive through an alias or a merge key are found where they are
 * written. When the path does not exist, its nearest ancestor that does.
 */
export function positionOf(
  source: YamlSource,
  path: readonly PropertyKey[],
  at: "key" | "value" = "key",
): YamlPosition {
  let node: unknown = source.doc.contents;
  let key: unknown;
  for (const segment of path) {
    const found = childOf(source.doc, node, segment);
    if (!found) return positionOfNode(source, key ?? node);
    node = found.value;
    key = found.key;
  }
  const value = positionOfNode(source, node);
  return at === "value" || key === undefined ? value : positionOfNode(source, key);
}

/** Where a node of the document stands; the start of the text for a node that was not written (an empty value). */
export function positionOfNode(source: YamlSource, node: unknown): YamlPosition {
  if (!isNode(node) || !node.range) return { line: 1, column: 1, length: 1 };
  return positionAt(source.lines, node.range[0], node.range[1]);
}

/** Every problem in the order of the file: `file.yml:12:7  message`, the line as the user wrote it, and a caret line under the place. */
export function renderYamlProblems(text: string, file: string, problems: readonly YamlProblem[]): string {
  const lines = text.split(/\r?\n/);
  const inOrder = [...problems].sort((a, b) => a.line - b.line || a.column - b.column);
  return inOrder.map((problem) => renderOne(lines, file, problem)).join("\n\n");
}

/** The candidate the user probably meant by `word`, or undefined when none is near. */
export function didYouMean(word: string, candidates: readonly string[]): string | undefined {
  const allowed = word.length <= 4 ? 1 : word.length <= 7 ? 2 : 3;
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ candidate, distance }) => distance <= allowed && distance < candidate.length)
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.candidate;
}

/** `unknown key "scripts" – did you mean "script"?`, the one wording for every file. */
export function unknownKeyMessage(key: string, known: readonly string[]): string {
  const meant = didYouMean(key, known);
  return meant === undefined ? `unknown key "${key}"` : `unknown key "${key}" – did you mean "${meant}"?`;
}

function renderOne(lines: readonly string[], file: string, problem: YamlProblem): string {
  const head = `${file}:${problem.line}:${problem.column}  ${problem.message}`;
  const source = lines[problem.line - 1];
  if (source === undefined) return head;
  // A minified or generated line would fill the screen: show the part around the place.
  const from = problem.column > MAX_SHOWN_WIDTH - 20 ? problem.column - 20 : 0;
  const shown = source.slice(from, from + MAX_SHOWN_WIDTH).replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "?");
  const before = shown.slice(0, problem.column - 1 - from).replace(/[^\t]/g, " ");
  const width = Math.max(1, Math.min(problem.length ?? 1, shown.length - before.length));
  const number = String(problem.line).padStart(5);
  return `${head}\n${number} | ${shown}\n${" ".repeat(number.length)} | ${before}${"^".repeat(width)}`;
}

function positionAt(lines: LineCounter, start: number, end: number): YamlPosition {
  const { line, col } = lines.linePos(start);
  const last = lines.linePos(Math.max(start, end));
  // The caret line can underline one line only: a node that goes on is underlined at its first character.
  const length = last.line === line ? Math.max(1, last.col - col) : 1;
  return { line: Math.max(1, line), column: Math.max(1, col), length };
}

function childOf(
  doc: Document.Parsed,
  node: unknown,
  segment: PropertyKey,
): { key?: unknown; value: unknown } | undefined {
  const target = isAlias(node) ? node.resolve(doc) : node;
  if (isSeq(target)) {
    const index = Number(segment);
    return index < target.items.length ? { value: target.items[index] } : undefined;
  }
  if (!isMap(target)) return undefined;
  const own = target.items.findLast((pair) => keyText(pair) === String(segment));
  if (own) return { key: own.key, value: own.value ?? own.key };
  const merged = target.items.filter((pair) => keyText(pair) === "<<").flatMap(({ value }) => mergeSources(doc, value));
  for (const from of merged) {
    const found = childOf(doc, from, segment);
    if (found) return found;
  }
  return undefined;
}

function mergeSources(doc: Document.Parsed, value: unknown): unknown[] {
  const target = isAlias(value) ? value.resolve(doc) : value;
  return isSeq(target) ? target.items : [target];
}

function keyText({ key }: Pair): string {
  if (!isScalar(key)) return "";
  // The parser represents the merge key `<<` as a symbol of that description.
  return typeof key.value === "symbol" ? (key.value.description ?? "") : String(key.value);
}

/** The parser resolves aliases lazily: find here, with a place, those that lead nowhere, to themselves, or multiply without end. */
function aliasProblems(source: YamlSource): YamlProblem[] {
  const problems: YamlProblem[] = [];
  const sizes = new Map<Node, number>();
  const open = new Set<Node>();
  /** How many aliases are followed when `node` is expanded in full. */
  const expansions = (node: Node | null): number => {
    if (!node) return 0;
    const known = sizes.get(node);
    if (known !== undefined) return known;
    open.add(node);
    let count = 0;
    visit(node, {
      Alias: (_key, alias) => {
        const target = alias.resolve(source.doc);
        if (!target || open.has(target)) return;
        count += 1 + expansions(target);
      },
    });
    open.delete(node);
    sizes.set(node, count);
    return count;
  };
  visit(source.doc, {
    Alias: (_key, alias, ancestors) => {
      const target = alias.resolve(source.doc);
      const at = positionOfNode(source, alias);
      if (!target) problems.push({ ...at, message: `the anchor &${alias.source} is not defined before this line` });
      else if (ancestors.includes(target))
        problems.push({ ...at, message: `the alias *${alias.source} contains itself` });
    },
  });
  if (problems.length === 0 && expansions(source.doc.contents) > MAX_ALIASES) {
    problems.push({
      line: 1,
      column: 1,
      message: `the aliases of this file expand to more than ${MAX_ALIASES} copies`,
    });
  }
  return problems;
}

/** `<<: word`: the parser finds out only when the document is turned into plain data, and throws. */
function mergeProblems(source: YamlSource): YamlProblem[] {
  const problems: YamlProblem[] = [];
  visit(source.doc, {
    Pair: (_key, pair) => {
      if (keyText(pair) !== "<<" || !isScalar(pair.key) || pair.key.type !== "PLAIN") return;
      const from = mergeSources(source.doc, pair.value);
      if (from.every((node) => isMap(isAlias(node) ? node.resolve(source.doc) : node))) return;
      problems.push({
        ...positionOfNode(source, pair.key),
        message: "<< takes a mapping, an alias of one, or a list of them",
      });
    },
  });
  return problems;
}

function lowerFirst(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Insertions, deletions, replacements and swaps of two neighbours ("prot" for "port") that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      const crossed = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      const swapped = crossed ? (beforePrevious[column - 2] ?? Number.POSITIVE_INFINITY) + 1 : Number.POSITIVE_INFINITY;
      current.push(Math.min(replaced, swapped, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    [beforePrevious, previous] = [previous, current];
  }
  return previous[b.length] ?? 0;
}
