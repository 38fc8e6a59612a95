import { posix } from "node:path";
import type { GitCommand } from "../source/git-command.ts";
import type { ImagePlan } from "./builder.ts";

/** The Dockerfile of a plan, as it was committed. */
export async function readDockerfile(
  { repositoryDir, commit, context, dockerfile }: ImagePlan,
  git: GitCommand,
): Promise<string> {
  const path = `${commit}:${posix.join(context, dockerfile)}`;
  const { stdout } = await git.run(["-C", repositoryDir, "cat-file", "blob", path]);
  return stdout.toString("utf8");
}
