import { createHash } from "node:crypto";
import { posix } from "node:path";
import { fail } from "../shared/errors.ts";
import type { GitCommand } from "../source/git-command.ts";
import type { InfraSpec } from "../spec/app-spec.ts";

const TERRAFORM_FILE = /\.(tf|tofu)(\.json)?$|\.tfvars(\.json)?$|(^|\/)\.terraform\.lock\.hcl$/;

/**
 * A hash of what Terraform would read at a commit: every file below `dir`; Terraform's files anywhere else, since modules are reached by relative paths; and
 * what lies beside or below those, since a module reads files of its own (`templatefile`). Equal for two commits that differ in nothing of that. One look at git's trees; no file is read.
 * @throws INFRA_INVALID when there is nothing below `dir`, or a variable file is not there
 */
export async function hashCode(
  git: GitCommand,
  repositoryDir: string,
  commit: string,
  spec: Pick<InfraSpec, "dir" | "varFiles">,
): Promise<string> {
  const { dir } = spec;
  const { stdout } = await git.run([`--git-dir=${repositoryDir}`, "ls-tree", "-r", "-z", "--full-tree", commit]);
  const prefix = `${trimmed(dir)}/`;
  const isRoot = prefix === "./";
  const varFiles = varFilesOf(spec);
  const all = stdout
    .toString("utf8")
    .split("\0")
    .map((entry) => entry.split("\t"));
  const isOfModule = belowAny(moduleDirs(all.map(([, path = ""]) => path)));
  const entries = all.filter(
    ([, path = ""]) =>
      isRoot || path.startsWith(prefix) || TERRAFORM_FILE.test(path) || isOfModule(path) || varFiles.includes(path),
  );
  if (!entries.some(([, path = ""]) => isRoot || path.startsWith(prefix))) {
    throw fail("INFRA_INVALID", {
      message: `There is no folder ${dir} at ${commit.slice(0, 7)}.`,
      hint: "Commit the Terraform files there, or change `infra: { dir: … }` of the environment in shipway.yml.",
    });
  }
  const missing = varFiles.find((path) => !entries.some(([, found]) => found === path));
  if (missing !== undefined) {
    throw fail("INFRA_INVALID", {
      message: `There is no variable file ${missing} at ${commit.slice(0, 7)}.`,
      hint: `Commit it, or change \`varFiles\` of the environment in shipway.yml; they are relative to its \`dir\` (${dir}).`,
    });
  }
  return sha256(entries.map((entry) => entry.join("\t")).join("\n"));
}

/** Folders with Terraform code. The root is none of them: with a single file there, every commit would differ. */
const moduleDirs = (paths: readonly string[]): Set<string> =>
  new Set(paths.filter((path) => /\.(tf|tofu)(\.json)?$/.test(path) && path.includes("/")).map(posix.dirname));

const belowAny =
  (dirs: ReadonlySet<string>) =>
  (path: string): boolean => {
    for (let dir = posix.dirname(path); dir !== "."; dir = posix.dirname(dir)) if (dirs.has(dir)) return true;
    return false;
  };

const trimmed = (dir: string) => dir.replace(/^\.\/(?=.)/, "").replace(/\/+$/, "") || ".";

/** The variable files by their path in the repository, in the order in which Terraform gets them. */
export function varFilesOf({ dir, varFiles }: Pick<InfraSpec, "dir" | "varFiles">): string[] {
  // Releases and runs that were recorded before there were variable files have none.
  return ((varFiles as string[] | undefined) ?? []).map((file) => posix.normalize(posix.join(dir, file)));
}

/** What a run depends on. A deployment runs Terraform only when it differs from what was applied. */
export function hashInputs(code: string, spec: InfraSpec, secretVersions: Record<string, number>): string {
  const { dir, variables, env, backend } = spec;
  const varFiles = varFilesOf(spec);
  const sorted = (record: Record<string, unknown>) =>
    Object.entries(record).sort(([left], [right]) => (left < right ? -1 : 1));
  // What is not used is left out, so that the hash of what was applied by an earlier Shipway stays what it is.
  const settings = Object.keys(backend ?? {}).length > 0 ? [{ backend: sorted(backend) }] : [];
  const apart = spec.repository === undefined ? [] : [{ repository: spec.repository, ref: spec.ref ?? null }];
  const more = [...(varFiles.length > 0 ? [varFiles] : []), ...settings, ...apart];
  return sha256(JSON.stringify([code, dir, sorted(variables), sorted(env), sorted(secretVersions), ...more]));
}

export const sha256 = (content: string | Buffer): string => createHash("sha256").update(content).digest("hex");
