import { describe, expect, it } from "vitest";
import { Secret } from "../shared/secret.ts";
import { until } from "../shared/until.ts";
import { stepPlan } from "./drivers/contract.ts";
import { memoryExecutor } from "./drivers/memory.ts";
import type { PipelineContext, PipelinePlan, StepOutcome, StepPlan } from "./executor.ts";
import { type CiEvent, runPipeline } from "./run-pipeline.ts";

const context: PipelineContext = {
  runId: "run_1",
  app: "shop",
  repositoryDir: "/nowhere",
  commit: "0".repeat(40),
  refKind: "branch",
  refName: "main",
  buildNumber: 1,
  variables: {},
  secrets: {},
};

type Given = Partial<StepPlan> & Pick<StepPlan, "script">;

/** Stages of steps; ids are `1`, `2`, or `2.1`, `2.2` side by side. */
function planOf(stages: Given[][], failFast = false): PipelinePlan {
  return {
    selector: "default",
    notes: ["line 3: a note"],
    stages: stages.map((steps, stage) => ({
      failFast,
      steps: steps.map((step, index) => {
        const id = steps.length > 1 ? `${stage + 1}.${index + 1}` : String(stage + 1);
        return stepPlan({ image: "any", id, name: `Step ${id}`, stage, ...step });
      }),
    })),
  };
}

/** A world that outlives a crash: the engine, the journal and the logs; `run` is one life of Shipway. */
function newWorld() {
  const executor = memoryExecutor();
  const journal = new Map<string, StepOutcome>();
  const logs = new Map<string, string[]>();
  const events: CiEvent[] = [];
  const run = (plan: PipelinePlan, options: { signal?: AbortSignal; secrets?: Record<string, Secret> } = {}) => {
    const { secrets = {}, ...rest } = options;
    return runPipeline(
      plan,
      { ...context, secrets },
      {
        executor,
        journal: {
          load: async (id) => journal.get(id),
          save: async (outcome) => {
            journal.set(outcome.id, outcome);
          },
        },
        logFor: (id) => {
          const lines = logs.get(id) ?? [];
          logs.set(id, lines);
          return { sink: (batch) => lines.push(...batch.map(({ text }) => text)), alreadyLogged: lines.length };
        },
        onEvent: (event) => {
          events.push(event);
        },
        now: Date.now,
        ...rest,
      },
    );
  };
  return { executor, journal, logs, events, run };
}

const statuses = (outcome: { status: string; steps?: StepOutcome[] }) =>
  outcome.steps?.map(({ id, status }) => `${id} ${status}`);

