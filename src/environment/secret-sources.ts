import type { SecretSource } from "../spec/app-spec.ts";
import { readSecretReference, type SecretReference } from "../spec/secret-reference.ts";

/** A secret of the AWS account as the tasks of a deployment get it. Plain JSON, without its value. */
export type UsedSecret = {
  /** Where it lies, as it is written in shipway.yml or in the output. */
  from: string;
  /** As task definitions name it. */
  valueFrom: string;
  version: string;
  /** False for a parameter: ECS reads its newest version, whatever a deployment was made with. */
  isPinned: boolean;
};

export type NamedReference = { name: string; from: string; reference: SecretReference };
/** `path` is below `environments.NAME.secrets`. */
export type SourceProblem = { path: string[]; message: string };

/** What is declared, with outputs (values by name) filled in. No message quotes an output: what is in a wrong one may be a password. */
export function readSources(
  sources: Record<string, SecretSource>,
  outputs: Record<string, unknown>,
): { references: NamedReference[]; problems: SourceProblem[] } {
  const references: NamedReference[] = [];
  const problems: SourceProblem[] = [];
  for (const [name, source] of Object.entries(sources)) {
    const read = typeof source === "string" ? withText(source) : fromOutput(source, outputs);
    if ("problem" in read)
      problems.push({ path: typeof source === "string" ? [name] : [name, read.at ?? "output"], message: read.problem });
    else references.push({ name, ...read });
  }
  return { references, problems };
}

type Read = Omit<NamedReference, "name"> | { problem: string; at?: string };

function withText(text: string): Read {
  const reference = readSecretReference(text);
  return "problem" in reference ? reference : { from: text, reference };
}

function fromOutput({ output, key }: SecretSource & object, outputs: Record<string, unknown>): Read {
  const value = valueAt(outputs, output.split("."));
  if (value === undefined || value === null) {
    const known = Object.keys(outputs);
    const there = known.length === 0 ? "nothing has given any output yet" : `there are ${known.join(", ")}`;
    return { problem: `there is no Terraform output ${output}: ${there}` };
  }
  const read = typeof value === "string" ? withText(value) : { problem: "" };
  if ("problem" in read) return { problem: `the Terraform output ${output} is no ARN of a secret or a parameter` };
  if (key === undefined) return read;
  const { reference } = read;
  if (reference.kind === "parameter")
    return { problem: `only a secret has keys, and the Terraform output ${output} is a parameter`, at: "key" };
  if (reference.key !== undefined) return { problem: `the Terraform output ${output} names a key already`, at: "key" };
  return { from: `${read.from}:${key}`, reference: { ...reference, key } };
}

function valueAt(data: unknown, [first, ...rest]: string[]): unknown {
  if (first === undefined) return data;
  if (typeof data !== "object" || data === null || !Object.hasOwn(data, first)) return undefined;
  return valueAt((data as Record<string, unknown>)[first], rest);
}

/** Names that services of an environment take from Shipway's own store. */
export function storedSecretNames(
  services: { secrets: string[] }[],
  sources: Record<string, SecretSource> | undefined,
): string[] {
  const names = new Set(services.flatMap(({ secrets }) => secrets));
  return [...names].filter((name) => !Object.hasOwn(sources ?? {}, name));
}
