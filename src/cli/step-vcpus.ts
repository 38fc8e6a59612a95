import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parsePipelines } from "../ci/parse-pipelines.ts";
import { planPipeline } from "../ci/plan.ts";
import { taskSizeOf } from "../ci/step-size.ts";
import { errorCode } from "../shared/errors.ts";
import { PIPELINES_FILE } from "./check-project.ts";

/** vCPUs of the steps of a push to this branch that run at the same time, on Fargate. Of a pipeline that is not there, or not valid, none: `shipway check` says why. */
export async function stepVcpus(dir: string, branch: string): Promise<number> {
  const text = await readFile(join(dir, PIPELINES_FILE), "utf8").catch(() => undefined);
  if (text === undefined) return 0;
  try {
    const planned = planPipeline(parsePipelines(text, PIPELINES_FILE), { refKind: "branch", refName: branch }, "ecs");
    if (planned.status === "none") return 0;
    const stages = planned.plan.stages.map(({ steps }) =>
      steps.reduce((units, step) => units + (taskSizeOf(step)?.cpu ?? 0), 0),
    );
    return Math.max(0, ...stages) / 1_024;
  } catch (error) {
    if (errorCode(error) === undefined) throw error;
    return 0;
  }
}
