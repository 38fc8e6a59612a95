import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { gitRepositories, type Repositories } from "./repositories.ts";

let root: string;
let work: string;
let repositories: Repositories;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "shipway-repositories-"));
  work = join(root, "work");
  repositories = gitRepositories({ dir: join(root, "hosted") });
  await repositories.create("shop");
  await mkdir(work);
  git("init", "--quiet", "--initial-branch=main");
});

afterEach(() => rm(root, { recursive: true, force: true }));

function git(...args: string[]): string {
  const env = {
    PATH: process.env.PATH,
    HOME: "/nonexistent",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "Ann Änders",
    GIT_AUTHOR_EMAIL: "ann@example.com",
    GIT_AUTHOR_DATE: "2024-05-06T07:08:09Z",
    GIT_COMMITTER_NAME: "Bob",
    GIT_COMMITTER_EMAIL: "bob@example.com",
    GIT_COMMITTER_DATE: "2024-05-06T07:08:10Z",
  };
  return execFileSync("git", args, { cwd: work, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

function commit(message = "Change something"): string {
  git("commit", "--quiet", "--allow-empty", "-m", message);
  return git("rev-parse", "HEAD");
}

/** Stores refs without the HTTP server, as a push that was never recorded. */
function store(...refs: string[]): void {
  git("push", "--quiet", "--force", repositories.dirOf("shop"), ...refs);
}

async function commitFiles(files: Record<string, string | Buffer>): Promise<string> {
  for (const [name, content] of Object.entries(files)) await writeFile(join(work, name), content);
  git("add", "--all");
  const id = commit();
  store("main");
  return id;
}

test("creating a repository again keeps what is in it", async () => {
  const head = commit();
  store("main");
  await Promise.all([repositories.create("shop"), repositories.create("shop")]);
  expect(await repositories.refs("shop")).toEqual(new Map([["refs/heads/main", head]]));
});

test("two creations at once make one repository and leave nothing beside it", async () => {
  await Promise.all([repositories.create("blog"), repositories.create("blog"), repositories.create("blog")]);
  expect(await repositories.exists("blog")).toBe(true);
  expect((await readdir(join(root, "hosted"))).sort()).toEqual(["blog.git", "shop.git"]);
});

test("creating brings old settings up to date", async () => {
  const config = join(repositories.dirOf("shop"), "config");
  const current = await readFile(config, "utf8");
  await writeFile(config, "[core]\n\tbare = true\n");
  await repositories.create("shop");
  expect(await readFile(config, "utf8")).toBe(current);
});

test.each(["../shop", "", "Shop", "a/b", "-x", "shop.git", "a".repeat(31), "x\0y"])(
  "%j is no app: nothing on disk is touched for it",
  async (name) => {
    expect(await repositories.exists(name)).toBe(false);
    expect(() => repositories.dirOf(name)).toThrow(expect.objectContaining({ code: "APP_NOT_FOUND" }));
    await expect(repositories.create(name)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    expect(await readdir(join(root, "hosted"))).toEqual(["shop.git"]);
  },
);

test("a removed repository is gone, and removing it again is no error", async () => {
  await repositories.remove("shop");
  await repositories.remove("shop");
  expect(await repositories.exists("shop")).toBe(false);
  expect(await readdir(join(root, "hosted"))).toEqual([]);
});

test("asking an app that is not there says so", async () => {
  const unknown = { code: "APP_NOT_FOUND", hint: expect.stringContaining("shipway app create blog") };
  await expect(repositories.refs("blog")).rejects.toMatchObject(unknown);
  await expect(repositories.resolveCommit("blog", "main")).rejects.toMatchObject(unknown);
  await expect(repositories.readFile("blog", "a".repeat(40), "a.txt")).rejects.toMatchObject(unknown);
});

// --- reading

test("a file is read as it was at the commit", async () => {
  const first = await commitFiles({ "shipway.yml": "app: shöp\n" });
  const second = await commitFiles({ "shipway.yml": "" });
  expect(await repositories.readFile("shop", first, "shipway.yml")).toBe("app: shöp\n");
  expect(await repositories.readFile("shop", second, "shipway.yml")).toBe("");
});

test.each(["missing.yml", "dir", "../shipway.yml", "/etc/passwd", "", "a\nb", "a//b", "outside", "loop"])(
  "there is no file %j",
  async (path) => {
    await mkdir(join(work, "dir"));
    await symlink("/etc/passwd", join(work, "outside"));
    await symlink("loop", join(work, "loop"));
    const head = await commitFiles({ "dir/a.txt": "a" });
    expect(await repositories.readFile("shop", head, path)).toBeUndefined();
  },
);

test("a symbolic link inside the repository is followed", async () => {
  await symlink("real.yml", join(work, "shipway.yml"));
  const head = await commitFiles({ "real.yml": "app: shop\n" });
  expect(await repositories.readFile("shop", head, "shipway.yml")).toBe("app: shop\n");
});

test("a file of exactly the limit is read, one byte more is refused with its size", async () => {
  const head = await commitFiles({ fits: "x".repeat(1_000), big: "x".repeat(1_001), huge: Buffer.alloc(3_000_000) });
  expect(await repositories.readFile("shop", head, "fits", 1_000)).toHaveLength(1_000);
  await expect(repositories.readFile("shop", head, "big", 1_000)).rejects.toMatchObject({
    code: "REQUEST_INVALID",
    message: "big has 1001 bytes, more than the 1000 that are read.",
  });
  await expect(repositories.readFile("shop", head, "huge")).rejects.toMatchObject({ code: "REQUEST_INVALID" });
});

test("reading from a commit that is not there is an error, not an absent file", async () => {
  await expect(repositories.readFile("shop", "0".repeat(39).concat("1"), "a.txt")).rejects.toMatchObject({
    code: "COMMIT_NOT_FOUND",
  });
});

test("branches, tags, full refs and commit ids lead to their commit, a branch before a tag", async () => {
  const first = commit("First");
  git("tag", "-a", "v1", "-m", "One");
  git("tag", "both");
  const second = commit("Second");
  git("branch", "both");
  store("--all");
  store("--tags");
  const found = await Promise.all(
    ["main", "v1", "both", "refs/tags/both", first, first.slice(0, 7)].map((name) =>
      repositories.resolveCommit("shop", name),
    ),
  );
  expect(found).toEqual([second, first, second, first, first, first]);
});

test.each([
  "nowhere",
  "main~0",
  "main^",
  "@{-1}",
  ":/First",
  "--all",
  "-h",
  "main:a",
  "a b",
  "main\nmain",
  "",
  "HEAD^{tree}",
])("%j is no commit", async (name) => {
  commit("First");
  store("main");
  await expect(repositories.resolveCommit("shop", name)).rejects.toMatchObject({ code: "COMMIT_NOT_FOUND" });
});

test("a commit is described with its subject, body and author", async () => {
  const id = commit("Sell ships\n\nThey float.\nMostly. [skip ci]");
  store("main");
  expect(await repositories.describe("shop", id)).toEqual({
    commit: id,
    subject: "Sell ships",
    body: "They float.\nMostly. [skip ci]",
    author: { name: "Ann Änders", email: "ann@example.com" },
    authoredAt: Date.parse("2024-05-06T07:08:09Z"),
    committedAt: Date.parse("2024-05-06T07:08:10Z"),
  });
});

test("what is no commit is not described", async () => {
  const head = await commitFiles({ "a.txt": "text" });
  for (const id of ["0".repeat(40), git("rev-parse", `${head}:a.txt`)]) {
    await expect(repositories.describe("shop", id)).rejects.toMatchObject({ code: "COMMIT_NOT_FOUND" });
  }
});

test("a pushed replacement of a commit does not change what the commit reads as", async () => {
  const good = await commitFiles({ "a.txt": "good" });
  const evil = await commitFiles({ "a.txt": "evil" });
  execFileSync("git", ["update-ref", `refs/replace/${good}`, evil], { cwd: repositories.dirOf("shop") });
  expect(await repositories.readFile("shop", good, "a.txt")).toBe("good");
});

// --- what was pushed and never recorded

test("refs that were stored but not recorded are found, and only they", async () => {
  const first = commit("First");
  git("tag", "-a", "v1", "-m", "One");
  store("main", "main:same", "v1");
  const second = commit("Second");
  store("main", "main:new");
  const recorded = new Map([
    ["refs/heads/main", first],
    ["refs/heads/same", first],
    ["refs/tags/v1", first],
    ["refs/heads/gone", first],
    ["refs/notes/x", first],
  ]);
  expect(await repositories.unrecordedRefs("shop", recorded)).toEqual([
    { ref: "refs/heads/main", refKind: "branch", refName: "main", oldCommit: first, newCommit: second, forced: false },
    {
      ref: "refs/heads/new",
      refKind: "branch",
      refName: "new",
      oldCommit: undefined,
      newCommit: second,
      forced: false,
    },
    {
      ref: "refs/heads/gone",
      refKind: "branch",
      refName: "gone",
      oldCommit: first,
      newCommit: undefined,
      forced: false,
    },
  ]);
});

test("a rewritten branch whose recorded commit was pruned counts as forced", async () => {
  commit("First");
  store("main");
  const recorded = new Map([["refs/heads/main", "1".repeat(40)]]);
  expect(await repositories.unrecordedRefs("shop", recorded)).toMatchObject([{ forced: true }]);
});

// --- housekeeping

test("what killed git processes left is cleared once it is old, and not before", async () => {
  commit();
  store("main");
  const dir = repositories.dirOf("shop");
  const old = new Date(Date.now() - 24 * 3_600_000);
  const left = [join(dir, "objects", "tmp_objdir-incoming-old"), join(root, "hosted", ".new-blog-old")];
  const fresh = [join(dir, "objects", "tmp_objdir-incoming-new"), join(root, "hosted", ".new-blog-new")];
  for (const path of [...left, ...fresh]) await mkdir(path);
  await writeFile(join(dir, "objects", "tmp_objdir-incoming-new", "tmp_pack"), "");
  for (const path of [...left, ...fresh.slice(0, 1)]) await utimes(path, old, old);
  await writeFile(join(dir, "refs", "heads", "main.lock"), "");
  await utimes(join(dir, "refs", "heads", "main.lock"), old, old);
  const next = commit();
  expect(() => store("main")).toThrow(/main\.lock/);

  await repositories.maintain("shop");
  store("main");
  expect((await repositories.refs("shop")).get("refs/heads/main")).toBe(next);
  expect(await readdir(join(dir, "objects"))).toContain("tmp_objdir-incoming-new");
  expect(await readdir(join(dir, "objects"))).not.toContain("tmp_objdir-incoming-old");
  expect((await readdir(join(root, "hosted"))).sort()).toEqual([".new-blog-new", "shop.git"]);
});

test("many packs become few, and commits that no branch has any more stay readable", async () => {
  const dir = repositories.dirOf("shop");
  execFileSync("git", ["config", "gc.autoPackLimit", "3"], { cwd: dir });
  for (let n = 0; n < 6; n++) {
    commit(`Commit ${n}`);
    store("main");
  }
  const lost = git("rev-parse", "HEAD");
  git("reset", "--quiet", "--hard", "HEAD~2");
  store("main");
  const packs = async () => (await readdir(join(dir, "objects", "pack"))).filter((name) => name.endsWith(".pack"));
  expect(await packs()).toHaveLength(6);
  await repositories.maintain("shop");
  expect((await packs()).length).toBeLessThan(4);
  expect((await repositories.describe("shop", lost)).subject).toBe("Commit 5");
});
