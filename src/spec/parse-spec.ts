import { isMap, isScalar, type Node, type Pair, visit } from "yaml";
import { fail } from "../shared/errors.ts";
import {
  positionOf,
  positionOfNode,
  readYaml,
  renderYamlProblems,
  type YamlProblem,
  type YamlSource,
} from "../shared/yaml-problems.ts";
import { AppSpec } from "./app-spec.ts";
import { checkSpec, type SpecProblem } from "./check-spec.ts";
import { newJsonSchema } from "./json-schema.ts";
import { type FieldProblem, fieldProblems } from "./spec-problems.ts";

const MAX_BYTES = 256 * 1024;
/** A file that was never meant to be a spec can be wrong in thousands of places. */
const MAX_SHOWN = 40;
const SMALLEST = "app: shop\nservices:\n  web:\n    build: {}\n    port: 8080";

/**
 * The spec that `text` declares. All problems are found at once and shown under the user's own lines.
 * @throws SPEC_INVALID
 */
export function parseAppSpec(text: string, file = "shipway.yml"): AppSpec {
  const read = readSpec(text);
  if ("spec" in read) return read.spec;
  throw fail("SPEC_INVALID", {
    message: `${file} is not valid:\n\n${renderSome(text, file, read.problems)}`,
    hint: read.blank
      ? `Begin with the smallest ${file}:\n\n${SMALLEST}\n`
      : "Fix the places above, then run `shipway check` to validate without deploying.",
  });
}

/** Problems that only other files show, under the user's own lines of a spec that is valid. */
export function renderSpecProblems(text: string, file: string, problems: readonly SpecProblem[]): string {
  const { source } = readYamlDeep(text);
  return renderSome(
    text,
    file,
    problems.map((problem) => place(source, problem)),
  );
}

function renderSome(text: string, file: string, problems: YamlProblem[]): string {
  const inOrder = problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
  const shown = renderYamlProblems(text, file, inOrder.slice(0, MAX_SHOWN));
  return inOrder.length > MAX_SHOWN ? `${shown}\n\n… and ${inOrder.length - MAX_SHOWN} more` : shown;
}

type ReadSpec = { spec: AppSpec } | { problems: YamlProblem[]; blank?: boolean };

function readSpec(text: string): ReadSpec {
  const unreadable = unreadableText(text);
  if (unreadable) return { problems: [unreadable] };
  const { source, problems } = readYamlDeep(text);
  if (problems.length > 0) return { problems };
  if (!isMap(source.doc.contents)) return { problems: [notAMapping(source)], blank: true };
  const keys = keyProblems(source);
  if (keys.length > 0) return { problems: keys };
  keepNumbersAsWritten(source);
  const raw: unknown = source.doc.toJS({ maxAliasCount: -1 }); // `readYaml` counted them.
  const result = AppSpec.safeParse(raw);
  if (!result.success) {
    const fields = fieldProblems(result.error.issues, raw, newJsonSchema());
    return { problems: [...fields, ...checkTheRest(raw, fields)].map((problem) => place(source, problem)) };
  }
  const crossed = checkSpec(result.data);
  return crossed.length === 0 ? { spec: result.data } : { problems: crossed.map((problem) => place(source, problem)) };
}

/** Size and characters, before any parser sees the text. */
function unreadableText(text: string): YamlProblem | undefined {
  if (Buffer.byteLength(text) > MAX_BYTES) return { line: 1, column: 1, message: "the file is larger than 256 KiB" };
  const at = text.search(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ufffd]/);
  if (at === -1) return undefined;
  const before = text.slice(0, at).split("\n");
  const code = text.charCodeAt(at).toString(16).padStart(4, "0");
  const message = `this is not text: a character (U+${code}) that YAML does not allow; save the file as UTF-8`;
  return { line: before.length, column: (before.at(-1) ?? "").length + 1, message };
}

const TOO_DEEP: YamlProblem = { line: 1, column: 1, message: "the file is nested too deeply" };
/** What the parser makes of a RangeError of the engine that it caught itself. */
const STACK_OVERFLOW = "maximum call stack size exceeded";

