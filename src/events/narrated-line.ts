/** `remote: ` takes 8 more columns, and then a terminal of 100 still holds a line. */
export const WIDTH = 90;

/** What users and their programs wrote, without what could move the cursor, colour or clear a terminal. */
export function plain(text: string): string {
  return text
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g, "")
    .replace(/\t/g, "  ")
    .replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ")
    .trimEnd();
}

/**
 * The text after `sign`; its further lines stand under the first. A line that is too long is broken at spaces, a word that is too long (an address,
 * a command) stays whole. Quoted source (`  3 | key: value` and its carets) is cut instead: broken, the carets would point elsewhere.
 */
export function wrap(sign: string, text: string): string[] {
  const indent = " ".repeat([...sign].length);
  return text
    .trimEnd()
    .split("\n")
    .flatMap((line, index) => wrapOne(index === 0 ? sign : indent, indent, plain(line)))
    .map((line) => line.trimEnd());
}

function wrapOne(first: string, indent: string, text: string): string[] {
  if ([...first].length + [...text].length <= WIDTH) return [first + text];
  if (/^\s*\d*\s*\|/.test(text)) return [cutText(first + text, WIDTH)];
  const own = /^ */.exec(text)?.[0] ?? "";
  const lines: string[] = [];
  let line = first + own;
  let isEmpty = true;
  for (const word of words(text)) {
    if (!isEmpty && [...line].length + 1 + [...word].length > WIDTH) {
      lines.push(line);
      line = indent + own;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line];
}

/** Split at spaces, but what stands between backticks is copied by people: it stays in one piece. */
function words(text: string): string[] {
  return text.match(/[^\s`]*`[^`]*`[^\s`]*|\S+/g) ?? [];
}

/** One line from a head, a middle that may be cut, and a tail. */
export function cutLine(head: string, middle: string, tail: string): string {
  const room = Math.max(10, WIDTH - [...head].length - [...tail].length - 2);
  return `${head}  ${cutText(middle, room)}${tail}`;
}

export function cutText(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join("")}…`;
}

/** A line of somebody else's output. */
export function quoteLine(text: string): string {
  return cutText(`      | ${plain(text)}`, WIDTH).trimEnd();
}

export const hint = (text: string) => `  → ${text}`;
