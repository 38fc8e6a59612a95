import { posix } from "node:path";
import type { TerraformProgram } from "./terraform.ts";

/** Reads, in Terraform files that were never run, the three things that must be known before they are: version, backend, and what they are made of. */
export type TerraformFile = { name: string; text: string };

/** Where the state lies. `shipway`: the code names no place, so Shipway keeps it. */
export type Backend = { type: "shipway" } | { type: string; file: string };

/** OpenTofu reads `.tofu` files since 1.8 (its changelog). */
const readsTofuFiles = ({ product, version }: TerraformProgram): boolean =>
  product === "OpenTofu" && compare(version, "1.8") >= 0;

/** Which of a folder's files the program reads: of main.tf and main.tofu, OpenTofu takes the latter; Terraform knows no .tofu files. */
export function filesRead(names: readonly string[], program: TerraformProgram): string[] {
  if (!readsTofuFiles(program)) return names.filter((name) => /\.tf(\.json)?$/.test(name));
  return names.filter(
    (name) =>
      /\.tofu(\.json)?$/.test(name) ||
      (/\.tf(\.json)?$/.test(name) && !names.includes(name.replace(/\.tf(\.json)?$/, ".tofu$1"))),
  );
}

/** Folders of the modules that the files of `dir` call by a relative path; what leads out of the repository is left out. */
export function localModuleDirs(files: readonly TerraformFile[], dir: string): string[] {
  const dirs = files.flatMap(({ text }) =>
    [...withoutComments(text).matchAll(/(?:^|[\s{,])"?source"?\s*[=:]\s*"(\.\.?\/[^"$]*)"/g)].map(([, source = ""]) =>
      posix.normalize(posix.join(dir, source)).replace(/\/$/, ""),
    ),
  );
  return [...new Set(dirs)].filter((found) => found !== ".." && !found.startsWith("../"));
}

/** Without comments; texts in quotes and heredocs stay. */
function withoutComments(text: string): string {
  return text.replace(/"(?:\\.|[^"\\\n])*"|#[^\n]*|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (part) =>
    part.startsWith('"') ? part : " ",
  );
}

/** Every `required_version` of the module, in the order of the files. */
export function requiredVersions(files: readonly TerraformFile[]): { file: string; constraint: string }[] {
  return files.flatMap(({ name, text }) =>
    [...withoutComments(text).matchAll(/(?:^|[\s{])"?required_version"?\s*[=:]\s*"([^"]*)"/g)].map(
      ([, constraint = ""]) => ({ file: name, constraint }),
    ),
  );
}

/** What the code says about where its state lies: `backend "s3"`, or `cloud`. */
export function declaredBackends(
  files: readonly TerraformFile[],
): { file: string; type: string; isOverride: boolean }[] {
  return files.flatMap(({ name, text }) => {
    const isOverride = /(^|_)override\.(tf|tofu)(\.json)?$/.test(name);
    const clean = withoutComments(text);
    const found = name.endsWith(".json")
      ? [...clean.matchAll(/"backend"\s*:\s*\[?\s*\{\s*"(\w+)"/g)].map(([, type = ""]) => type)
      : [...clean.matchAll(/(?:^|[\s{}])backend\s+"(\w+)"\s*\{/g)].map(([, type = ""]) => type);
    const cloud = name.endsWith(".json") ? /"cloud"\s*:\s*\[?\s*\{/ : /(?:^|[\s{}])cloud\s*\{/;
    return [...found, ...(cloud.test(clean) && /terraform/.test(clean) ? ["cloud"] : [])].map((type) => ({
      file: name,
      type,
      isOverride,
    }));
  });
}

/** True when `version` (1.11.4) meets a constraint such as `>= 1.5, < 2.0` or `~> 1.3`. A constraint that cannot be read is left to Terraform. */
export function meetsConstraint(version: string, constraint: string): boolean {
  return constraint.split(",").every((part) => {
    const match = /^\s*(>=|<=|!=|~>|>|<|=)?\s*v?(\d+(?:\.\d+){0,2})(-[\w.]+)?\s*$/.exec(part);
    if (!match) return true;
    const [, operator = "=", wanted = ""] = match;
    const order = compare(version, wanted);
    if (operator === ">=") return order >= 0;
    if (operator === "<=") return order <= 0;
    if (operator === ">") return order > 0;
    if (operator === "<") return order < 0;
    if (operator === "!=") return order !== 0;
    if (operator === "~>") return order >= 0 && compare(version, ceilingOf(wanted)) < 0;
    return order === 0;
  });
}

/** `~> 1.3` allows below 2.0, `~> 1.3.2` below 1.4 (Terraform documentation, version constraints). */
function ceilingOf(wanted: string): string {
  const [major = 0, minor = 0, patch] = numbersOf(wanted);
  return patch === undefined ? `${major + 1}.0.0` : `${major}.${minor + 1}.0`;
}

const numbersOf = (version: string) => (version.split("-")[0] ?? "").split(".").map(Number);

function compare(left: string, right: string): number {
  const [a, b] = [numbersOf(left), numbersOf(right)];
  for (const index of [0, 1, 2]) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * What `init` looks at in a configuration: its `terraform` blocks, where its modules come from, and which providers it uses, also without naming them.
 * Equal for two commits for which an initialised folder is the same. Files in JSON count as a whole.
 */
export function initInputs(files: readonly TerraformFile[]): string {
  const inputs = files.flatMap(({ name, text }) => {
    if (name.endsWith(".json")) return [`${name} ${text}`];
    const clean = withoutComments(text);
    const modules = blocksOf(clean, /(?<=^|[\s}])module\s+"[^"]*"\s*\{/g).flatMap((block) => [
      block.slice(0, block.indexOf("{")),
      ...(block.match(/^\s*(?:source|version|providers)\s*=.*$/gm) ?? []),
    ]);
    const providers = [...clean.matchAll(/(?<=^|[\s}])(?:resource|data|ephemeral|provider)\s+"([A-Za-z0-9]+)/g)];
    return [
      ...blocksOf(clean, /(?<=^|[\s}])terraform\s*\{/g),
      ...modules,
      ...new Set(providers.map(([, provider = ""]) => `provider ${provider}`)),
    ].map((part) => `${name} ${part.replace(/\s+/g, " ").trim()}`);
  });
  // In which file a resource stands, and in which order, is nothing to init.
  return [...new Set(inputs)].sort().join("\n");
}

/** From each opening to its closing brace. */
function blocksOf(text: string, opening: RegExp): string[] {
  return [...text.matchAll(opening)].map(({ index, 0: head }) => {
    const rest = text.slice(index + head.length);
    let depth = 1;
    for (const { 0: part, index: at } of rest.matchAll(/"(?:\\.|[^"\\\n])*"|[{}]/g)) {
      if (part === "{") depth++;
      if (part === "}" && --depth === 0) return head + rest.slice(0, at + 1);
    }
    return head + rest;
  });
}
