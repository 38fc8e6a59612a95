import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { formatDurationMs } from "../../../../shared/duration.ts";
import { restoreArtifacts } from "../../../place-artifacts.ts";
import { makeRealDirectory } from "../../../real-directories.ts";
import { CLONE_DIR, SCRIPTS_DIR } from "../../../step-places.ts";
import { KEPT_DIR, type Order, PIPES_DIR, TASK_DIRS } from "../order.ts";
import { unpack } from "./archives.ts";
import { download } from "./transfer.ts";

const TMP = join(TASK_DIRS.work, "tmp");

/** Lays everything out for the step. @returns what to tell about it */
export async function setUp(order: Order): Promise<string[]> {
  const remarks: string[] = [];
  await mkdir(TASK_DIRS.work, { recursive: true });
  await chmod(TASK_DIRS.work, 0o755);
  await bringCheckout(order, remarks);
  await bringArtifacts(order, remarks);
  remarks.push(...order.remarks);
  // One after the other: they go through the same disk and the same network.
  for (const cache of order.caches) await bringCache(cache, remarks);
  await writeScripts(order);
  if (order.openToAll) await run(["chmod", "-R", "a+rwX", CLONE_DIR]);
  await rm(TMP, { recursive: true, force: true });
  return remarks;
}

async function bringCheckout({ checkout }: Order, remarks: string[]): Promise<void> {
  if (checkout === null) return void (await mkdir(CLONE_DIR, { recursive: true }));
  const startedAt = Date.now();
  await download(checkout.address, (body) => unpack(body, CLONE_DIR));
  remarks.push(`cloned ${checkout.what} in ${formatDurationMs(Date.now() - startedAt)}`);
}

async function bringArtifacts({ artifacts, step }: Order, remarks: string[]): Promise<void> {
  const root = join(TMP, "artifacts");
  for (const { name, address } of artifacts) await download(address, (body) => unpack(body, join(root, name)));
  const files = await restoreArtifacts(root, step, CLONE_DIR);
  if (files > 0) remarks.push(`restored ${files} artifact ${files === 1 ? "file" : "files"} of earlier steps`);
}

async function bringCache({ name, address, into }: Order["caches"][number], remarks: string[]): Promise<void> {
  const startedAt = Date.now();
  if (into.kind === "mount") {
    await download(address, (body) => unpack(body, join(TASK_DIRS.mounts, into.mount), true));
  } else {
    const [beside, target] = [join(TMP, "cache"), join(CLONE_DIR, into.path)];
    await download(address, (body) => unpack(body, beside));
    // A directory of the repository on the way may be a link to anywhere.
    await makeRealDirectory(CLONE_DIR, dirname(into.path));
    await rm(target, { recursive: true, force: true });
    await rename(beside, target);
  }
  remarks.push(`cache ${name}: restored in ${formatDurationMs(Date.now() - startedAt)}`);
}

async function writeScripts({ scripts }: Order): Promise<void> {
  for (const dir of [SCRIPTS_DIR, PIPES_DIR, KEPT_DIR]) await mkdir(dir, { recursive: true });
  for (const [name, text] of Object.entries(scripts)) await writeFile(join(SCRIPTS_DIR, name), text, { mode: 0o644 });
  // Left over from an attempt of this container, if it was begun again.
  for (const name of ["out", "err", "code"]) await rm(join(PIPES_DIR, name), { force: true });
  await run(["mkfifo", "-m", "0666", join(PIPES_DIR, "out"), join(PIPES_DIR, "err")]);
  // The step may run as any user.
  for (const dir of [PIPES_DIR, KEPT_DIR]) await chmod(dir, 0o777);
}

async function run([program = "", ...args]: string[]): Promise<void> {
  const child = spawn(program, args, { stdio: "ignore" });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${program} exited with ${code}`);
}
