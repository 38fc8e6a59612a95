import { dockerMissing } from "../../../shared/docker-missing.ts";
import type { StepExecutor } from "../../executor.ts";

/** Steps on Docker, of a Shipway that has no engine: none is run, and none was left behind. @throws DOCKER_MISSING */
export const executorWithoutEngine: StepExecutor = {
  async runStep({ app }, { name }) {
    throw dockerMissing(`The step "${name}" of ${app} would run on Docker`);
  },
  cleanUp: async () => undefined,
  forget: async () => undefined,
  runs: async () => [],
};
