import { fail, type ShipwayError } from "../shared/errors.ts";
import type { AppSpec } from "../spec/app-spec.ts";
import { renderSpecProblems } from "../spec/parse-spec.ts";
import { declaredOutputs, missingOutputs, wantedOutputs } from "./declared-outputs.ts";
import type { TerraformFile } from "./terraform-files.ts";

const SPEC_FILE = "shipway.yml";

/** The Terraform files directly in a folder of the app's own repository; undefined when there is no such folder. */
export type ReadFolder = (dir: string) => Promise<TerraformFile[] | undefined>;

/**
 * What `infra.outputs` and `secrets` of these environments name and the code does not declare, as one error under the user's own lines. Code in a repository of its own,
 * folders that are not there and files that cannot be read are for others to complain about. `text` is the spec as it is written.
 */
export async function findMissingOutputs(
  spec: AppSpec,
  text: string,
  environments: readonly string[],
  read: ReadFolder,
): Promise<ShipwayError | undefined> {
  const problems = await Promise.all(
    environments.map(async (environment) => {
      const infra = Object.hasOwn(spec.environments, environment) ? spec.environments[environment]?.infra : undefined;
      if (!infra || infra.repository !== undefined || wantedOutputs(spec, environment).length === 0) return [];
      const files = await read(infra.dir);
      const declared = files === undefined || files.length === 0 ? undefined : declaredOutputs(files);
      return declared === undefined ? [] : missingOutputs(spec, environment, declared);
    }),
  );
  if (problems.flat().length === 0) return undefined;
  return fail("INFRA_OUTPUT_MISSING", {
    message: `${SPEC_FILE} takes variables or secrets from outputs that the Terraform code does not declare:\n\n${renderSpecProblems(text, SPEC_FILE, problems.flat())}`,
    hint: 'Declare them (`output "NAME" { value = … }`), or name others.',
  });
}
