/**
 * The parts between the dots of an address such as `module.a["x.y"].aws_vpc.main[0]`: dots inside an instance key part nothing.
 */
function partsOf(text: string): string[] {
  const parts = [""];
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === "." && depth === 0) {
      parts.push("");
      continue;
    }
    if (char === '"' && depth > 0) quoted = !quoted;
    if (char === "[" && !quoted) depth++;
    if (char === "]" && !quoted) depth--;
    parts.push(`${parts.pop()}${char}`);
    // An escaped quote does not end a key.
    if (char === "\\" && quoted) parts.push(`${parts.pop()}${text.charAt(++at)}`);
  }
  return parts;
}

/** How many parts lead to the resource: `module.NAME` pairs, and `data`. */
function modulePartsOf(parts: readonly string[]): number {
  let count = 0;
  while (parts[count] === "module") count += 2;
  return count;
}

/** `aws_ecs_service.web.desired_count` → the resource's address and the attribute's path, which is empty where none is named. Undefined for what names no resource. */
export function splitAddress(text: string): { address: string; path: string } | undefined {
  const parts = partsOf(text);
  const modules = modulePartsOf(parts);
  const start = parts[modules] === "data" ? modules + 1 : modules;
  const end = start + 2;
  if (parts.length < end || parts.some((part) => part === "")) return undefined;
  return { address: parts.slice(0, end).join("."), path: parts.slice(end).join(".") };
}

/**
 * Whether a rule such as `aws_db_instance.*`, `module.db` or `aws_db_instance` is about this resource. `*` stands for any run of characters. A rule
 * that names no module holds in every one, one that names a module holds for all in it, one that gives no instance key for every instance, and a type
 * alone for every resource of it: a rule that protects too much is noticed, one that protects too little is noticed too late.
 */
export function matchesAddress(rule: string, address: string): boolean {
  return [...namesOf(address)].some((name) => matchesGlob(rule, name));
}

function namesOf(address: string): Set<string> {
  const keyed = partsOf(address);
  const last = keyed.at(-1) ?? "";
  const variants = [keyed, [...keyed.slice(0, -1), withoutKey(last)], keyed.map(withoutKey)];
  const names = variants.flatMap((parts) => {
    const modules = modulePartsOf(parts);
    const starts = Array.from({ length: modules / 2 + 1 }, (_, n) => 2 * n);
    const below = starts.map((start) => parts.slice(start).join("."));
    const inModules = starts.flatMap((start) =>
      starts.filter((end) => end > start).map((end) => parts.slice(start, end).join(".")),
    );
    return [...below, ...inModules, parts[modules] ?? ""];
  });
  return new Set(names);
}

const withoutKey = (part: string) => part.replace(/\[[\s\S]*\]$/, "");

/** Not a regular expression: a hostile rule would keep one backtracking. The last star alone is ever taken back. */
function matchesGlob(pattern: string, text: string): boolean {
  let at = 0;
  let place = 0;
  let star = -1;
  let resume = 0;
  while (place < text.length) {
    if (pattern[at] === "*") {
      star = at++;
      resume = place;
    } else if (at < pattern.length && pattern[at] === text[place]) {
      at++;
      place++;
    } else if (star >= 0) {
      at = star + 1;
      place = ++resume;
    } else return false;
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
