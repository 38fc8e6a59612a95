import { isAlias, isMap, isScalar, isSeq, type Pair } from "yaml";
import {
  positionOfNode,
  unknownKeyMessage,
  type YamlPosition,
  type YamlProblem,
  type YamlSource,
} from "../shared/yaml-problems.ts";

/** A value of the file with aliases followed; `at` is where it is used, `key` the key it stands under. */
export type Field = { node: unknown; at: YamlPosition; key?: YamlPosition };
export type Fields = Map<string, Field & { key: YamlPosition }>;

/** Where a reader puts what it finds; readers go on after a problem, so that all are shown at once. */
export type Report = { problems: YamlProblem[]; notes: YamlProblem[] };

export function newReport(): Report {
  return { problems: [], notes: [] };
}

/** Reads typed values out of YAML nodes. Each `read…` returns undefined after reporting that the value has the wrong shape. */
export type YamlReader = ReturnType<typeof newYamlReader>;

export function newYamlReader(source: YamlSource) {
  const resolve = (node: unknown) => (isAlias(node) ? node.resolve(source.doc) : node);

  function fieldOf(node: unknown, key?: YamlPosition): Field {
    const resolved = resolve(node);
    const written = node === null || node === undefined || isEmptyScalar(node);
    const at = written && key ? key : positionOfNode(source, node);
    return key ? { node: resolved, at, key } : { node: resolved, at };
  }

  function keyOf({ key }: Pair): string {
    const scalar = resolve(key);
    if (!isScalar(scalar)) return "";
    return typeof scalar.value === "symbol" ? (scalar.value.description ?? "") : String(scalar.source ?? scalar.value);
  }

  /** The map's own keys win over those that `<<` brings, whichever comes first; of a key written twice the last counts. */
  function fieldsOf(map: { items: Pair[] }): Fields {
    const own: Fields = new Map();
    const merged: Fields = new Map();
    for (const pair of map.items) {
      const name = keyOf(pair);
      const key = positionOfNode(source, pair.key);
      if (name !== "<<") own.set(name, { ...fieldOf(pair.value, key), key });
      else for (const [from, field] of mergedFields(pair.value)) if (!merged.has(from)) merged.set(from, field);
    }
    return new Map([...merged, ...own]);
  }

  function mergedFields(value: unknown): Fields {
    const target = resolve(value);
    const maps = isSeq(target) ? target.items.map(resolve) : [target];
    return new Map(
      maps
        .filter(isMap)
        .reverse()
        .flatMap((map) => [...fieldsOf(map)]),
    );
  }

  return {
    root: (): Field => fieldOf(source.doc.contents),

    isEmpty: ({ node }: Field): boolean => node === null || node === undefined || isEmptyScalar(node),
    isMap: ({ node }: Field): boolean => isMap(node),
    isList: ({ node }: Field): boolean => isSeq(node),

    readMap(field: Field, what: string, report: Report): Fields | undefined {
      if (isMap(field.node)) return fieldsOf(field.node);
      report.problems.push({ ...field.at, message: `${what} must be a map of keys, not ${describe(field.node)}` });
      return undefined;
    },

    readList(field: Field, what: string, report: Report): Field[] | undefined {
      if (isSeq(field.node)) return field.node.items.map((item) => fieldOf(item));
      report.problems.push({ ...field.at, message: `${what} must be a list, not ${describe(field.node)}` });
      return undefined;
    },

    /** Numbers and booleans are taken as the user wrote them. */
    readText(field: Field, what: string, report: Report): string | undefined {
      const { node } = field;
      if (isScalar(node) && !isEmptyScalar(node)) {
        return typeof node.value === "string" ? node.value : String(node.source ?? node.value);
      }
      report.problems.push({ ...field.at, message: `${what} must be a text, not ${describe(node)}` });
      return undefined;
    },

    readTexts(field: Field, what: string, report: Report): string[] {
      const items = this.readList(field, what, report) ?? [];
      return items.flatMap((item) => this.readText(item, `an entry of ${what}`, report) ?? []);
    },

    readWholeNumber(field: Field, what: string, report: Report, minimum = 1): number | undefined {
      const value = isScalar(field.node) ? Number(field.node.value) : Number.NaN;
      if (isScalar(field.node) && field.node.value !== "" && Number.isSafeInteger(value) && value >= minimum)
        return value;
      report.problems.push({ ...field.at, message: `${what} must be a whole number from ${minimum} up` });
      return undefined;
    },

    /** Also `yes`, `no`, `on`, `off`: Bitbucket reads YAML 1.1. */
    readBoolean(field: Field, what: string, report: Report): boolean | undefined {
      const text = isScalar(field.node) ? String(field.node.value).toLowerCase() : "";
      if (["true", "yes", "on"].includes(text)) return true;
      if (["false", "no", "off"].includes(text)) return false;
      report.problems.push({ ...field.at, message: `${what} must be true or false` });
      return undefined;
    },

    /** Unknown keys are legal but are most often slips: each gets a note that says what was probably meant. */
    noteUnknown(fields: Fields, known: readonly string[], report: Report, likely = known): void {
      for (const [name, { key }] of fields) {
        if (!known.includes(name))
          report.notes.push({ ...key, message: `${unknownKeyMessage(name, likely)} It has no effect.` });
      }
    },
  };
}

function isEmptyScalar(node: unknown): boolean {
  return isScalar(node) && node.value === null;
}

function describe(node: unknown): string {
  if (isMap(node)) return "a map";
  if (isSeq(node)) return "a list";
  if (!isScalar(node) || node.value === null) return "empty";
  return JSON.stringify(node.value);
}
