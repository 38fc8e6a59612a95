// The layering of docs/architecture.md: the folder order is the data's path, and nobody reaches back or into another domain's drivers.
// Biome's import rules know no order of folders, and dependency-cruiser needs the TypeScript 5 compiler API that TypeScript 7 no longer has.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

/** Each folder may import those before it at run time; types may be imported from any domain. */
const ORDER = ["shared", "aws", "store", "events", "access", "source", "spec", "ci", "image", "environment", "infra", "rollout", "release", "notify", "workflow", "http", "provider", "cli"];
/** Wired at the top: they may import everything. */
const TOP = new Set(["main.ts", "control-plane.ts", "drivers.ts"]);
/** What edges and wiring alone may do. */
const EDGES = new Set(["http", "provider", "cli"]);
/** `flow.ts` is types and straight-line code over them. */
const FLOW = new Set(["flow.ts"]);

const src = join(import.meta.dirname, "..", "src");
const problems = [];
for (const file of readdirSync(src, { recursive: true }).filter((name) => name.endsWith(".ts") && !/(\.test|testing|contract)\.ts$/.test(name))) {
  const from = file.split("/")[0];
  if (TOP.has(file)) continue;
  for (const [, statement, specifier] of readFileSync(join(src, file), "utf8").matchAll(/(?:^|\n)((?:import|export)\b[^;]*?)from\s+"(\.[^"]+)"/g)) {
    const to = relative(src, normalize(join(dirname(join(src, file)), specifier)));
    const target = to.split("/")[0];
    const problem = whyNot(file, from, to, target, /^(?:import|export)\s+type\b/.test(statement));
    if (problem) problems.push(`src/${file} imports ${to}: ${problem}`);
  }
}
if (problems.length > 0) {
  console.error(`${problems.join("\n")}\nThe order is in docs/architecture.md.`);
  process.exit(1);
}
console.log("layers: in order");

function whyNot(file, from, to, target, onlyTypes) {
  if (target === from) return undefined;
  if (to.includes("/drivers/")) return "nobody imports another domain's drivers";
  if (TOP.has(to) && !(from === "cli" && to === "control-plane.ts")) return "the wiring imports domains, not the other way round";
  if (FLOW.has(to)) return onlyTypes ? undefined : "the flow is walked by the wiring alone";
  if (from === "shared") return "shared knows nothing of ours";
  if (FLOW.has(file)) return onlyTypes ? undefined : "the flow holds types and straight lines";
  if (EDGES.has(target) && !EDGES.has(from)) return "domains know no edge";
  if (onlyTypes) return undefined;
  if (target === "provider") return "the provider is a program of its own";
  if (from === "provider" && target !== "shared") return "the provider knows the API, and nothing behind it";
  if (ORDER.indexOf(target) > ORDER.indexOf(from)) return `${target} comes after ${from}`;
  return undefined;
}
