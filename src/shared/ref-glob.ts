/**
 * The globs of `bitbucket-pipelines.yml` and `shipway.yml` for branch and tag names: `*` is any run of characters without `/`, `**` also over `/`,
 * `?` one character, `{a,b}` alternatives (nested and empty ones too); everything else stands for itself. The whole name must match; case counts.
 * There is no negation. (Bitbucket: "Use glob patterns on the Pipelines yaml file".) General glob libraries give `[`, `!`, `(` and a leading dot a meaning
 * that these files do not have.
 */
export function matchesRefGlob(pattern: string, name: string): boolean {
  // Not a regular expression: a hostile pattern such as *a*a*a*a*a*a would keep it backtracking for hours. Walking sets of places cannot.
  return reach(parseGlob(pattern), name, new Set([0])).has(name.length);
}

/** Why no branch or tag could ever match `pattern`, or undefined. */
export function refGlobProblem(pattern: string): string | undefined {
  if (pattern === "") return "is empty: write a name or a glob such as release/*";
  if (pattern.length > 250) return "is longer than any ref name";
  if (/^refs\//.test(pattern)) return `takes the short name: write ${pattern.replace(/^refs\/(heads|tags)\//, "")}`;
  // What git itself refuses in a ref name (git-check-ref-format); a pattern with it matches nothing.
  const never = /[\s~^:\\\u0000-\u001f\u007f]|\.\./.exec(pattern)?.[0];
  if (never !== undefined) return `contains ${JSON.stringify(never)}, which no branch or tag name can contain`;
  let depth = 0;
  for (const char of pattern) {
    if (char === "{") depth++;
    if (char === "}" && depth-- === 0) return "has a } without its {";
  }
  return depth > 0 ? "has a { without its }" : undefined;
}

type Node = { literal: string } | { any: "name" | "path" | "one" } | { oneOf: Node[][] };

/** The places in `name` that can be reached from `starts` by matching `nodes`. */
function reach(nodes: readonly Node[], name: string, starts: ReadonlySet<number>): ReadonlySet<number> {
  let places = starts;
  for (const node of nodes) {
    const next = new Set<number>();
    if ("oneOf" in node) for (const nodes of node.oneOf) for (const end of reach(nodes, name, places)) next.add(end);
    else for (const place of places) for (const end of endsOf(node, name, place)) next.add(end);
    places = next;
  }
  return places;
}

function endsOf(node: Exclude<Node, { oneOf: Node[][] }>, name: string, place: number): number[] {
  if ("literal" in node) return name.startsWith(node.literal, place) ? [place + node.literal.length] : [];
  if (node.any === "one") return place < name.length && name[place] !== "/" ? [place + 1] : [];
  const stop = node.any === "path" ? -1 : name.indexOf("/", place);
  const last = stop === -1 ? name.length : stop;
  return Array.from({ length: last - place + 1 }, (_, step) => place + step);
}

function parseGlob(pattern: string): Node[] {
  const parts = pattern.match(/\*+|[?{},]|[^*?{},]+/g) ?? [];
  let next = 0;
  const alternatives = (inBraces: boolean): Node[][] => {
    const all: Node[][] = [[]];
    const push = (node: Node) => all.at(-1)?.push(node);
    for (let part = parts[next++]; part !== undefined; part = parts[next++]) {
      if (part === "{") push({ oneOf: alternatives(true) });
      else if (part === "}" && inBraces) return all;
      else if (part === "," && inBraces) all.push([]);
      else if (part === "?") push({ any: "one" });
      else if (part === "*") push({ any: "name" });
      else if (part.startsWith("*")) push({ any: "path" });
      else push({ literal: part });
    }
    return all;
  };
  return alternatives(false).flat();
}
