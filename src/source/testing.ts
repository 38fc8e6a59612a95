import type { Repositories } from "./repositories.ts";

/** Stores a commit with these files (in the root) and points `ref` at it, as a push would, but without recording anything. */
export async function commitTo(
  repositories: Repositories,
  app: string,
  commit: { ref?: string; files?: Record<string, string>; message?: string; parent?: string },
): Promise<string> {
  const { ref = "refs/heads/main", files = {}, message = "Change something", parent } = commit;
  const git = async (args: string[], input = "") => {
    const as = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    const { stdout } = await repositories.git.run([`--git-dir=${repositories.dirOf(app)}`, ...as, ...args], { input });
    return stdout.toString("utf8").trim();
  };
  const entries: string[] = [];
  for (const [name, content] of Object.entries(files))
    entries.push(`100644 blob ${await git(["hash-object", "-w", "--stdin"], content)}\t${name}\n`);
  const tree = await git(["mktree"], entries.join(""));
  const id = await git(["commit-tree", tree, ...(parent === undefined ? [] : ["-p", parent])], message);
  await git(["update-ref", ref, id]);
  return id;
}
