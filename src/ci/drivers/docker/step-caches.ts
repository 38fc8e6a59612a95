import { spawn } from "node:child_process";
import { basename, dirname, join } from "node:path";
import type Docker from "dockerode";
import { formatDurationMs } from "../../../shared/duration.ts";
import { isExpired, resolveCache, restoreCache, type StepCache, saveFromArchive, saveFromCheckout } from "./caches.ts";
import { messageOf, statusOf } from "./docker-errors.ts";
import type { StepRun } from "./step-run.ts";

/** The step's caches in the order of its plan; undefined for one whose key files do not exist. */
export function resolveCaches(run: StepRun, image: Docker.ImageInspectInfo): Promise<(StepCache | undefined)[]> {
  const cachesDir = run.files.cachesDir(run.context.app);
  const home = homeOf(image);
  return Promise.all(
    run.step.caches.map((cache) => resolveCache(cache, cachesDir, run.dirs.build, home, run.searchPath)),
  );
}

/** Brings the step's caches to where it will look for them, and returns them all, the missing ones too. */
export async function restoreCaches(run: StepRun, image: Docker.ImageInspectInfo): Promise<StepCache[]> {
  const { step } = run;
  const caches = await resolveCaches(run, image);
  return Promise.all(
    caches.flatMap((cache, index) => {
      const name = step.caches[index]?.name ?? "";
      if (cache) return restoreOne(run, cache);
      run.remark(`cache ${name}: none of its key files exists, so it is not used`);
      return [];
    }),
  );
}

async function restoreOne(run: StepRun, cache: StepCache): Promise<StepCache> {
  if (cache.hit && (await isExpired(cache, run.now()))) {
    await run.files.discard(cache.kept, (path) =>
      run.containers.removeAsRoot(run.step.image, dirname(path), basename(path)),
    );
    run.remark(`cache ${cache.name}: older than 7 days, made anew`);
    return { ...cache, hit: false };
  }
  if (!cache.hit) {
    run.remark(`cache ${cache.name}: nothing kept yet`);
    return cache;
  }
  const startedAt = run.now();
  await restoreCache(cache, run.dirs.build, mountOf(run, cache));
  run.remark(`cache ${cache.name}: restored in ${formatDurationMs(run.now() - startedAt)}`);
  return cache;
}

function mountOf(run: StepRun, cache: StepCache): string {
  return join(run.dirs.mounts, basename(cache.kept));
}

/** A kept cache outside of the checkout is mounted over its path; one that is not kept is not, since the image may have files there. */
export function mountsOf(run: StepRun, caches: readonly StepCache[]): { source: string; target: string }[] {
  const mounted = caches.filter(({ hit, place }) => hit && place.kind === "container");
  return mounted.map((cache) => ({ source: mountOf(run, cache), target: cache.place.path }));
}

/** Keeps the caches that were missing. One that cannot be kept costs time later, not the step. */
export async function saveCaches(
  run: StepRun,
  container: Docker.Container,
  caches: readonly StepCache[],
): Promise<void> {
  for (const cache of caches.filter(({ hit }) => !hit)) {
    const startedAt = run.now();
    try {
      const saved = await saveCache(run, container, cache);
      if (saved) run.remark(`cache ${cache.name}: kept in ${formatDurationMs(run.now() - startedAt)}`);
    } catch (error) {
      run.remark(`cache ${cache.name} was not kept: ${messageOf(error)}`);
    }
  }
}

async function saveCache(run: StepRun, container: Docker.Container, cache: StepCache): Promise<boolean> {
  if (cache.place.kind === "checkout") return saveFromCheckout(cache, run.dirs.build);
  try {
    const archive = await container.getArchive({ path: cache.place.path });
    return await saveFromArchive(cache, archive, extractTar);
  } catch (error) {
    // The step never made the directory.
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** The system's tar, which refuses names and links that lead out of the directory. */
function extractTar(dir: string): NodeJS.WritableStream & { done: Promise<void> } {
  const child = spawn("tar", ["-x", "-p", "--numeric-owner", "--strip-components=1", "-C", dir], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000);
  });
  const done = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`tar exited with ${code}: ${complaint.trim()}`)),
    );
  });
  done.catch(() => undefined);
  return Object.assign(child.stdin, { done });
}

/** Where `~` is for the step's user. */
function homeOf(image: Docker.ImageInspectInfo): string {
  const home = image.Config.Env?.find((entry) => entry.startsWith("HOME="));
  return home === undefined ? "/root" : home.slice("HOME=".length);
}
