import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";

/** Fast rather than small: within a Region the way to S3 is wider than a processor of Fargate is quick. */
const LEVEL = 1;

/** Unpacks into `dir`, which is made anew; `keepDir` leaves it in place, for a mount cannot be removed. */
export async function unpack(archive: Readable, dir: string, keepDir = false): Promise<void> {
  if (!keepDir) await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const tar = run(["tar", "-x", "-p", "--numeric-owner", "-C", dir], "pipe");
  await Promise.all([pipeline(archive, createGunzip(), tar.stdin), tar.ended]);
}

/** Packs a directory with its own mode and owner, or only these files of it, into a file beside. */
export async function pack(dir: string, file: string, paths?: readonly string[]): Promise<void> {
  const what = paths === undefined ? ["."] : ["--no-recursion", "--null", "-T", "-"];
  const tar = run(["tar", "-c", "--numeric-owner", "-C", dir, ...what], paths === undefined ? "ignore" : "pipe");
  if (paths !== undefined) tar.stdin.end(paths.map((path) => `./${path}\0`).join(""));
  await Promise.all([pipeline(tar.stdout, createGzip({ level: LEVEL }), createWriteStream(file)), tar.ended]);
}

function run([program = "", ...args]: string[], input: "pipe" | "ignore") {
  const child = spawn(program, args, { stdio: [input, "pipe", "pipe"] });
  let complaint = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-1_000);
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`${program} exited with ${code}: ${complaint.trim()}`)),
    );
  });
  ended.catch(() => undefined);
  const { stdin, stdout } = child;
  // What a program that ended early did not take is told by its exit code.
  stdin?.on("error", () => undefined);
  return { stdin: stdin as NonNullable<typeof stdin>, stdout: stdout as NonNullable<typeof stdout>, ended };
}
