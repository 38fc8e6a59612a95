import { posix } from "node:path";
import { fail } from "../shared/errors.ts";
import type { TerraformProgram } from "./terraform.ts";
import {
  type Backend,
  declaredBackends,
  meetsConstraint,
  requiredVersions,
  type TerraformFile,
} from "./terraform-files.ts";

/**
 * Sorts behind every sensible name: of several override files the last one wins. OpenTofu prefers `.tofu` to `.tf` of the same name, so for it both are
 * written: a file of the repository must not stand in for ours.
 */
export const OVERRIDE_FILES = ["zzzz_shipway_override.tf.json", "zzzz_shipway_override.tofu.json"] as const;

/**
 * What must hold before anything is run, and where the state will lie. `modules` are the files of local modules, by their path in the repository.
 * @throws INFRA_INVALID
 */
export function checkFiles(
  files: readonly TerraformFile[],
  dir: string,
  program: TerraformProgram,
  commit: string,
  modules: readonly TerraformFile[] = [],
): Backend {
  if (files.length === 0) {
    throw fail("INFRA_INVALID", {
      message: `There are no Terraform files in ${dir} at ${commit.slice(0, 7)}.`,
      hint: "Commit them there, or name their folder as `infra: { dir: … }` of the environment in shipway.yml.",
    });
  }
  checkVersion([...files.map(({ name, text }) => ({ name: posix.join(dir, name), text })), ...modules], program);
  return backendOf(files, dir);
}

function checkVersion(files: readonly TerraformFile[], { product, version }: TerraformProgram): void {
  for (const { file, constraint } of requiredVersions(files)) {
    if (meetsConstraint(version, constraint)) continue;
    throw fail("INFRA_INVALID", {
      message: `${file} wants ${product} ${constraint}, but this Shipway runs ${version}.`,
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
