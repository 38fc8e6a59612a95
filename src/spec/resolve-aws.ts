import type { z } from "zod";
import { AWS_OUTPUTS, type EnvironmentSpec } from "./app-spec.ts";

type Setting = keyof typeof AWS_OUTPUTS;

/**
 * Settings of an environment's AWS account: what is written under `aws` wins over what its Terraform gives. `outputs` holds the values by name. What is
 * missing or of another form comes as one sentence each.
 */
export function resolveAws<T extends z.ZodObject>(
  schema: T,
  { aws, infra }: Pick<EnvironmentSpec, "aws" | "infra">,
  outputs: Record<string, unknown>,
): { settings: z.infer<T> } | { problems: string[] } {
  const names = { ...AWS_OUTPUTS, ...aws?.outputs };
  const wanted = Object.keys(schema.shape) as Setting[];
  const given = Object.fromEntries(
    wanted.flatMap((setting) => {
      const value = aws?.[setting] ?? (infra === undefined ? undefined : (outputs[names[setting]] ?? undefined));
      return value === undefined ? [] : [[setting, value]];
    }),
  );
  const parsed = schema.safeParse(given);
  if (parsed.success) return { settings: parsed.data };
  const problems = parsed.error.issues.map(({ path: [first], message }) => {
    const setting = String(first) as Setting;
    if (given[setting] !== undefined) return `${setting}: ${message}`;
    return `${setting} is missing${infra === undefined ? "" : ` (no Terraform output ${names[setting]})`}`;
  });
  return { problems: [...new Set(problems)] };
}
