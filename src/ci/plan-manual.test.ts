import { describe, expect, it } from "vitest";
import { parsePipelines } from "./parse-pipelines.ts";
import { planPipeline } from "./plan.ts";

const FILE = `
image: node:20
pipelines:
  default:
    - step: { name: Build, script: [make] }
    - parallel:
        - step: { name: EU, trigger: manual, deployment: eu, script: [deploy eu] }
        - step: { name: US, trigger: manual, script: [deploy us] }
        - step: { name: Docs, script: [make docs] }
    - stage:
        name: Live
        trigger: manual
        deployment: production
        steps:
          - step: { name: Migrate, script: [migrate] }
          - step: { name: Switch, script: [switch] }
    - step: { name: Assets, trigger: manual, condition: { changesets: { includePaths: [assets/**] } }, script: [sync] }
    - step: { name: Tell, script: [tell] }
`;

function planned(...started: string[]) {
  const ref = { refKind: "branch" as const, refName: "main", changedPaths: ["src/a.ts"] };
  const result = planPipeline(parsePipelines(FILE, "bitbucket-pipelines.yml"), ref, "docker", new Set(started));
  if (result.status !== "plan") throw new Error(result.reason);
  const steps = result.plan.stages.flatMap((stage) => stage.steps);
  return {
    runs: steps.filter(({ held, skip }) => held === undefined && skip === undefined).map(({ name }) => name),
    gates: (result.plan.gates ?? []).map(({ id, name, deployment }) =>
      [id, name, deployment].filter(Boolean).join(" "),
    ),
    skipped: steps.filter(({ held, skip }) => held === undefined && skip !== undefined).map(({ name }) => name),
  };
}

describe("manual steps", () => {
  it.each([
    ["none", [], ["Build", "Docs"], ["2.1 EU eu", "2.2 US"]],
    [
      "one of two side by side: what follows the group still waits for the other",
      ["2.1"],
      ["Build", "EU", "Docs"],
      ["2.2 US"],
    ],
    ["both, up to the manual stage", ["2.1", "2.2"], ["Build", "EU", "US", "Docs"], ["3 Live production"]],
    [
      "the stage as a whole, and past a manual step whose condition does not hold",
      ["2.1", "2.2", "3"],
      ["Build", "EU", "US", "Docs", "Migrate", "Switch", "Tell"],
      [],
    ],
  ])("run when they were started: %s", (_, started, runs, gates) => {
    expect(planned(...started)).toEqual({ runs, gates, skipped: gates.length === 0 ? ["Assets"] : [] });
  });

  it("have scripts once they run, and only then", () => {
    const scripts = (...started: string[]) => {
      const ref = { refKind: "branch" as const, refName: "main" };
      const result = planPipeline(parsePipelines(FILE, "f.yml"), ref, "docker", new Set(started));
      return result.status === "plan" ? result.plan.stages[1]?.steps.map(({ script }) => script) : [];
    };
    expect([scripts(), scripts("2.1")]).toEqual([
      [[], [], ["make docs"]],
      [["deploy eu"], [], ["make docs"]],
    ]);
  });
});
