import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { extract } from "tar-stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gitCommand } from "../source/git-command.ts";
import { openContextTar } from "./context-tar.ts";

const run = promisify(execFile);
const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const BIG = Buffer.alloc(3 * 1024 * 1024, "0123456789\n");
let dir: string;
let commit: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-context-"));
  const file = async (path: string, content: string | Buffer) => {
    await mkdir(join(dir, path, ".."), { recursive: true });
    await writeFile(join(dir, path), content);
  };
  await file("web/Dockerfile", "FROM a");
  await file("web/.dockerignore", "Dockerfile\n*.log\n");
  await file("web/prod.Dockerfile", "FROM b");
  await file("web/prod.Dockerfile.dockerignore", "big\n");
  await file("web/x.log", "log");
  await file("web/empty", "");
  await file("web/big", BIG);
  await file(`web/deep/${"folder/".repeat(20)}ümlaut file`, "deep");
  await file("web/run.sh", "#!/bin/sh");
  await chmod(join(dir, "web/run.sh"), 0o755);
  await symlink("run.sh", join(dir, "web/link"));
  await file("web/model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n");
  await file("outside", "no");
  await run("git", ["-C", dir, "init", "-q"]);
  await run("git", ["-C", dir, "add", "-A"]);
  await run("git", ["-C", dir, "update-index", "--add", "--cacheinfo", `160000,${"1".repeat(40)},web/lib`]);
  const env = { ...process.env, GIT_COMMITTER_DATE: "1700000000 +0100" };
  await run("git", ["-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", "x"], {
    env,
  });
  commit = (await run("git", ["-C", dir, "rev-parse", "HEAD"])).stdout.trim();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

type Found = {
  type: string | null | undefined;
  mode: number | undefined;
  mtime: number;
  link: string | null | undefined;
  content: Buffer;
};

async function read(dockerfile: string, remarks: string[] = []): Promise<Map<string, Found>> {
  const plan = { repositoryDir: dir, commit, context: "web", dockerfile };
  const found = new Map<string, Found>();
  const source = await openContextTar(plan, git, { remark: (text) => remarks.push(text) });
  const tar = extract();
  source.on("error", (error) => tar.destroy(error));
  source.pipe(tar);
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    const { name, type, mode, mtime, linkname } = entry.header;
    found.set(name, { type, mode, mtime: Number(mtime), link: linkname, content: Buffer.concat(chunks) });
  }
  return found;
}

describe("openContextTar", () => {
  it("holds the folder as it is committed: contents, modes, links, long names", async () => {
    const found = await read("Dockerfile");
    expect(found.get("big")?.content.equals(BIG)).toBe(true);
    expect(found.get("empty")?.content.length).toBe(0);
    expect(found.get("run.sh")).toMatchObject({ mode: 0o755 });
    expect(found.get("empty")).toMatchObject({ mode: 0o644 });
    expect(found.get("link")).toMatchObject({ type: "symlink", link: "run.sh" });
    expect(found.get(`deep/${"folder/".repeat(20)}ümlaut file`)?.content.toString()).toBe("deep");
    expect(found.get("deep/")).toMatchObject({ type: "directory", mode: 0o755 });
    expect([...found.keys()].some((name) => name.includes("outside"))).toBe(false);
  });

  it("gives every file the time of the commit", async () => {
    const times = new Set([...(await read("Dockerfile")).values()].map(({ mtime }) => mtime));
    expect([...times]).toEqual([1_700_000_000_000]);
  });

  it("leaves out what .dockerignore names, never the Dockerfile", async () => {
    const found = await read("Dockerfile");
    expect(found.has("x.log")).toBe(false);
    expect(found.has("Dockerfile")).toBe(true);
  });

  it("prefers the ignore file beside the Dockerfile", async () => {
    const found = await read("prod.Dockerfile");
    expect([found.has("x.log"), found.has("big")]).toEqual([true, false]);
  });

  it("remarks on submodules and Git LFS pointers", async () => {
    const remarks: string[] = [];
    await read("Dockerfile", remarks);
    expect(remarks).toEqual([
      expect.stringMatching(/^lib is a git submodule/),
      expect.stringMatching(/^model.bin is a Git LFS pointer/),
    ]);
  });

  it("breaks off with an error, not with an end, when it is aborted", async () => {
    const controller = new AbortController();
    const tar = await openContextTar({ repositoryDir: dir, commit, context: "web", dockerfile: "Dockerfile" }, git, {
      signal: controller.signal,
    });
    const reading = (async () => {
      for await (const _ of tar) controller.abort();
    })();
    await expect(reading).rejects.toThrow(/abort/i);
  });

  it("breaks off with an error when git lost an object", async () => {
    const blob = (await run("git", ["-C", dir, "rev-parse", `${commit}:web/big`])).stdout.trim();
    const path = join(dir, ".git/objects", blob.slice(0, 2), blob.slice(2));
    await run("mv", [path, `${path}.gone`]);
    try {
      await expect(read("Dockerfile")).rejects.toMatchObject({ code: "GIT_FAILED" });
    } finally {
      await run("mv", [`${path}.gone`, path]);
    }
  });
});
