import type { StepExecutor } from "../ci/executor.ts";
import { pausedBefore, runnerOf, runnersOf, untidiedPipelines } from "../release/pipelines.ts";
import type { CiSettings } from "../spec/ci-settings.ts";
import type { Database } from "../store/open-store.ts";

/** Removes what the pipelines of an app left and kept, wherever they ran. No pipeline of it may be running. */
export async function forgetCi(
  { db, executorOf }: { db: Database; executorOf(steps: CiSettings["steps"]): StepExecutor },
  app: string,
): Promise<void> {
  const left = [...(await untidiedPipelines(db)), ...(await pausedBefore(db, new Date()))];
  for (const pipeline of left) if (pipeline.app === app) await executorOf(runnerOf(pipeline)).cleanUp(pipeline.id);
  for (const steps of [{ kind: "docker" } as const, ...(await runnersOf(db, app))]) await executorOf(steps).forget(app);
}
