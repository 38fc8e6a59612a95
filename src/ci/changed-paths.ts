import type { GitCommand } from "../source/git-command.ts";

/**
 * The files of the last commit, for `condition.changesets`: Bitbucket compares a push's newest commit with its first parent, and no other.
 * Undefined when they are too many to list: then every condition holds.
 * @throws GIT_FAILED
 */
export async function readChangedPaths(
  git: GitCommand,
  repositoryDir: string,
  commit: string,
): Promise<string[] | undefined> {
  const listing = [
    "diff-tree",
    "--root",
    "-r",
    "-z",
    "--no-commit-id",
    "--name-only",
    "--diff-merges=first-parent",
    commit,
  ];
  const { stdout, cut } = await git.run(["-C", repositoryDir, ...listing], { maxBytes: 8 * 1024 * 1024 });
  return cut
    ? undefined
    : stdout
        .toString("utf8")
        .split("\0")
        .filter((path) => path !== "");
}