describe("runPipeline", () => {
  it("runs the stages in order and the steps of a stage side by side", async () => {
    const world = newWorld();
    const running = world.run(
      planOf([[{ script: ["echo a"] }], [{ script: ["hold"] }, { script: ["hold"] }], [{ script: ["echo z"] }]]),
    );
    await until("both are started", () => world.executor.started.length === 3);
    expect(world.executor.started).toEqual(["run_1/1", "run_1/2.1", "run_1/2.2"]);
    world.executor.release("run_1", "2.1");
    world.executor.release("run_1", "2.2");
    const outcome = await running;
    expect(outcome.status).toBe("passed");
    expect(world.executor.started.at(-1)).toBe("run_1/3");
  });

  it("fails with the step and its reason, and does not run what follows", async () => {
    const outcome = await newWorld().run(
      planOf([[{ script: ["exit 2"] }, { script: ["echo sibling"] }], [{ script: ["echo never"] }]]),
    );
    expect(outcome).toMatchObject({ status: "failed", reason: 'step "Step 1.1" failed: `exit 2` exited with 2' });
    expect(statuses(outcome)).toEqual(["1.1 failed", "1.2 passed", "2 skipped"]);
  });

  it("stops the siblings of a failed step where the group says so", async () => {
    const outcome = await newWorld().run(planOf([[{ script: ["exit 2"] }, { script: ["sleep 30"] }]], true));
    expect(outcome.status).toBe("failed");
    expect(statuses(outcome)).toEqual(["1.1 failed", "1.2 canceled"]);
  });

  it("goes on after a step whose failure is to be ignored", async () => {
    const outcome = await newWorld().run(
      planOf([[{ script: ["exit 2"], ignoreFailure: true }], [{ script: ["echo on"] }]]),
    );
    expect(outcome.status).toBe("passed");
    expect(statuses(outcome)).toEqual(["1 failed", "2 passed"]);
  });

  it("passes over steps that are not to run, with the reason, and runs what follows", async () => {
    const outcome = await newWorld().run(
      planOf([[{ script: [], skip: "not run: nothing changed" }], [{ script: ["echo on"] }]]),
    );
    expect(outcome.status).toBe("passed");
    expect(statuses(outcome)).toEqual(["1 skipped", "2 passed"]);
  });

  it("ends as canceled when it is aborted, and starts nothing after it", async () => {
    const world = newWorld();
    const cancel = new AbortController();
    const running = world.run(planOf([[{ script: ["sleep 30"] }], [{ script: ["echo never"] }]]), {
      signal: cancel.signal,
    });
    await until("the step is started", () => world.executor.started.length === 1);
    cancel.abort();
    const outcome = await running;
    expect(outcome.status).toBe("canceled");
    expect(statuses(outcome)).toEqual(["1 canceled", "2 skipped"]);
    expect(world.executor.started).toEqual(["run_1/1"]);
  });

  it("tells what happens in order, and stores an outcome before it tells it", async () => {
    const world = newWorld();
    await world.run(planOf([[{ script: ["echo a", "echo b"] }]]));
    expect(world.events.map(({ kind }) => kind)).toEqual([
      "pipelineStarted",
      "stepStarted",
      "commandStarted",
      "commandEnded",
      "commandStarted",
      "commandEnded",
      "stepEnded",
    ]);
    expect(world.events[0]).toMatchObject({
      selector: "default",
      notes: ["line 3: a note"],
      steps: [{ id: "1", stage: 0 }],
    });
    expect(world.journal.get("1")?.status).toBe("passed");
  });

  it("keeps secrets out of what it stores and tells", async () => {
    const world = newWorld();
    const secrets = { TOKEN: new Secret("TOKEN", "s3cr3t-value") };
    const outcome = await world.run(planOf([[{ script: ["echo $TOKEN", "exit 1"] }]]), { secrets });
    expect(JSON.stringify([outcome, world.events, [...world.journal.values()]])).not.toContain("s3cr3t-value");
  });

  it("throws what kept a step from running, after its siblings have ended", async () => {
    const world = newWorld();
    const plan = planOf([[{ script: ["echo a"], image: "x:unavailable" }, { script: ["sleep 0.2", "echo b"] }]]);
    await expect(world.run(plan)).rejects.toMatchObject({ code: "IMAGE_UNAVAILABLE" });
    expect(world.journal.get("1.2")?.status).toBe("passed");
  });
});

describe("runPipeline after a crash", () => {
  /** Three stages, the second of two steps; each waits to be released. */
  const plan = planOf([
    [{ script: ["echo 1", "hold"] }],
    [{ script: ["echo 2.1", "hold"] }, { script: ["echo 2.2", "hold"] }],
    [{ script: ["echo 3", "hold"] }],
  ]);
  const ids = plan.stages.flatMap(({ steps }) => steps.map(({ id }) => id));

  it.each(ids)("at step %s goes on: every step is run once, every line is logged once", async (crashAt) => {
    const world = newWorld();
    const release = async (life: Promise<unknown>, upTo?: string) => {
      for (const id of ids) {
        await until(`${id} is started`, () => world.executor.started.includes(`run_1/${id}`));
        if (id === upTo) return;
        world.executor.release("run_1", id);
      }
      await life;
    };
    const first = world.run(plan);
    first.catch(() => undefined);
    await release(first, crashAt);
    await until("its line", () => world.logs.get(crashAt)?.includes(crashAt));
    world.executor.crash();
    await expect(first).rejects.toMatchObject({ code: "DOCKER_UNREACHABLE" });

    const second = world.run(plan);
    await release(second);
    expect((await second).status).toBe("passed");
    expect([...world.executor.started].sort()).toEqual(ids.map((id) => `run_1/${id}`));
    for (const id of ids) expect(world.logs.get(id)).toEqual([`+ echo ${id}`, id, "+ hold"]);
  });

  it("stops the siblings of a step that had failed before it", async () => {
    const world = newWorld();
    const group = planOf([[{ script: ["exit 1"] }, { script: ["hold"] }]], true);
    world.journal.set("1.1", {
      id: "1.1",
      name: "Step 1.1",
      status: "failed",
      startedAt: 1,
      endedAt: 2,
      commands: [],
      lastLines: [],
    });
    const outcome = await world.run(group);
    expect(statuses(outcome)).toEqual(["1.1 failed", "1.2 canceled"]);
  });
});
