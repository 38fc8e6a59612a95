import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { CachePlan } from "./executor.ts";
import { CLONE_DIR } from "./step-places.ts";

/** Where a cache stands for its step: in the checkout (relative), or elsewhere in the container (absolute). */
export type CachePlace = { kind: "checkout"; path: string } | { kind: "container"; path: string };

// Bitbucket deletes a cache after 7 days; so what it has grown stale in is rebuilt at times.
export const CACHE_EXPIRES_AFTER_MS = 7 * 24 * 3_600_000;

/**
 * What names a version of a cache, usable as a file name. That of one with key files is the hash of their contents, so a changed lock file is another
 * cache. Undefined when none of the key files exists: there is nothing to name it by.
 */
export async function versionOf(
  cache: CachePlan,
  hashOf: (keyFiles: readonly string[]) => Promise<string | undefined>,
): Promise<string | undefined> {
  const key = cache.keyFiles.length === 0 ? "static" : await hashOf(cache.keyFiles);
  return key === undefined ? undefined : `${cache.name.replace(/[^A-Za-z0-9_-]/g, "_")}-${pathHash(cache)}-${key}`;
}

/** `~` is `home`. */
export function placeOf(path: string, home: string): CachePlace {
  const written = path
    .replace(/^(~|\$HOME|\$\{HOME\})(?=\/|$)/, home)
    .replace(/^(\$BITBUCKET_CLONE_DIR|\$\{BITBUCKET_CLONE_DIR\})(?=\/|$)/, CLONE_DIR);
  const absolute = posix.resolve(CLONE_DIR, written);
  const relative = posix.relative(CLONE_DIR, absolute);
  const inside = relative !== "" && relative !== ".." && !relative.startsWith("../");
  return inside ? { kind: "checkout", path: relative } : { kind: "container", path: absolute };
}

/** The same name with another path is another cache. */
function pathHash({ path }: CachePlan): string {
  return createHash("sha256").update(path).digest("hex").slice(0, 8);
}
