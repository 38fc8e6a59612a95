import { fail } from "../shared/errors.ts";
import {
  type Backend,
  declaredBackends,
  meetsConstraint,
  requiredVersions,
  type TerraformFile,
} from "./terraform-files.ts";

/** Sorts behind every sensible name: of several override files the last one wins. */
export const OVERRIDE_FILE = "zzzz_shipway_override.tf.json";

/**
 * What must hold before anything is run, and where the state will lie.
 * @throws INFRA_INVALID
 */
export function checkFiles(files: readonly TerraformFile[], dir: string, version: string, commit: string): Backend {
  if (files.length === 0) {
    throw fail("INFRA_INVALID", {
      message: `There are no Terraform files in ${dir} at ${commit.slice(0, 7)}.`,
      hint: "Commit them there, or name their folder as `infra: { dir: … }` of the environment in shipway.yml.",
    });
  }
  checkVersion(files, dir, version);
  return backendOf(files, dir);
}

function checkVersion(files: readonly TerraformFile[], dir: string, version: string): void {
  for (const { file, constraint } of requiredVersions(files)) {
    if (meetsConstraint(version, constraint)) continue;
    throw fail("INFRA_INVALID", {
      message: `${dir}/${file} wants Terraform ${constraint}, but this Shipway runs ${version}.`,
      hint: "Install a version that fits on Shipway's machine (SHIPWAY_TERRAFORM names the program), or change required_version.",
    });
  }
}

function backendOf(files: readonly TerraformFile[], dir: string): Backend {
  const declared = declaredBackends(files);
  const stolen = declared.find(({ isOverride }) => isOverride);
  if (stolen) {
    throw fail("INFRA_INVALID", {
      message: `${dir}/${stolen.file} sets the backend in an override file: whose state would be used is not to be seen in the code.`,
      hint: `Write the backend "${stolen.type}" into an ordinary file, or remove it and let Shipway keep the state.`,
    });
  }
  const [own] = declared;
  if (own === undefined) return { type: "shipway" };
  if (own.type === "cloud" || own.type === "remote") {
    throw fail("INFRA_INVALID", {
      message: `${dir}/${own.file} hands the runs to another service (${own.type}); then Shipway cannot plan, gate and apply them.`,
      hint: "Remove that block: without one Shipway keeps the state.",
    });
  }
  if (own.type === "local") {
    throw fail("INFRA_INVALID", {
      message: `${dir}/${own.file} keeps the state in a local file (backend "local"); each run has a fresh checkout, so it would be lost.`,
      hint: 'Remove the block and Shipway keeps the state, every version of it; or use a shared one such as backend "s3".',
    });
  }
  return { type: own.type, file: own.file };
}
