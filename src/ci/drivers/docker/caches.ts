import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, chown, lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import pLimit from "p-limit";
import { runProgram } from "../../../shared/run-program.ts";
import { CACHE_EXPIRES_AFTER_MS, type CachePlace, placeOf, versionOf } from "../../cache-version.ts";
import type { CachePlan } from "../../executor.ts";
import { matchesPathGlob } from "../../glob.ts";
import { isRealDirectory, makeRealDirectory } from "../../real-directories.ts";

/** A cache of a step, resolved: where it is kept, and where it stands for the step. */
export type StepCache = {
  name: string;
  /** Directory of this version on the host; its `data` is the cached directory. */
  kept: string;
  hit: boolean;
  /** In the checkout (relative), or elsewhere in the container (absolute). */
  place: CachePlace;
};

/**
 * The place and version of a cache. The version of one with key files is the hash of their contents, so a changed lock file is another cache.
 * Returns undefined when none of the key files exists: there is nothing to name it by.
 */
export async function resolveCache(
  cache: CachePlan,
  cachesDir: string,
  build: string,
  home: string,
  searchPath: string,
): Promise<StepCache | undefined> {
  const version = await versionOf(cache, (globs) => hashKeyFiles(build, globs, searchPath));
  if (version === undefined) return undefined;
  const kept = join(cachesDir, version);
  return { name: cache.name, kept, hit: await isUsable(kept), place: placeOf(cache.path, home) };
}

/** Copies a kept cache to where the step will find it: into its checkout, or to `mount`, which the container then mounts. */
export async function restoreCache(cache: StepCache, build: string, mount: string): Promise<void> {
  const target = cache.place.kind === "checkout" ? join(build, cache.place.path) : mount;
  if (cache.place.kind === "checkout") await makeRealDirectory(build, dirname(cache.place.path));
  await rm(target, { recursive: true, force: true });
  await copyDirectory(join(cache.kept, "data"), target);
}

// Small files wait for the disk one after the other: four copies at a time took 2.7 to 5.2 s for 13,000 files (312 MB), one took 3.4 to 10.2 s.
const COPIES_AT_ONCE = 4;
const ENTRIES_PER_COPY = 50;

/** cp clones the blocks where the file system can, and keeps modes, owners, times and links. */
async function copyDirectory(from: string, to: string): Promise<void> {
  await mkdir(to);
  const [entries, { mode, uid, gid }] = await Promise.all([readdir(from), lstat(from)]);
  const limit = pLimit(COPIES_AT_ONCE);
  const batches = Array.from({ length: Math.ceil(entries.length / ENTRIES_PER_COPY) }, (_, index) =>
    entries.slice(index * ENTRIES_PER_COPY, (index + 1) * ENTRIES_PER_COPY).map((name) => join(from, name)),
  );
  await Promise.all(
    batches.map((batch) => limit(() => runProgram(["cp", "-a", "--reflink=auto", "-t", to, "--", ...batch]))),
  );
  await chown(to, uid, gid).catch(() => undefined);
  await chmod(to, mode & 0o7777);
}

/**
 * Keeps a directory of the checkout by moving it: the step has ended and its checkout is thrown away, so this costs nothing whatever its size.
 * Of two steps that save at the same time the first wins.
 */
export async function saveFromCheckout(cache: StepCache, build: string): Promise<boolean> {
  if (cache.place.kind !== "checkout") return false;
  const source = join(build, cache.place.path);
  if (!(await isRealDirectory(build, cache.place.path))) return false;
  return publish(cache, (data) => rename(source, data));
}

/** Keeps a directory of the ended container, which the engine sends as a tar stream. */
export async function saveFromArchive(
  cache: StepCache,
  archive: NodeJS.ReadableStream,
  extract: (dir: string) => NodeJS.WritableStream & { done: Promise<void> },
): Promise<boolean> {
  return publish(cache, async (data) => {
    await mkdir(data);
    const unpacked = extract(data);
    await Promise.all([pipeline(archive, unpacked), unpacked.done]);
  });
}

/** Made beside and renamed, so that a half-written cache is never found. */
async function publish(cache: StepCache, fill: (data: string) => Promise<void>): Promise<boolean> {
  const beside = `${cache.kept}.${randomUUID()}.new`;
  await mkdir(beside, { recursive: true });
  try {
    await fill(join(beside, "data"));
    await rename(beside, cache.kept);
    return true;
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    if (await isUsable(cache.kept)) return false;
    throw error;
  }
}

async function isUsable(kept: string): Promise<boolean> {
  const [made, data] = await Promise.all([kept, join(kept, "data")].map((path) => lstat(path).catch(() => undefined)));
  if (!made || !data?.isDirectory()) return false;
  return true;
}

/** A cache that is too old, for the caller to discard. Its age is that of its directory, which nothing writes to once it is published. */
export async function isExpired(cache: StepCache, now: number): Promise<boolean> {
  const made = await lstat(cache.kept).catch(() => undefined);
  return made !== undefined && now - made.mtimeMs > CACHE_EXPIRES_AFTER_MS;
}

async function hashKeyFiles(build: string, globs: readonly string[], searchPath: string): Promise<string | undefined> {
  const { stdout } = await runProgram(["git", "-C", build, "ls-files", "-z"], {
    env: { PATH: searchPath, HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" },
    maxBytes: 256 * 1024 * 1024,
  });
  const paths = stdout.split("\0").filter((path) => globs.some((glob) => matchesPathGlob(glob, path)));
  const hash = createHash("sha256");
  let files = 0;
  for (const path of paths.sort()) {
    if (!(await isRealDirectory(build, dirname(path)))) continue;
    const entry = await lstat(join(build, path)).catch(() => undefined);
    if (!entry?.isFile()) continue;
    hash.update(`${path}\0${entry.size}\0`);
    await pipeline(createReadStream(join(build, path)), async (chunks) => {
      for await (const chunk of chunks) hash.update(chunk as Buffer);
    });
    files++;
  }
  return files === 0 ? undefined : hash.digest("hex").slice(0, 20);
}
