import { type ChildProcessByStdio, spawn } from "node:child_process";
import { posix } from "node:path";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Pack, pack } from "tar-stream";
import { fail } from "../shared/errors.ts";
import type { GitCommand } from "../source/git-command.ts";
import type { ImagePlan } from "./builder.ts";
import { type IgnoreRule, parseDockerIgnore } from "./docker-ignore.ts";
import { type GitObject, readGitObjects } from "./git-objects.ts";

type Header = Parameters<Pack["entry"]>[0];
type Entry = { mode: string; id: string; path: string };
type Plan = Pick<ImagePlan, "repositoryDir" | "commit" | "context" | "dockerfile">;

const LFS_POINTER = "version https://git-lfs.github.com/spec/v1";
const MAX_REMARKS = 5;

/**
 * The build context as a tar stream, straight from git's objects: no checkout, nothing of a working tree. `.dockerignore` (or `DOCKERFILE.dockerignore`) is applied
 * before anything is read; the Dockerfile is always there. Not `git archive`, which leaves out what `.gitattributes` marks `export-ignore`.
 * Files carry the commit's time: an equal time for all content would let two releases of a static site share one ETag.
 * `remark` is told what may surprise (submodules, Git LFS pointers).
 */
export async function openContextTar(
  plan: Plan,
  git: GitCommand,
  options: { remark?: (text: string) => void; signal?: AbortSignal } = {},
): Promise<Readable> {
  const entries = await listEntries(plan, git);
  const rule = await readIgnoreRule(plan, entries, git);
  const kept = entries.filter(({ path }) => path === plan.dockerfile || !rule(path));
  const archive = pack();
  const out = new PassThrough({ highWaterMark: 1024 * 1024 });
  const { signal, remark = () => {} } = options;
  // Whoever reads `out` gets the first error of either side; a tar that is cut off must not look like a whole one.
  fillTar(archive, plan, kept, git, { remark, signal }).catch((error) => archive.destroy(error));
  pipeline(archive, out, signal ? { signal } : {}).catch((error) => out.destroy(error));
  return out;
}

async function listEntries({ repositoryDir, commit, context }: Plan, git: GitCommand): Promise<Entry[]> {
  const tree = `${commit}:${context === "." ? "" : context}`;
  const { stdout } = await git.run(["-C", repositoryDir, "ls-tree", "-r", "-z", "--full-tree", tree]);
  return stdout.toString("utf8").split("\0").filter(Boolean).map(parseEntry);
}

/** `MODE TYPE ID\tPATH` */
function parseEntry(line: string): Entry {
  const tab = line.indexOf("\t");
  const [mode = "", , id = ""] = line.slice(0, tab).split(" ");
  return { mode, id, path: line.slice(tab + 1) };
}

async function readIgnoreRule(
  { repositoryDir, dockerfile }: Plan,
  entries: Entry[],
  git: GitCommand,
): Promise<IgnoreRule> {
  const own = entries.find(({ path }) => path === `${dockerfile}.dockerignore`);
  const file = own ?? entries.find(({ path }) => path === ".dockerignore");
  if (!file) return () => false;
  const { stdout } = await git.run(["-C", repositoryDir, "cat-file", "blob", file.id]);
  return parseDockerIgnore(stdout.toString("utf8"));
}

type FillOptions = { remark: (text: string) => void; signal: AbortSignal | undefined };

async function fillTar(archive: Pack, plan: Plan, entries: Entry[], git: GitCommand, { remark, signal }: FillOptions) {
  const files = entries.filter(({ mode }) => mode !== "160000");
  const submodules = entries.filter(({ mode }) => mode === "160000");
  for (const { path } of submodules.slice(0, MAX_REMARKS))
    remark(`${path} is a git submodule: its content is not part of the build context`);
  const child = spawn("git", ["-C", plan.repositoryDir, "cat-file", "--batch"], {
    env: git.environment(),
    stdio: ["pipe", "pipe", "ignore"],
    signal,
  });
  const ended = exitOf(child);
  const asked = [`${plan.commit}^{commit}`, ...files.map(({ id }) => id)];
  // git may stop reading when it fails; its exit says why, not the broken pipe.
  child.stdin.on("error", () => {});
  child.stdin.end(`${asked.join("\n")}\n`);
  try {
    await writeEntries(archive, files, readGitObjects(child.stdout), remark);
    await ended;
    archive.finalize();
  } finally {
    child.kill();
    // Without this, output that nobody reads any more would keep the child from closing.
    child.stdout.destroy();
    await ended.catch(() => {});
  }
}

function exitOf(child: ChildProcessByStdio<Writable, Readable, null>): Promise<void> {
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(fail("GIT_FAILED", { message: `git cat-file ended with exit code ${code}.` })),
    );
  });
  ended.catch(() => {});
  return ended;
}

async function writeEntries(
  archive: Pack,
  files: Entry[],
  objects: AsyncIterator<GitObject>,
  remark: (text: string) => void,
): Promise<void> {
  const commit = await objects.next();
  const mtime = commit.done ? new Date(0) : committedAt((await commit.value.read()).toString("latin1"));
  const madeFolders = new Set<string>(["."]);
  let pointers = 0;
  for (const file of files) {
    const object = await objects.next();
    if (object.done) throw fail("GIT_FAILED", { message: `git ended before it gave ${file.path}.` });
    for (const folder of newFolders(file.path, madeFolders))
      await writeEntry(archive, { name: `${folder}/`, type: "directory", mode: 0o755, mtime });
    const first = await writeFile(archive, file, object.value, mtime);
    if (object.value.size < 1_024 && first.startsWith(LFS_POINTER) && pointers++ < MAX_REMARKS)
      remark(`${file.path} is a Git LFS pointer: the image gets the pointer, not the file`);
  }
}

/** Writes one file, link or executable; returns how its content begins. */
async function writeFile(archive: Pack, { mode, path }: Entry, object: GitObject, mtime: Date): Promise<string> {
  if (mode === "120000") {
    const linkname = (await object.read()).toString("utf8");
    await writeEntry(archive, { name: path, type: "symlink", linkname, mode: 0o777, mtime });
    return "";
  }
  const header: Header = {
    name: path,
    type: "file",
    size: object.size,
    mode: mode === "100755" ? 0o755 : 0o644,
    mtime,
  };
  if (object.size <= 1024 * 1024) {
    const content = await object.read();
    await writeEntry(archive, header, content);
    return content.subarray(0, LFS_POINTER.length).toString("latin1");
  }
  await new Promise<void>((resolve, reject) => {
    const sink = archive.entry(header, (error) => (error ? reject(error) : resolve()));
    pipeline(object.chunks(), sink).catch(reject);
  });
  return "";
}

/** Resolves when the archive took the entry, or is ready for more: so a slow reader slows git down. */
function writeEntry(archive: Pack, header: Header, content?: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    archive.entry(header, content ?? Buffer.alloc(0), (error) => (error ? reject(error) : resolve()));
  });
}

/** The folders above `path` that are not made yet, outermost first; they count as made from here on. */
function newFolders(path: string, made: Set<string>): string[] {
  const missing: string[] = [];
  for (let folder = posix.dirname(path); !made.has(folder); folder = posix.dirname(folder)) {
    made.add(folder);
    missing.unshift(folder);
  }
  return missing;
}

function committedAt(commit: string): Date {
  const seconds = /^committer .* (\d+) [+-]\d{4}$/m.exec(commit)?.[1];
  return new Date(Number(seconds ?? 0) * 1_000);
}
