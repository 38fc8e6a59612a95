import type { Dirent } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join, posix } from "node:path";
import { matchesPathGlob } from "./glob.ts";

/** A file or a symbolic link, by its path in the checkout. */
export type FoundFile = { path: string; kind: "file" | "link" };

/**
 * The files of `build` that `globs` match, and what to tell about those that match nothing. What a step left is hostile: no link is followed, and a
 * symbolic link that points out of the checkout is left out.
 */
export async function findArtifacts(
  build: string,
  globs: readonly string[],
): Promise<{ files: FoundFile[]; notes: string[] }> {
  const notes: string[] = [];
  const found = new Map<string, FoundFile>();
  for (const glob of globs) {
    const matches = (await listFiles(build, baseOf(glob))).filter(({ path }) => matchesPathGlob(glob, path));
    if (matches.length === 0)
      notes.push(nothingMatches(glob, await lstat(join(build, baseOf(glob))).catch(() => undefined)));
    for (const file of matches) found.set(file.path, file);
  }
  const files: FoundFile[] = [];
  for (const file of found.values()) {
    if (file.kind === "file" || (await staysInside(build, file.path))) files.push(file);
    else notes.push(`artifact ${file.path} is not kept: it is a link out of the checkout`);
  }
  return { files, notes };
}

/** The directories of a glob before its first wildcard: only they have to be searched. */
function baseOf(glob: string): string {
  const segments = glob.replace(/^\.\//, "").split("/");
  const wild = segments.findIndex((segment) => /[*?{]/.test(segment));
  const base = segments.slice(0, wild === -1 ? segments.length - 1 : wild);
  return base.includes("..") ? "" : base.join("/");
}

function nothingMatches(glob: string, base: { isDirectory(): boolean } | undefined): string {
  const hint =
    !/[*?{]/.test(glob) && base?.isDirectory()
      ? `; for all files of a directory write ${glob.replace(/\/$/, "")}/**`
      : "";
  return `artifact ${glob} matches no file${hint}`;
}

/** Files and symbolic links below `base`, relative to `root`, without following any link, not even in `base` itself. */
export async function listFiles(root: string, base: string): Promise<FoundFile[]> {
  let above = root;
  for (const segment of base.split("/").filter((part) => part !== "")) {
    above = join(above, segment);
    const entry = await lstat(above).catch(() => undefined);
    if (!entry?.isDirectory()) return [];
  }
  const found: FoundFile[] = [];
  const open = [base];
  for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
    const entries: Dirent[] = await readdir(join(root, dir), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = dir === "" ? entry.name : `${dir}/${entry.name}`;
      if (entry.isDirectory() && path !== ".git") open.push(path);
      else if (entry.isFile()) found.push({ path, kind: "file" });
      else if (entry.isSymbolicLink()) found.push({ path, kind: "link" });
    }
  }
  return found;
}

async function staysInside(root: string, path: string): Promise<boolean> {
  const target = await readlink(join(root, path));
  if (posix.isAbsolute(target)) return false;
  const resolved = posix.normalize(posix.join(posix.dirname(path), target));
  return resolved !== ".." && !resolved.startsWith("../");
}
