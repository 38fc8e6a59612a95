import { didYouMean } from "../shared/yaml-problems.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import type { SpecProblem } from "../spec/check-spec.ts";
import { topLevelBlocks } from "./hcl-blocks.ts";
import type { TerraformFile } from "./terraform-files.ts";

/** Files of a folder that may declare outputs, whichever program reads them. */
export const isTerraformFile = (name: string): boolean => /\.(tf|tofu)(\.json)?$/.test(name);

/** Names of the outputs that the files of one folder declare. Undefined when one of them cannot be read: then nobody can say what is missing. */
export function declaredOutputs(files: readonly TerraformFile[]): string[] | undefined {
  const names: string[] = [];
  for (const { name, text } of files) {
    const found = name.endsWith(".json") ? outputsInJson(text) : outputsInHcl(text);
    if (found === undefined) return undefined;
    names.push(...found);
  }
  return [...new Set(names)];
}

function outputsInHcl(text: string): string[] | undefined {
  return topLevelBlocks(text.replace(/^\ufeff/, ""))
    ?.filter(({ type }) => type === "output")
    .flatMap(({ labels: [name] }) => name ?? []);
}

/** `{ "output": { "NAME": {…} } }`, or a list of such (Terraform documentation, JSON configuration syntax). */
function outputsInJson(text: string): string[] | undefined {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch {
    return undefined;
  }
  const all = [root].flat().flatMap((one) => (isObject(one) ? [one.output].flat() : []));
  return all.flatMap((one) => (isObject(one) ? Object.keys(one) : [])).filter((name) => name !== "//");
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/** Outputs that an environment of the spec takes variables or secrets from, each with the place where the spec names it. */
export function wantedOutputs(spec: AppSpec, environment: string): { path: string[]; output: string }[] {
  const found = Object.hasOwn(spec.environments, environment) ? spec.environments[environment] : undefined;
  const variables = Object.entries(found?.infra?.outputs ?? {}).map(([name, output]) => ({
    path: ["infra", "outputs", name],
    output,
  }));
  const secrets = Object.entries(found?.secrets ?? {}).flatMap(([name, source]) =>
    typeof source === "string"
      ? []
      : [{ path: ["secrets", name, "output"], output: source.output.split(".")[0] ?? "" }],
  );
  return [...variables, ...secrets].map(({ path, output }) => ({
    path: ["environments", environment, ...path],
    output,
  }));
}

/** Of these, those that the folder does not declare. */
export function missingOutputs(spec: AppSpec, environment: string, declared: readonly string[]): SpecProblem[] {
  const dir = spec.environments[environment]?.infra?.dir;
  return wantedOutputs(spec, environment)
    .filter(({ output }) => !declared.includes(output))
    .map(({ path, output }) => {
      const meant = didYouMean(output, declared);
      const there = declared.length === 0 ? "it declares none" : `it declares ${declared.join(", ")}`;
      return {
        path,
        at: "value",
        message: `${dir} declares no output "${output}": ${meant === undefined ? there : `did you mean "${meant}"?`}`,
      };
    });
}
