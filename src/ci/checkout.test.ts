import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { runProgram } from "../shared/run-program.ts";
import { checkOut } from "./checkout.ts";
import type { PipelineContext } from "./executor.ts";

const PATH = "/usr/local/bin:/usr/bin:/bin";
let root: string;
let context: PipelineContext;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "shipway-checkout-"));
  const repository = join(root, "repository");
  const git = (...args: string[]) =>
    runProgram(["git", "-C", repository, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", ...args]);
  await mkdir(repository);
  await git("init", "--quiet", "--initial-branch=main");
  await writeFile(join(repository, "file.txt"), "as committed\n");
  await git("add", "--all");
  await git("commit", "--quiet", "--message", "First");
  const commit = (await git("rev-parse", "HEAD")).stdout.trim();
  context = {
    runId: "p_1",
    app: "shop",
    repositoryDir: repository,
    commit,
    refKind: "branch",
    refName: "main",
    buildNumber: 1,
    variables: {},
    secrets: {},
  };
});
afterEach(() => rm(root, { recursive: true, force: true }));

it("replaces what a crash left of an earlier attempt, and leaves nothing beside it", async () => {
  const dir = join(root, "step", "build");
  await mkdir(join(dir, ".git", "objects"), { recursive: true });
  await writeFile(join(dir, ".git", "config.lock"), "");
  await writeFile(join(dir, "leftover.txt"), "half a file");
  await checkOut(context, { enabled: true, depth: 50 }, dir, PATH, new AbortController().signal);
  expect(await readFile(join(dir, "file.txt"), "utf8")).toBe("as committed\n");
  expect((await readdir(dir)).sort()).toEqual([".git", "file.txt"]);
  expect(await readdir(join(root, "step"))).toEqual(["build"]);
});

it("leaves what is there as it is when the commit cannot be had", async () => {
  const dir = join(root, "step", "build");
  await mkdir(dir, { recursive: true });
  const missing = { ...context, commit: "0".repeat(40) };
  const attempt = checkOut(missing, { enabled: true }, dir, PATH, new AbortController().signal);
  await expect(attempt).rejects.toMatchObject({ code: "GIT_FAILED" });
  expect(await readdir(join(root, "step"))).toEqual(["build"]);
});
