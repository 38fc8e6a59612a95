import { lstat, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

/**
 * Makes `path` below `root`, and nothing anywhere else: what a repository or a step left in a checkout may be a symbolic link to any place of the host, so
 * a part of the path that is not a directory is replaced by one.
 */
export async function makeRealDirectory(root: string, path: string): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const dir of partsOf(root, path)) {
    const entry = await lstat(dir).catch(() => undefined);
    if (entry?.isDirectory()) continue;
    if (entry) await rm(dir, { force: true });
    // Another file of the same directory may have made it meanwhile.
    await mkdir(dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

/** False when `path` does not exist below `root` or a part of it is a symbolic link. */
export async function isRealDirectory(root: string, path: string): Promise<boolean> {
  for (const dir of partsOf(root, path)) {
    const entry = await lstat(dir).catch(() => undefined);
    if (!entry?.isDirectory()) return false;
  }
  return true;
}

function partsOf(root: string, path: string): string[] {
  const segments = path.split("/").filter((part) => part !== "" && part !== ".");
  return segments.map((_, index) => join(root, ...segments.slice(0, index + 1)));
}