/** The YAML parser descends by recursion: a text of a hundred thousand brackets ends in a stack overflow. */
function readYamlDeep(text: string): ReturnType<typeof readYaml> {
  try {
    const read = readYaml(text);
    const tags = read.source.doc.warnings.map(({ message, pos }): YamlProblem => {
      const { line, col } = read.source.lines.linePos(pos[0]);
      return {
        line,
        column: col,
        message: message.replace(/^Unresolved tag: (tag:yaml\.org,2002:)?/, "unknown YAML tag "),
      };
    });
    if (read.problems.some(({ message }) => message === STACK_OVERFLOW)) return { ...read, problems: [TOO_DEEP] };
    return { source: read.source, problems: [...read.problems, ...tags] };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { ...readYaml(""), problems: [TOO_DEEP] };
  }
}

function notAMapping({ doc, text }: YamlSource): YamlProblem {
  const blank = text.replace(/^\s*#.*$/gm, "").trim() === "" || (isScalar(doc.contents) && doc.contents.value === null);
  if (blank) return { line: 1, column: 1, message: "the file is empty" };
  const what = isScalar(doc.contents) ? "a single value" : "a list";
  return { line: 1, column: 1, message: `the file is ${what}: it must be a mapping with the keys app and services` };
}

/** `[a]: b` and `? {a: 1}` are YAML; the library would make text of such keys, with a warning on our stderr. */
function keyProblems(source: YamlSource): YamlProblem[] {
  const problems: YamlProblem[] = [];
  visit(source.doc, {
    Pair(_key, { key }: Pair) {
      if (key === null || isScalar(key)) return;
      problems.push({ ...positionOfNode(source, key), message: "a key must be a plain word" });
    },
  });
  return problems;
}

/**
 * `VERSION: 1.10` must not become "1.1", nor `TOKEN: 0123` become "123": where the schema wants text, a number that would change keeps the
 * characters the user wrote.
 */
function keepNumbersAsWritten({ doc }: YamlSource): void {
  visit(doc, {
    Pair(_key, pair: Pair) {
      const key = isScalar(pair.key) ? pair.key.value : undefined;
      if (key === "version") keepSource(pair.value as Node | null);
      if ((key === "env" || key === "args") && isMap(pair.value)) {
        for (const { value } of pair.value.items) keepSource(value as Node | null);
      }
    },
  });
}

function keepSource(node: Node | null): void {
  if (!isScalar(node) || node.source === undefined) return;
  const changes = typeof node.value === "number" || typeof node.value === "boolean";
  if (changes && String(node.value) !== node.source) node.value = node.source;
}

/**
 * The rules across fields for what is left when the broken fields are taken out, so that they are shown in the same go. A rule about a service or
 * environment with a broken field is left out: it may only fail because of what was taken away.
 */
function checkTheRest(raw: unknown, fields: readonly FieldProblem[]): SpecProblem[] {
  // `ci` is one thing, and no list of things.
  const top = (path: readonly PropertyKey[]) =>
    path
      .slice(0, path[0] === "ci" ? 1 : 2)
      .map(String)
      .join("\0");
  const broken = new Set(fields.map(({ path }) => top(path)));
  if (fields.some(({ path }) => path.length < 3 && path[0] === "services")) return [];
  const rest = structuredClone(raw);
  for (const { path } of fields) remove(rest, path);
  const result = AppSpec.safeParse(rest);
  return result.success ? checkSpec(result.data).filter(({ path }) => !broken.has(top(path))) : [];
}

function remove(data: unknown, path: readonly PropertyKey[]): void {
  const last = path.at(-1);
  let here = data;
  for (const segment of path.slice(0, -1)) here = (here as Record<PropertyKey, unknown> | undefined)?.[segment];
  if (last !== undefined && typeof here === "object" && here !== null) Reflect.deleteProperty(here, last);
}

function place(source: YamlSource, { path, at, message }: FieldProblem | SpecProblem): YamlProblem {
  return { ...positionOf(source, path, at), message };
}
