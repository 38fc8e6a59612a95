import { z } from "zod";
import { fail } from "../shared/errors.ts";

const Change = z.object({
  actions: z.array(z.string()),
  before: z.unknown().optional(),
  after: z.unknown().optional(),
  after_unknown: z.unknown().optional(),
  before_sensitive: z.unknown().optional(),
  after_sensitive: z.unknown().optional(),
  importing: z.unknown().optional(),
});
const ResourceChange = z.object({
  address: z.string(),
  mode: z.string(),
  type: z.string().optional(),
  /** The key of an object that an earlier replacement left behind. */
  deposed: z.string().optional(),
  previous_address: z.string().optional(),
  action_reason: z.string().optional(),
  change: Change,
});

/** What we read of `terraform show -json PLAN` (format 1.2); the rest is left alone. */
const PlanJson = z.object({
  format_version: z.string(),
  terraform_version: z.string().optional(),
  variables: z.record(z.string(), z.object({ value: z.unknown().optional() })).default({}),
  resource_changes: z.array(ResourceChange).default([]),
  resource_drift: z.array(ResourceChange).default([]),
  output_changes: z.record(z.string(), Change).default({}),
  configuration: z
    .object({
      root_module: z
        .object({ variables: z.record(z.string(), z.object({ sensitive: z.boolean().optional() })).default({}) })
        .default({ variables: {} }),
    })
    .default({ root_module: { variables: {} } }),
  errored: z.boolean().optional(),
});

export type PlanJson = z.infer<typeof PlanJson>;
export type ResourceChange = z.infer<typeof ResourceChange>;

/** @throws INFRA_FAILED when it is not a plan that we can read: then nothing can be said about what it would do */
export function parsePlanJson(text: string): PlanJson {
  let input: unknown;
  try {
    input = JSON.parse(text);
  } catch {
    input = undefined;
  }
  const parsed = PlanJson.safeParse(input);
  if (parsed.success) return parsed.data;
  throw fail("INFRA_FAILED", {
    message: "Terraform's description of the plan could not be read, so nobody could say what it would do.",
    hint: "Check the version of Terraform (`terraform version`); 1.5 to 1.14 and OpenTofu are known to work.",
    cause: parsed.error,
  });
}
