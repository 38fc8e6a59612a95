import { chmod, chown, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../../../../shared/errors.ts";
import { CONFIG_FILE, findStoredJson, type RenderedRouter, type StoredRouter } from "./render-config.ts";
import { parseStoredRouter } from "./stored-router.ts";

export const CANDIDATE_FILE = "candidate.cfg";

/** Makes the router's directory: only its user, and root, may look into it or reach its sockets. */
export async function makeRouterDirectory(dir: string, user: { uid: number; gid: number }): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  if (process.getuid?.() === 0) await chown(dir, user.uid, user.gid);
}

/** The configuration as it stands; undefined before the first one was written. */
export async function findConfig(dir: string): Promise<string | undefined> {
  try {
    return await readFile(join(dir, CONFIG_FILE), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** @throws ROUTER_FAILED when the file was changed by hand beyond recognition */
export async function readStored(dir: string): Promise<StoredRouter> {
  const config = await findConfig(dir);
  const json = config === undefined ? undefined : findStoredJson(config);
  if (config === undefined) return { networks: {}, backends: [] };
  try {
    return parseStoredRouter(JSON.parse(json ?? ""));
  } catch (cause) {
    throw fail("ROUTER_FAILED", {
      message: `The router's state in ${join(dir, CONFIG_FILE)} cannot be read: ${String(cause)}`,
      hint: "Move the file away and restart Shipway: it writes the router's state anew from its own records.",
      cause,
    });
  }
}

/** Maps first, under names of their own, then the configuration that names them: each moment of this is a whole state. */
export async function writeRendered(dir: string, rendered: RenderedRouter, file = CONFIG_FILE): Promise<void> {
  const present = new Set(await readdir(dir));
  const missing = Object.entries(rendered.maps).filter(([name]) => !present.has(name));
  for (const [name, text] of missing) await writeDurably(dir, name, text);
  await writeDurably(dir, file, rendered.config);
}

/** Removes maps that no configuration names any more. An old worker has read its maps when it started. */
export async function removeOldMaps(dir: string, rendered: RenderedRouter): Promise<void> {
  const old = (await readdir(dir)).filter((name) => name.endsWith(".map") && !(name in rendered.maps));
  await Promise.all(old.map((name) => rm(join(dir, name), { force: true })));
}

/** Readable for the container's user; the directory keeps everybody else out. */
async function writeDurably(dir: string, name: string, text: string): Promise<void> {
  const beside = join(dir, `.${name}.new`);
  const file = await open(beside, "w", 0o644);
  try {
    await file.writeFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(beside, join(dir, name));
}
