import type { ChangedAttribute } from "./infra-run.ts";

/** More would hide the one that matters. */
export const MOST_ATTRIBUTES = 40;
const LONGEST_VALUE = 120;
const SENSITIVE = "(sensitive)";
/** What stands for a value that only the apply will know. */
export const UNKNOWN = "(known after apply)";

export type Difference = {
  before: unknown;
  after: unknown;
  /** Trees of the shape of the value in which `true` marks what is sensitive. */
  beforeSensitive?: unknown;
  afterSensitive?: unknown;
  /** Where `true` marks what is not known yet. */
  afterUnknown?: unknown;
};

/** The leaves in which two values differ, in the order of their paths; sensitive ones by name only. All of them: show at most `MOST_ATTRIBUTES`. */
export const allChangedAttributes = (difference: Difference): ChangedAttribute[] => leavesOf(difference, "").map(shown);

/** One end of the same leaves, whole and with what is sensitive: to be compared, never to be shown or kept in clear. */
export const changedValues = (difference: Difference, end: "before" | "after"): [path: string, value: string][] =>
  leavesOf(difference, "").map((leaf) => [leaf.path, canonical(leaf[end] ?? null)]);

export const changedAttributes = (difference: Difference): ChangedAttribute[] =>
  allChangedAttributes(difference).slice(0, MOST_ATTRIBUTES);

type Leaf = { path: string; before: unknown; after: unknown; isHidden?: boolean; isUnknown?: boolean };

function shown({ path, before, after, isHidden, isUnknown }: Leaf): ChangedAttribute {
  if (isHidden) return { path, before: SENSITIVE, after: SENSITIVE };
  return { path, before: show(before), after: isUnknown ? UNKNOWN : show(after) };
}

function leavesOf(difference: Difference, path: string): Leaf[] {
  const { before, after, beforeSensitive, afterSensitive, afterUnknown } = difference;
  if (beforeSensitive === true || afterSensitive === true) {
    return isEqual(before, after) && afterUnknown !== true ? [] : [{ path, before, after, isHidden: true }];
  }
  if (afterUnknown === true) return [{ path, before, after, isUnknown: true }];
  if (isTree(before) && isTree(after) && Array.isArray(before) === Array.isArray(after)) {
    return keysOf(before, after, afterUnknown).flatMap((key) =>
      leavesOf(
        {
          before: at(before, key),
          after: at(after, key),
          beforeSensitive: at(beforeSensitive, key),
          afterSensitive: at(afterSensitive, key),
          afterUnknown: at(afterUnknown, key),
        },
        Array.isArray(before) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`,
      ),
    );
  }
  if (isEqual(before, after)) return [];
  // A whole branch that may hold something sensitive is not shown in one piece.
  const hides = hasTrue(beforeSensitive) || hasTrue(afterSensitive);
  return [{ path, before, after, isHidden: hides }];
}

function keysOf(...trees: unknown[]): string[] {
  return [...new Set(trees.flatMap((tree) => (isTree(tree) ? Object.keys(tree) : [])))];
}

const isTree = (value: unknown): value is object => typeof value === "object" && value !== null;
const at = (tree: unknown, key: string): unknown => (isTree(tree) ? (tree as Record<string, unknown>)[key] : undefined);

function hasTrue(tree: unknown): boolean {
  return tree === true || (isTree(tree) && Object.values(tree).some(hasTrue));
}

function isEqual(left: unknown, right: unknown): boolean {
  return canonical(left ?? null) === canonical(right ?? null);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) =>
    isTree(one) && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([left], [right]) => (left < right ? -1 : 1)))
      : one,
  );
}

function show(value: unknown): string {
  if (value === undefined || value === null) return "null";
  const text = JSON.stringify(value);
  return text.length <= LONGEST_VALUE ? text : `${text.slice(0, LONGEST_VALUE - 1)}…`;
}

/** Every sensitive text in a value: Terraform copies it into attributes that it does not mark. */
export function sensitiveTexts(value: unknown, sensitive: unknown): string[] {
  if (sensitive === true) return textsOf(value);
  if (!isTree(value) || !isTree(sensitive)) return [];
  return Object.keys(sensitive).flatMap((key) => sensitiveTexts(at(value, key), at(sensitive, key)));
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return isTree(value) ? Object.values(value).flatMap(textsOf) : [];
}
