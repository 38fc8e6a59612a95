import { randomBytes } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { fail } from "../shared/errors.ts";
import { runProgram } from "../shared/run-program.ts";
import { diskFull } from "./disk-full.ts";
import type { PipelineContext, StepPlan } from "./executor.ts";

/**
 * Makes the step's own clone in `dir`, standing on the change's branch (or detached at its tag) at the commit.
 * Objects are copied, never hard-linked: root in the step's container could write through a link into the repository itself.
 * What a crash left in `dir` is replaced. A git that outlived the crash still writes, and at last removes, what it began: so every
 * attempt has a place of its own, and only a whole checkout is moved to `dir`.
 * @throws GIT_FAILED, DISK_FULL
 */
export async function checkOut(
  context: PipelineContext,
  clone: StepPlan["clone"],
  dir: string,
  searchPath: string,
  signal: AbortSignal,
): Promise<void> {
  if (!clone.enabled) return;
  const { repositoryDir, commit, refKind, refName } = context;
  const git = (...args: string[]) =>
    // What the machine's or the user's git configuration says must not change what a step sees, nor may hooks or LFS filters run.
    runProgram(["git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", ...args], {
      signal,
      env: {
        PATH: searchPath,
        HOME: "/nonexistent",
        GIT_CONFIG_NOSYSTEM: "1",
        GIT_TERMINAL_PROMPT: "0",
        GIT_LFS_SKIP_SMUDGE: "1",
      },
    });
  const identity = [
    "-c",
    "user.name=bitbucket-pipelines",
    "-c",
    "user.email=commits-noreply@bitbucket.org",
    "-c",
    "push.default=current",
  ];
  const shallow =
    clone.depth === undefined
      ? undefined
      : ["--depth", String(clone.depth), "--no-single-branch", `file://${repositoryDir}`];
  const made = `${dir}.${randomBytes(6).toString("hex")}`;
  try {
    await git(
      "clone",
      "--quiet",
      "--no-checkout",
      ...identity,
      ...(shallow ?? ["--no-hardlinks", repositoryDir]),
      made,
    );
    const place = refKind === "branch" ? ["-B", refName, commit] : ["--detach", commit];
    await git("-C", made, "checkout", "--quiet", "--force", ...place);
    await rm(dir, { recursive: true, force: true });
    await rename(made, dir);
  } catch (error) {
    signal.throwIfAborted();
    await rm(made, { recursive: true, force: true });
    const text = error instanceof Error ? error.message : String(error);
    if (/no space left/i.test(text)) throw diskFull("make the checkout", error);
    throw fail("GIT_FAILED", {
      message: `Could not check out ${commit.slice(0, 10)} of ${context.app}: ${text}`,
      cause: error,
    });
  }
}
