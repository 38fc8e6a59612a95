import { afterAll, beforeAll, describe } from "vitest";
import { type AwsStage, hasEngine, newAwsStage } from "../../../rollout/drivers/ecs/testing.ts";
import { describeStepExecutor } from "../contract.ts";
import { openEcsSubject } from "./testing.ts";

describe.skipIf(!hasEngine)("on the stand-in for AWS, with tasks as real containers:", () => {
  let stage: AwsStage;
  beforeAll(async () => {
    stage = await newAwsStage({ containers: "docker" });
  }, 120_000);
  afterAll(() => stage?.cleanUp());

  describeStepExecutor("ecs", () => openEcsSubject(stage), { sideBySide: true });
});
