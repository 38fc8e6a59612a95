import { describe, expect, it } from "vitest";
import { hasCode } from "../shared/errors.ts";
import { parsePipelines } from "./parse-pipelines.ts";
import { planPipeline } from "./plan.ts";

const FILE = `
image: node:20
definitions:
  services:
    cache: { image: "redis:7" }
    queue: { image: "rabbitmq:3" }
pipelines:
  default:
    - step: { name: Test, script: [npm test], services: [cache, queue] }
  branches:
    huge:
      - step:
          name: Huge
          size: 32x
          script: [make]
`;
const plan = (refName: string, on?: "docker" | "ecs") =>
  planPipeline(parsePipelines(FILE, "bitbucket-pipelines.yml"), { refKind: "branch", refName }, on);

describe("a pipeline whose steps are to run on Fargate", () => {
  it("says of a service that nobody knows what to ask it, which an engine's own look at its ports would tell", () => {
    const planned = plan("main", "ecs");
    expect(planned.status === "plan" && planned.plan.notes).toEqual([
      "line 9: on Fargate the step does not wait for service queue (rabbitmq:3) to answer: nobody knows what to ask it.",
    ]);
    expect(plan("main")).toMatchObject({ plan: { notes: [] } });
  });

  it("refuses a step larger than any task, by its line; an engine takes it", () => {
    try {
      plan("huge", "ecs");
      expect.unreachable();
    } catch (error) {
      expect(hasCode(error, "PIPELINES_INVALID")).toBe(true);
      expect((error as Error).message).toContain(
        "bitbucket-pipelines.yml:12:9  no task on Fargate can have this step's 131072 MB: at most 122880 MB, `size: 16x`",
      );
    }
    expect(plan("huge").status).toBe("plan");
  });
});
