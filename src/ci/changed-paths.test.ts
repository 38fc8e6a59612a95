import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runProgram } from "../shared/run-program.ts";
import { gitCommand } from "../source/git-command.ts";
import { readChangedPaths } from "./changed-paths.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "shipway-changed-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const git = (...args: string[]) =>
  runProgram([
    "git",
    "-C",
    dir,
    "-c",
    "user.name=t",
    "-c",
    "user.email=t@example.org",
    "-c",
    "init.defaultBranch=main",
    ...args,
  ]);

async function commit(path: string): Promise<void> {
  writeFileSync(join(dir, path), "x");
  await git("add", "--all");
  await git("commit", "--quiet", "--message", path);
}

const changed = () => readChangedPaths(gitCommand(process.env.PATH ?? ""), dir, "HEAD");

describe("readChangedPaths", () => {
  it("lists a first commit, a later one, and a merge against its first parent", async () => {
    await git("init", "--quiet");
    await commit("ä b.txt");
    expect(await changed()).toEqual(["ä b.txt"]);
    await git("checkout", "--quiet", "-b", "side");
    await commit("one");
    await commit("two");
    expect(await changed()).toEqual(["two"]);
    await git("checkout", "--quiet", "main");
    await commit("three");
    await git("merge", "--quiet", "--no-ff", "--message", "merge", "side");
    expect(await changed()).toEqual(["one", "two"]);
  });
});
