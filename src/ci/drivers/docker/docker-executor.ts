import { basename, dirname } from "node:path";
import type Docker from "dockerode";
import type { StepExecutor } from "../../executor.ts";
import { toDockerError } from "./docker-errors.ts";
import { runStep } from "./run-step.ts";
import { newStepContainers } from "./step-containers.ts";
import { newStepFiles } from "./step-files.ts";

export type DockerExecutorOptions = {
  docker: Docker;
  /** Keeps the containers of several Shipways on one engine apart. */
  instance: string;
  /** Host directory for checkouts, artifacts and caches; the engine must see it under the same path. */
  workDir: string;
  /** A PATH in which git is found. */
  searchPath: string;
  /** How long a service may take until it answers. */
  serviceDeadlineMs?: number;
  now?: () => number;
};

// Databases that set themselves up take a minute on a slow disk.
const SERVICE_DEADLINE_MS = 120_000;

/** Steps as containers of one Docker Engine. They outlive a restart of Shipway and are found again by their labels. */
export function dockerExecutor(options: DockerExecutorOptions): StepExecutor {
  const { docker, instance, workDir, searchPath, serviceDeadlineMs = SERVICE_DEADLINE_MS, now = Date.now } = options;
  const containers = newStepContainers(docker);
  const files = newStepFiles(workDir);
  const shared = { docker, instance, searchPath, serviceDeadlineMs, now, containers, files };

  return {
    runStep: (context, step, log, stepOptions) => runStep(shared, context, step, log, stepOptions),

    async cleanUp(runId) {
      try {
        const left = await containers.list({ instance, runId });
        await containers.remove(left.map(({ Id }) => Id));
        const image = left[0]?.Image;
        await files.discard(files.runDir(runId), async (path) => {
          if (image) await containers.removeAsRoot(image, dirname(path), basename(path));
        });
        await files.swept();
      } catch (error) {
        throw toDockerError(error, "clean up after a pipeline");
      }
    },

    async forget(app) {
      // Made by steps as root, in whatever image they had; a Shipway that is another user removes what it can.
      await files.discard(files.cachesDir(app), async () => undefined);
      await files.swept();
    },

    async runs() {
      try {
        return await containers.runs(instance);
      } catch (error) {
        throw toDockerError(error, "look for what pipelines left");
      }
    },
  };
}
