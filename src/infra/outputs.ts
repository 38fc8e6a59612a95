import { z } from "zod";
import type { Sealer } from "../environment/sealing.ts";
import type { Place } from "../rollout/release.ts";
import { fail } from "../shared/errors.ts";
import { Secret } from "../shared/secret.ts";
import type { Database } from "../store/open-store.ts";
import type { InfraOutputs } from "./infra-run.ts";
import { findInfra } from "./runs.ts";

const OutputsJson = z.record(z.string(), z.object({ value: z.unknown().optional(), sensitive: z.boolean() }));

const contextOf = (place: Place) => `infra-outputs/${place.app}/${place.environment}`;

/** @throws INFRA_FAILED when `terraform output -json` said something else */
export function parseOutputs(text: string): InfraOutputs {
  let input: unknown;
  try {
    input = JSON.parse(text);
  } catch {
    input = undefined;
  }
  const parsed = OutputsJson.safeParse(input);
  if (parsed.success) return parsed.data;
  throw fail("INFRA_FAILED", {
    message: "What Terraform says about its outputs could not be read.",
    hint: "Try again with `shipway infra apply`.",
  });
}

export const sealOutputs = (sealer: Sealer, place: Place, outputs: InfraOutputs): Buffer =>
  sealer.seal(JSON.stringify(outputs), contextOf(place));

/** The outputs of the last apply; undefined before the first. */
export async function findOutputs(db: Database, sealer: Sealer, place: Place): Promise<InfraOutputs | undefined> {
  const sealed = (await findInfra(db, place))?.outputs;
  return sealed ? OutputsJson.parse(JSON.parse(sealer.open(sealed, contextOf(place)))) : undefined;
}

/** A text as it is, anything else as JSON. */
export const outputText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/**
 * What services get: each declared variable with the value of its output.
 * @throws INFRA_OUTPUT_MISSING naming all that are not there
 */
export function outputVariables(
  place: Place,
  declared: Record<string, string>,
  outputs: InfraOutputs | undefined,
): Record<string, Secret> {
  const pairs = Object.entries(declared);
  const missing = pairs.filter(([, output]) => (outputs?.[output]?.value ?? null) === null);
  if (missing.length > 0) {
    const known = Object.keys(outputs ?? {});
    throw fail("INFRA_OUTPUT_MISSING", {
      message: `${place.app} ${place.environment} wants ${missing.map(([name, output]) => `${name} from the Terraform output ${output}`).join(", ")}, but ${known.length === 0 ? "nothing has given any output yet" : `there are only ${known.join(", ")}`}.`,
      hint: 'Declare the output in the Terraform code (`output "NAME" { value = … }`), or change `infra: { outputs: … }` in shipway.yml.',
    });
  }
  return Object.fromEntries(
    pairs.map(([name, output]) => [name, new Secret(name, outputText(outputs?.[output]?.value))]),
  );
}
