import type { Repositories } from "./repositories.ts";

/** Stores a commit with these files and points `ref` at it, as a push would, but without recording anything. */
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
  const treeOf = async (here: [string, string][]): Promise<string> => {
    const entries: string[] = [];
    for (const [name, content] of here.filter(([path]) => !path.includes("/")))
      entries.push(`100644 blob ${await git(["hash-object", "-w", "--stdin"], content)}\t${name}\n`);
    const folders = new Set(here.flatMap(([path]) => (path.includes("/") ? [path.slice(0, path.indexOf("/"))] : [])));
    for (const folder of folders) {
      const below = here.filter(([path]) => path.startsWith(`${folder}/`));
      const tree = await treeOf(below.map(([path, content]) => [path.slice(folder.length + 1), content]));
      entries.push(`040000 tree ${tree}\t${folder}\n`);
    }
    return git(["mktree"], entries.join(""));
  };
  const tree = await treeOf(Object.entries(files));
  const id = await git(["commit-tree", tree, ...(parent === undefined ? [] : ["-p", parent])], message);
  await git(["update-ref", ref, id]);
  return id;
}
