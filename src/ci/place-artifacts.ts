import { constants } from "node:fs";
import { copyFile, readdir, readlink, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import pLimit from "p-limit";
import type { StepPlan } from "./executor.ts";
import { listFiles } from "./find-artifacts.ts";
import { matchesPathGlob } from "./glob.ts";
import { makeRealDirectory } from "./real-directories.ts";

// Copies of small files wait for the disk, not for us; more than this only fills the thread pool's queue.
export const COPIES_AT_ONCE = 16;

/**
 * Puts the artifacts of earlier stages into the fresh checkout, later stages over earlier ones. `artifactsRoot` has a directory `STAGE.STEP` for each.
 * Returns how many files.
 */
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
export async function placeFile(
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
