import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { createGzip } from "node:zlib";
import type { Bucket } from "../../../aws/bucket.ts";
import { runProgram } from "../../../shared/run-program.ts";
import { checkOut } from "../../checkout.ts";
import type { PipelineContext, StepPlan } from "../../executor.ts";
import { matchesPathGlob } from "../../glob.ts";
import type { Keys } from "./names.ts";

export type CheckoutParts = { bucket: Bucket; keys: Keys; workDir: string; searchPath: string };

/** Makes and stores the checkout of a run, once for all of its steps. */
export function newCheckouts({ bucket, keys, workDir, searchPath }: CheckoutParts) {
  const storing = new Map<string, Promise<void>>();

  async function store(context: PipelineContext, clone: StepPlan["clone"], key: string, signal: AbortSignal) {
    if (await bucket.find(key)) return;
    await mkdir(workDir, { recursive: true });
    const dir = join(workDir, randomUUID());
    try {
      await checkOut(context, clone, dir, searchPath, signal);
      await bucket.upload(key, archive(dir, searchPath, signal), signal);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  return {
    /** @returns the key of the archive. @throws GIT_FAILED, DISK_FULL */
    async ensure(context: PipelineContext, clone: StepPlan["clone"], signal: AbortSignal): Promise<string> {
      const key = keys.checkout(context.runId, context.commit, clone.depth);
      for (;;) {
        const others = storing.get(key);
        const mine = others ?? store(context, clone, key, signal);
        storing.set(key, mine);
        try {
          await mine;
          return key;
        } catch (error) {
          // Another step that was canceled took its checkout along.
          if (others === undefined || signal.aborted) throw error;
        } finally {
          if (storing.get(key) === mine) storing.delete(key);
        }
      }
    },

    /** A hash of the files at the commit that the globs match, by git's own ids; undefined when there are none. */
    async hashKeyFiles(context: PipelineContext, globs: readonly string[]): Promise<string | undefined> {
      const { repositoryDir, commit } = context;
      const { stdout } = await runProgram(["git", "-C", repositoryDir, "ls-tree", "-r", "-z", commit], {
        env: { PATH: searchPath, HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" },
        maxBytes: 256 * 1024 * 1024,
      });
      // `MODE blob ID\tPATH`; what is no regular file has another mode.
      const files = stdout.split("\0").flatMap((entry) => {
        const [, id, path] = /^100\d+ blob ([0-9a-f]+)\t(.*)$/s.exec(entry) ?? [];
        return id !== undefined && path !== undefined && globs.some((glob) => matchesPathGlob(glob, path))
          ? [`${path}\0${id}\0`]
          : [];
      });
      if (files.length === 0) return undefined;
      return createHash("sha256").update(files.sort().join("")).digest("hex").slice(0, 20);
    },
  };
}

/** A directory as a compressed stream, all of it root's: what is uploaded is never whole in memory. */
async function* archive(dir: string, searchPath: string, signal: AbortSignal): AsyncGenerator<Buffer, void> {
  const tar = spawn("tar", ["-c", "--owner=0", "--group=0", "--numeric-owner", "-C", dir, "."], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: searchPath },
    signal,
  });
  let complaint = "";
  tar.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-1_000);
  });
  const ended = new Promise<void>((resolve, reject) => {
    tar.once("error", reject);
    tar.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`tar exited with ${code}: ${complaint.trim()}`)),
    );
  });
  ended.catch(() => undefined);
  // Fast rather than small: most of it is git's packs, which are compressed already.
  const packed = tar.stdout.pipe(createGzip({ level: 1 }));
  tar.stdout.once("error", (error) => packed.destroy(error));
  try {
    for await (const chunk of packed) yield chunk as Buffer;
    // An archive that lacks its end is not to be stored as a whole one.
    await ended;
  } finally {
    if (tar.exitCode === null) tar.kill();
  }
}
