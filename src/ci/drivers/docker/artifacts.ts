import { constants, type Dirent } from "node:fs";
import { copyFile, link, lstat, readdir, readlink, rm, symlink } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import pLimit from "p-limit";
import type { StepPlan } from "../../executor.ts";
import { matchesPathGlob } from "../../glob.ts";
import { makeRealDirectory } from "./real-directories.ts";

export type KeptArtifacts = { files: number; notes: string[] };

// Copies of small files wait for the disk, not for us; more than this only fills the thread pool's queue.
const COPIES_AT_ONCE = 16;

/**
 * Keeps the files of `build` that `globs` match, in `to`. The step's container has ended, so nothing changes underneath; what it left is hostile
 * nevertheless: no link is followed, and a symbolic link that points out of the checkout is not kept.
 */
export async function keepArtifacts(build: string, globs: readonly string[], to: string): Promise<KeptArtifacts> {
  if (globs.length === 0) return { files: 0, notes: [] };
  const notes: string[] = [];
  const found = new Map<string, "file" | "link">();
  for (const glob of globs) {
    const matches = (await listFiles(build, baseOf(glob))).filter(({ path }) => matchesPathGlob(glob, path));
    if (matches.length === 0)
      notes.push(nothingMatches(glob, await lstat(join(build, baseOf(glob))).catch(() => undefined)));
    for (const { path, kind } of matches) found.set(path, kind);
  }
  let files = 0;
  const limit = pLimit(COPIES_AT_ONCE);
  await Promise.all(
    [...found].map(([path, kind]) =>
      limit(async () => {
        if (kind === "link" && !(await staysInside(build, path))) {
          notes.push(`artifact ${path} is not kept: it is a link out of the checkout`);
          return;
        }
        // The checkout is thrown away after this, so a second name for the same bytes is a copy at no cost.
        await placeFile(build, to, path, kind, linkOrCopy);
        files++;
      }),
    ),
  );
  return { files, notes };
}

/** Puts the artifacts of earlier stages into the fresh checkout, later stages over earlier ones. Returns how many files. */
export async function restoreArtifacts(
  artifactsRoot: string,
  step: Pick<StepPlan, "stage" | "downloadArtifacts">,
  build: string,
): Promise<number> {
  const kept = await readdir(artifactsRoot).catch(() => []);
  const earlier = kept
    .filter((name) => stageOf(name) < step.stage)
    .sort((a, b) => stageOf(a) - stageOf(b) || a.localeCompare(b));
  const limit = pLimit(COPIES_AT_ONCE);
  let files = 0;
  for (const name of earlier) {
    const from = join(artifactsRoot, name);
    const wanted = (await listFiles(from, "")).filter(
      ({ path }) => step.downloadArtifacts?.some((glob) => matchesPathGlob(glob, path)) ?? true,
    );
    // A copy: the next step may write into it, and other steps get the same artifact.
    const copy = (source: string, target: string) => copyFile(source, target, constants.COPYFILE_FICLONE);
    await Promise.all(wanted.map(({ path, kind }) => limit(() => placeFile(from, build, path, kind, copy))));
    files += wanted.length;
  }
  return files;
}

function stageOf(name: string): number {
  return Number(name.split(".")[0]);
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
async function listFiles(root: string, base: string): Promise<{ path: string; kind: "file" | "link" }[]> {
  let above = root;
  for (const segment of base.split("/").filter((part) => part !== "")) {
    above = join(above, segment);
    const entry = await lstat(above).catch(() => undefined);
    if (!entry?.isDirectory()) return [];
  }
  const found: { path: string; kind: "file" | "link" }[] = [];
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

/** Writes one file below `to` and nowhere else: a directory on the way that is a symbolic link is replaced by a real one. */
async function placeFile(
  from: string,
  to: string,
  path: string,
  kind: "file" | "link",
  copy: (source: string, target: string) => Promise<void>,
): Promise<void> {
  await makeRealDirectory(to, dirname(path));
  const [source, target] = [join(from, path), join(to, path)];
  await rm(target, { recursive: true, force: true });
  if (kind === "link") await symlink(await readlink(source), target);
  else await copy(source, target);
}

async function linkOrCopy(source: string, target: string): Promise<void> {
  await link(source, target).catch(() => copyFile(source, target, constants.COPYFILE_FICLONE));
}
