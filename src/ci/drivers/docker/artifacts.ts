import { constants } from "node:fs";
import { copyFile, link } from "node:fs/promises";
import pLimit from "p-limit";
import { findArtifacts } from "../../find-artifacts.ts";
import { COPIES_AT_ONCE, placeFile } from "../../place-artifacts.ts";

export type KeptArtifacts = { files: number; notes: string[] };

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

async function linkOrCopy(source: string, target: string): Promise<void> {
  await link(source, target).catch(() => copyFile(source, target, constants.COPYFILE_FICLONE));
}
