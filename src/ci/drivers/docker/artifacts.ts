import { constants } from "node:fs";
import { copyFile, link, readdir, readlink, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import pLimit from "p-limit";
import type { StepPlan } from "../../executor.ts";
import { findArtifacts, listFiles } from "../../find-artifacts.ts";
import { matchesPathGlob } from "../../glob.ts";
import { makeRealDirectory } from "../../real-directories.ts";

export type KeptArtifacts = { files: number; notes: string[] };

// Copies of small files wait for the disk, not for us; more than this only fills the thread pool's queue.
const COPIES_AT_ONCE = 16;

/**
 * Keeps the files of `build` that `globs` match, in `to`. The step's container has ended, so nothing changes underneath; what it left is hostile
 * nevertheless: no link is followed, and a symbolic link that points out of the checkout is not kept.
 */
export async function keepArtifacts(build: string, globs: readonly string[], to: string): Promise<KeptArtifacts> {
  const { files, notes } = await findArtifacts(build, globs);
  const limit = pLimit(COPIES_AT_ONCE);
  // The checkout is thrown away after this, so a second name for the same bytes is a copy at no cost.
  await Promise.all(files.map(({ path, kind }) => limit(() => placeFile(build, to, path, kind, linkOrCopy))));
  return { files: files.length, notes };
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
