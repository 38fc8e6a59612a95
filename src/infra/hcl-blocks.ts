/** A block at the top of a Terraform file: `output "db_url" {` → output, db_url. */
export type HclBlock = { type: string; labels: string[] };

const IDENTIFIER = /[\p{L}_][\p{L}\p{N}_-]*/uy;
const HEREDOC = /<<-?([\p{L}_][\p{L}\p{N}_-]*)[^\S\n]*\r?\n/uy;
const OPENING = new Set(["{", "[", "("]);
const CLOSING = new Set(["}", "]", ")"]);

/**
 * The blocks at the top of a file, with comments, quoted texts (templates in them, too) and heredocs skipped. Undefined where the text does not come out
 * even: whoever refuses something because of this must be sure, and Terraform itself says what is wrong.
 */
export function topLevelBlocks(text: string): HclBlock[] | undefined {
  const blocks: HclBlock[] = [];
  let depth = 0;
  let words: string[] = [];
  for (let at = 0; at < text.length; ) {
    const next = skipped(text, at);
    if (next === undefined) return undefined;
    if (next > at) {
      // A text in quotes at the top is a label, or a value that the end of its line drops.
      if (depth === 0 && text[at] === '"') words.push(text.slice(at + 1, next - 1));
      at = next;
      continue;
    }
    const word = depth === 0 ? matchAt(IDENTIFIER, text, at)?.[0] : undefined;
    if (word !== undefined) {
      words.push(word);
      at += word.length;
      continue;
    }
    const character = text[at] ?? "";
    if (OPENING.has(character)) {
      const [type, ...labels] = words;
      if (depth === 0 && character === "{" && type !== undefined) blocks.push({ type, labels });
      depth += 1;
      words = [];
    } else if (CLOSING.has(character)) depth -= 1;
    else if (character === "\n" || character === "=") words = [];
    if (depth < 0) return undefined;
    at += 1;
  }
  return depth === 0 ? blocks : undefined;
}

/** Where what begins here and has no structure of its own ends: a comment, a text, a heredoc. `at` itself when nothing such begins. */
function skipped(text: string, at: number): number | undefined {
  if (text[at] === "#" || text.startsWith("//", at)) return lineEnd(text, at);
  if (text.startsWith("/*", at)) return after(text, "*/", at + 2);
  if (text[at] === '"') return quotedEnd(text, at);
  return text.startsWith("<<", at) ? heredocEnd(text, at) : at;
}

/** Behind the closing quote; `"${lower("x")}"` holds quotes of its own. */
function quotedEnd(text: string, start: number): number | undefined {
  for (let at = start + 1; at < text.length; ) {
    if (text[at] === "\\") at += 2;
    else if (text[at] === '"') return at + 1;
    else if (text[at] === "\n") return undefined;
    else if (text.startsWith("$${", at) || text.startsWith("%%{", at)) at += 3;
    else if (text.startsWith("${", at) || text.startsWith("%{", at)) {
      const end = templateEnd(text, at + 2);
      if (end === undefined) return undefined;
      at = end;
    } else at += 1;
  }
  return undefined;
}

/** Behind the brace that closes a template. */
function templateEnd(text: string, start: number): number | undefined {
  let depth = 1;
  for (let at = start; at < text.length; ) {
    const next = skipped(text, at);
    if (next === undefined) return undefined;
    if (next > at) {
      at = next;
      continue;
    }
    if (text[at] === "{") depth += 1;
    if (text[at] === "}") depth -= 1;
    at += 1;
    if (depth === 0) return at;
  }
  return undefined;
}

/** Behind the line that holds the heredoc's word alone; indented or not, Terraform takes both. */
function heredocEnd(text: string, at: number): number | undefined {
  const opened = matchAt(HEREDOC, text, at);
  if (opened === undefined) return at;
  for (let line = at + opened[0].length; line < text.length; line = lineEnd(text, line) + 1) {
    if (text.slice(line, lineEnd(text, line)).trim() === opened[1]) return lineEnd(text, line);
  }
  return undefined;
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end === -1 ? text.length : end;
}

function after(text: string, what: string, from: number): number | undefined {
  const at = text.indexOf(what, from);
  return at === -1 ? undefined : at + what.length;
}

function matchAt(sticky: RegExp, text: string, at: number): RegExpExecArray | undefined {
  sticky.lastIndex = at;
  return sticky.exec(text) ?? undefined;
}
