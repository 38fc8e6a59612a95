import { describeImageBuilder } from "../contract.ts";
import { BROKEN_TARGET, MISSING_PREFIX, memoryBuilder, SLOW_TARGET } from "./memory.ts";

describeImageBuilder("memory", async () => {
  let made = 0;
  const plan = async (service: string, target?: string) => ({
    app: "shop",
    service,
    name: `shipway/shop/${service}:${made++}`,
    repositoryDir: "/nowhere",
    commit: "0".repeat(40),
    context: ".",
    dockerfile: "Dockerfile",
    args: {},
    ...(target === undefined ? {} : { target }),
  });
  return {
    builder: memoryBuilder(),
    app: "shop",
    goodPlan: (service) => plan(service),
    brokenPlan: (service) => plan(service, BROKEN_TARGET),
    slowPlan: (service) => plan(service, SLOW_TARGET),
    presentImage: "redis:7",
    absentImage: `${MISSING_PREFIX}redis:7`,
    close: async () => {},
  };
});
