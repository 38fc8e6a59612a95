import { newId } from "../../shared/new-id.ts";
import { type ContractSubject, describeStepExecutor } from "./contract.ts";
import { memoryExecutor } from "./memory.ts";

const openSubject = async (): Promise<ContractSubject> => {
  const executor = memoryExecutor();
  const runId = newId("run");
  return {
    executor,
    image: "any",
    unreachable: "DOCKER_UNREACHABLE",
    context: {
      runId,
      app: "shop",
      repositoryDir: "/nowhere",
      commit: "0".repeat(40),
      refKind: "branch",
      refName: "main",
      buildNumber: 1,
      variables: {},
      secrets: {},
    },
    async crash() {
      executor.crash();
      return executor;
    },
    left: async () => executor.running(runId),
    close: () => executor.cleanUp(runId),
  };
};

describeStepExecutor("memory", openSubject, { hasShell: false });
