import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { listRefs } from "./pushed-refs.ts";
import { isMissing, type RepositoryStore } from "./repository-store.ts";

// What nobody has written to for this long was left by a process that was killed: git cleans up when its input ends, but
// not on a signal (seen with 2.39). An upload writes all the time, and a lock is held for moments.
export const STALE_MS = 3_600_000;
const STALE_LOCK_MS = 600_000;

/** Clears what killed git processes left, then packs what is loose when git finds that it is worth it. Safe beside pushes. */
export async function maintainRepository(store: RepositoryStore, app: string): Promise<void> {
  await removeOlder(store.root, /^\.(new|gone)-/, STALE_MS);
  const dir = store.dirOf(app);
  await removeOlder(join(dir, "objects"), /^(tmp_objdir-)?incoming-/, STALE_MS);
  await removeStaleLocks(dir);
  await settleDefaultBranch(store, app);
  await store.run(app, ["gc", "--auto", "--quiet"]);
}

/** A lock left by a killed git refuses every later push, or fetch, to its ref. */
export async function removeStaleLocks(dir: string): Promise<void> {
  await removeOlder(dir, /^(packed-refs|HEAD|config|shallow)\.lock$/, STALE_LOCK_MS);
  await removeOlder(join(dir, "refs"), /\.lock$/, STALE_LOCK_MS, { recursive: true });
}

export async function removeOlder(
  dir: string,
  name: RegExp,
  ageMs: number,
  options = { recursive: false },
): Promise<void> {
  const entries = await readdir(dir, { withFileTypes: true, ...options }).catch((error) => {
    if (isMissing(error)) return [];
    throw error;
  });
  for (const entry of entries.filter((candidate) => name.test(candidate.name))) {
    const path = join(entry.parentPath, entry.name);
    if (Date.now() - (await lastWrittenAt(path)) > ageMs) await rm(path, { recursive: true, force: true });
  }
}

/** When `path`, or for a directory anything in it, was last written. What vanishes meanwhile counts as written now. */
async function lastWrittenAt(path: string): Promise<number> {
  const inside = await readdir(path, { recursive: true }).catch(() => []);
  const times = [path, ...inside.map((name) => join(path, name))].map((each) =>
    stat(each).then(
      ({ mtimeMs }) => mtimeMs,
      () => Date.now(),
    ),
  );
  return Math.max(...(await Promise.all(times)));
}

/** Makes HEAD name a branch that exists, `master` before others, unless it does already. */
export async function settleDefaultBranch(store: RepositoryStore, app: string): Promise<void> {
  const branches = [...(await listRefs(store, app, ["refs/heads"])).keys()];
  const { stdout } = await store.run(app, ["symbolic-ref", "HEAD"]);
  if (branches.includes(stdout.toString("utf8").trim())) return;
  const best = branches.find((ref) => ref === "refs/heads/master") ?? branches[0];
  if (best !== undefined) await store.run(app, ["symbolic-ref", "HEAD", best]);
}
