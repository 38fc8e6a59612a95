import type { z } from "zod";
import { didYouMean } from "../shared/yaml-problems.ts";
import { type JsonSchema, knownKeysAt } from "./json-schema.ts";

type Issue = z.core.$ZodIssue;
type Path = PropertyKey[];

/** One thing wrong with a value, in our words; `at` says whether the key or the value is to be underlined. */
export type FieldProblem = { path: Path; at: "key" | "value"; message: string };

/** Keys that people bring along from other tools → where the same thing is written here. */
const KNOWN_ELSEWHERE: Record<string, string> = {
  cmd: "command",
  databases: "backing",
  dockerfile: "build.dockerfile",
  entrypoint: "command",
  environment: "env",
  envs: "env",
  healthcheck: "health",
  host: "domains",
  hosts: "domains",
  instances: "count",
  migrate: "release",
  name: "app",
  replicas: "count",
  scale: "count",
  variables: "env",
};
const MAX_QUOTED = 40;

/** What zod found, as problems a person can act on. `raw` is the value that was checked. */
export function fieldProblems(issues: readonly Issue[], raw: unknown, schema: JsonSchema): FieldProblem[] {
  return issues.flatMap((issue) => problemsOf(issue, raw, schema));
}

/** The value at `path` of plain data; undefined where it does not exist. */
function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  let here = data;
  for (const segment of path) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, segment)) return undefined;
    here = (here as Record<PropertyKey, unknown>)[segment];
  }
  return here;
}

function problemsOf(issue: Issue, raw: unknown, schema: JsonSchema): FieldProblem[] {
  if (issue.code === "unrecognized_keys") {
    const known = knownKeysAt(schema, issue.path);
    return issue.keys.map((key) => ({ path: [...issue.path, key], at: "key", message: unknownKey(key, known) }));
  }
  const key = String(issue.path.at(-1) ?? "");
  if (issue.code === "invalid_key") {
    return [
      { path: issue.path, at: "key", message: `"${key}" cannot be used as a name here: ${issue.issues[0]?.message}` },
    ];
  }
  const value = valueAt(raw, issue.path);
  if (value === undefined) return [missing(issue, schema)];
  const label = typeof issue.path.at(-1) === "number" ? `entry ${Number(issue.path.at(-1)) + 1}` : key;
  if (value === null)
    return [{ path: issue.path, at: "key", message: `${label} has no value: write ${wanted(issue)}` }];
  if (issue.code === "invalid_union") {
    const deeper = issue.errors.find(
      (branch) =>
        branch.length > 0 && branch.every(({ path, code }) => path.length > 0 || code === "unrecognized_keys"),
    );
    if (deeper)
      return deeper.flatMap((inner) =>
        problemsOf({ ...inner, path: [...issue.path, ...inner.path] } as Issue, raw, schema),
      );
  }
  return [{ path: issue.path, at: "value", message: sentence(label, issue, value) }];
}

function unknownKey(key: string, known: string[]): string {
  const elsewhere = Object.hasOwn(KNOWN_ELSEWHERE, key) ? KNOWN_ELSEWHERE[key] : undefined;
  const sameHere = elsewhere !== undefined && known.includes(elsewhere.split(".")[0] ?? "") ? elsewhere : undefined;
  const meant = sameHere ?? didYouMean(key, known);
  if (meant !== undefined) return `unknown key "${key}" – did you mean "${meant}"?`;
  return `unknown key "${key}": this place takes ${known.join(", ")}`;
}

function missing(issue: Issue, schema: JsonSchema): FieldProblem {
  const parent = issue.path.slice(0, -1);
  const where = parent.length === 0 ? "the file" : String(parent.at(-1));
  const key = String(issue.path.at(-1));
  const about = describe(schema, issue.path);
  return { path: parent, at: "key", message: `${where} needs "${key}"${about === undefined ? "" : `: ${about}`}` };
}

function describe(schema: JsonSchema, path: readonly PropertyKey[]): string | undefined {
  let here: JsonSchema | undefined = schema;
  for (const segment of path) {
    const free: JsonSchema | undefined =
      typeof here?.additionalProperties === "object" ? here.additionalProperties : undefined;
    here = typeof segment === "number" ? here?.items : (here?.properties?.[String(segment)] ?? free);
  }
  const text = here?.description;
  return text === undefined ? undefined : (text.charAt(0).toLowerCase() + text.slice(1)).replace(/\.$/, "");
}

function sentence(label: string, issue: Issue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      // A schema with words of its own for a wrong type says more than the type's name.
      return issue.message.startsWith("Invalid input")
        ? `${label} must be ${wanted(issue)}, not ${describeValue(value)}`
        : `${label} is ${describeValue(value)}: ${issue.message}`;
    case "invalid_union":
    case "invalid_value":
      return `${label} must be ${wanted(issue)}, not ${describeValue(value)}${suggestion(issue, value)}`;
    case "too_small":
      if (issue.origin === "string") return `${label} must not be empty`;
      if (issue.origin === "array") return `${label} needs at least ${issue.minimum} entry`;
      return `${label} must be at least ${issue.minimum}, not ${describeValue(value)}`;
    case "too_big":
      return `${label} must be at most ${issue.maximum}, not ${describeValue(value)}`;
    default:
      return isScalar(value) ? `${label} is ${describeValue(value)}: ${issue.message}` : `${label}: ${issue.message}`;
  }
}

/** What the schema would take, as in "must be …" and "write …". */
function wanted(issue: Issue): string {
  if (issue.code === "invalid_value") return oneOf(issue.values.map(String));
  if (issue.code === "invalid_type") return TYPE_WORDS[issue.expected] ?? issue.expected;
  if (issue.code === "invalid_union") return oneOf([...new Set(issue.errors.flat().map(wanted))]);
  return "a value";
}

const TYPE_WORDS: Record<string, string> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true/false",
  array: "a list",
  object: "a mapping (key: value)",
  record: "a mapping (name: value)",
};

function oneOf(words: string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function suggestion(issue: Issue, value: unknown): string {
  if (issue.code !== "invalid_value" || typeof value !== "string") return "";
  const meant = didYouMean(value, issue.values.map(String));
  return meant === undefined ? "" : ` – did you mean "${meant}"?`;
}

function describeValue(value: unknown): string {
  if (typeof value === "string") {
    return `"${value.length > MAX_QUOTED ? `${value.slice(0, MAX_QUOTED)}…` : value}"`.replace(/\n/g, " ");
  }
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a mapping" : String(value);
}

function isScalar(value: unknown): boolean {
  return typeof value !== "object";
}
