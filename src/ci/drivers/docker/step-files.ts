import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StepOutcome } from "../../executor.ts";

/** Directories of one step on the host. */
export type StepDirs = { root: string; build: string; scripts: string; mounts: string; artifacts: string };

/** The host's side of runs: `runs/RUN/steps/STEP`, `runs/RUN/artifacts/STAGE.STEP`, `caches/APP/…`, `trash`. */
export type StepFiles = ReturnType<typeof newStepFiles>;

export function newStepFiles(workDir: string) {
  const trash = join(workDir, "trash");
  let sweeping: Promise<void> = Promise.resolve();

  const runDir = (runId: string) => join(workDir, "runs", safeName(runId));
  const stepRoot = (runId: string, stepId: string) => join(runDir(runId), "steps", safeName(stepId));

  async function sweep(remove: (path: string) => Promise<void>): Promise<void> {
    const left = await readdir(trash).catch(() => []);
    for (const name of left) await remove(join(trash, name));
  }

  return {
    runDir,
    cachesDir: (app: string) => join(workDir, "caches", safeName(app)),
    artifactsRoot: (runId: string) => join(runDir(runId), "artifacts"),

    async makeStepDirs(runId: string, step: { id: string; stage: number }): Promise<StepDirs> {
      const root = stepRoot(runId, step.id);
      const dirs = {
        root,
        build: join(root, "build"),
        scripts: join(root, "scripts"),
        mounts: join(root, "mounts"),
        artifacts: join(runDir(runId), "artifacts", `${step.stage}.${safeName(step.id)}`),
      };
      for (const dir of [dirs.build, dirs.scripts, dirs.mounts]) await mkdir(dir, { recursive: true });
      return dirs;
    },

    async readOutcome(runId: string, stepId: string): Promise<StepOutcome | undefined> {
      const text = await readFile(join(stepRoot(runId, stepId), "outcome.json"), "utf8").catch(() => undefined);
      return text === undefined ? undefined : (JSON.parse(text) as StepOutcome);
    },

    async writeOutcome(runId: string, outcome: StepOutcome): Promise<void> {
      const root = stepRoot(runId, outcome.id);
      await mkdir(root, { recursive: true });
      await writeFile(join(root, "outcome.json.new"), JSON.stringify(outcome), { mode: 0o600 });
      await rename(join(root, "outcome.json.new"), join(root, "outcome.json"));
    },

    /**
     * Gets a directory out of the way at once; its files are removed in the background (a large node_modules takes seconds). What a crash leaves is
     * removed the next time. `asRoot` removes what a step wrote as root when Shipway is another user.
     */
    async discard(path: string, asRoot: (path: string) => Promise<void>): Promise<void> {
      await mkdir(trash, { recursive: true });
      const moved = await rename(path, join(trash, randomUUID())).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === "ENOENT") return false;
          throw error;
        },
      );
      if (!moved) return;
      const remove = (found: string) => rm(found, { recursive: true, force: true }).catch(() => asRoot(found));
      sweeping = sweeping.then(() => sweep(remove)).catch(() => undefined);
    },

    /** Resolves when everything discarded so far is gone. */
    swept: () => sweeping,
  };
}

/** Ids become directory names: what could leave the directory is a bug of the caller. */
function safeName(name: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name)) throw new Error(`not usable as a directory name: ${name}`);
  return name;
}
