import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { gitCommand } from "../source/git-command.ts";
import { hashCode } from "./code-hash.ts";

const git = gitCommand(process.env.PATH ?? "");
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-code-hash-"));
  await git.run(["init", "--quiet", dir]);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** The hash after these files were committed on top of what is there. */
async function hashWith(files: Record<string, string>): Promise<string> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  const who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
  await git.run(["-C", dir, "add", "--all"]);
  await git.run(["-C", dir, ...who, "commit", "--quiet", "--allow-empty", "--message", "Change"]);
  return await hashCode(git, join(dir, ".git"), "HEAD", { dir: "infra", varFiles: [] });
}

const BEFORE = {
  "infra/main.tf": 'module "net" { source = "../modules/net" }',
  "modules/net/main.tf": "",
  "modules/net/policies/driver.json": "{}",
  "src/server.js": "",
  "versions.tf": "",
};

it.each([
  ["a file below the folder", "infra/notes.txt"],
  ["a module elsewhere", "modules/net/main.tf"],
  ["a document that such a module reads", "modules/net/policies/driver.json"],
  ["Terraform code that is new, anywhere", "other/new.tf"],
  ["a lock file", ".terraform.lock.hcl"],
])("changes with %s", async (_what, path) => {
  const before = await hashWith(BEFORE);
  expect(await hashWith({ [path]: "changed" })).not.toBe(before);
});

it("stays with what Terraform does not read, even where code lies in the root", async () => {
  const before = await hashWith(BEFORE);
  expect(await hashWith({ "src/server.js": "changed", "README.md": "new", "modules/README.md": "new" })).toBe(before);
});
