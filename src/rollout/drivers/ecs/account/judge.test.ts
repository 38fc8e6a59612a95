import { describe, expect, it } from "vitest";
import { newService } from "../../../testing.ts";
import { isNoFault, judgeNew, judgeProved, type SeenTask, type ServiceFacts, whyStopped } from "./judge.ts";

const newTask = (changes: Partial<SeenTask> = {}): SeenTask => ({
  arn: "arn:task/1",
  startedBy: "ecs-svc/1",
  status: "RUNNING",
  createdAt: 0,
  startedAt: 0,
  ip: "10.0.0.5",
  stopCode: undefined,
  stoppedReason: undefined,
  exitCode: undefined,
  containerReason: undefined,
  health: undefined,
  ...changes,
});

const NOW = 60_000;

const deployment = {
  id: "ecs-svc/1",
  taskDefinition: "td:1",
  release: 1,
  state: "COMPLETED" as "COMPLETED" | "IN_PROGRESS" | "FAILED",
  reason: "why",
  running: 1,
  pending: 0,
  failedTasks: 0,
  createdAt: 0,
};

function newFacts(changes: Partial<ServiceFacts> = {}, primary: Partial<typeof deployment> = {}): ServiceFacts {
  return {
    service: newService("web"),
    taskDefinition: "td:1",
    slot: {
      name: "a",
      arn: "arn",
      serviceName: "s_a",
      status: "ACTIVE",
      desired: 1,
      primary: { ...deployment, ...primary },
      draining: [],
      role: undefined,
      rule: undefined,
      targetGroup: "tg",
      hasProviders: false,
      network: { subnets: [], securityGroups: [], publicIp: false },
      exec: false,
      tags: {},
      settings: {},
    },
    tasks: [newTask()],
    died: [],
    isOnSpot: false,
    targets: [{ ip: "10.0.0.5", state: "healthy", reason: undefined, description: undefined }],
    mayBeUnseen: false,
    ...changes,
  };
}

const exited = newTask({ status: "STOPPED", stopCode: "EssentialContainerExited", exitCode: 1 });
const unpulled = newTask({
  status: "STOPPED",
  stopCode: "TaskFailedToStart",
  stoppedReason: "CannotPullContainerError: not found",
});

describe("a new release", () => {
  it("is healthy when ECS has completed our deployment and the load balancer calls its own tasks healthy", () => {
    expect(judgeNew(newFacts(), NOW)).toEqual({ is: "healthy" });
    expect(judgeNew(newFacts({ service: newService("worker", { port: undefined }), targets: [] }), NOW)).toEqual({
      is: "healthy",
    });
  });

  it.each([
    ["ECS has not completed it", newFacts({}, { state: "IN_PROGRESS" })],
    ["a task runs and its target is not healthy yet", newFacts({ targets: [] })],
    ["the healthy target is a task of another deployment", newFacts({ tasks: [newTask({ ip: "10.0.0.9" })] })],
    ["the container's own check fails", newFacts({ tasks: [newTask({ health: "UNHEALTHY" })] })],
    [
      "a worker has not stayed up for its grace",
      newFacts({
        service: newService("worker", {
          port: undefined,
          health: { grace: 90_000, interval: 1, timeout: 1, healthy: 1, unhealthy: 1 },
        }),
      }),
    ],
    ["no task was started yet", newFacts({ tasks: [] })],
    ["one image pull failed", newFacts({ tasks: [], died: [unpulled] })],
    ["AWS may not show yet that it was made", newFacts({ slot: undefined, mayBeUnseen: true })],
    ["AWS may still show what was there before", newFacts({ mayBeUnseen: true }, { taskDefinition: "td:0" })],
  ])("is waited for while %s", (_, facts) => {
    expect(judgeNew(facts, NOW).is).toBe("waiting");
  });

  it.each([
    ["its program exited once", newFacts({ died: [exited] }), /exited with 1/],
    [
      "its image could not be pulled three times",
      newFacts({ died: [unpulled, unpulled, unpulled] }),
      /could not be pulled/,
    ],
    ["the circuit breaker opened", newFacts({}, { state: "FAILED", reason: "circuit breaker" }), /circuit breaker/],
    ["somebody else deployed there, which ECS calls stable", newFacts({}, { taskDefinition: "td:2" }), /td:2/],
    ["the ECS service is gone", newFacts({ slot: undefined }), /gone/],
  ])("has failed when %s", (_, facts, because) => {
    expect(judgeNew(facts, NOW)).toEqual({ is: "failed", because: expect.stringMatching(because) });
  });
});

describe("a release that was proved", () => {
  it("fails by any task that died, and by a target that is unhealthy now", () => {
    expect(judgeProved(newFacts(), NOW).is).toBe("healthy");
    expect(judgeProved(newFacts({ died: [exited] }), NOW).is).toBe("failed");
    const sick = { ip: "10.0.0.5", state: "unhealthy", reason: "r", description: "codes: [500]" };
    expect(judgeProved(newFacts({ targets: [sick] }), NOW)).toMatchObject({
      because: expect.stringContaining("[500]"),
    });
    expect(judgeProved(newFacts({ targets: [{ ...sick, ip: "10.0.0.1" }] }), NOW).is).toBe("healthy");
  });
});

it.each([
  [
    "was unable to place a task. Reason: Capacity is unavailable at this time.",
    /no Fargate capacity.*Capacity is unavailable/,
  ],
  [
    "failed to launch a task with (error ECS was unable to assume the role 'arn:aws:iam::1:role/x').",
    /trust ecs-tasks.*iam:PassRole/s,
  ],
  [
    "was unable to place a task. Reason: You've reached the limit on the number of vCPUs you can run concurrently.",
    /quota/,
  ],
  ["is doing something new.", /^ECS says that it is doing something new/],
])("says while no task starts what ECS says of the service (%s)", (complaint, words) => {
  const facts = newFacts({ tasks: [] });
  const told = judgeNew({ ...facts, slot: facts.slot && { ...facts.slot, complaint } }, NOW);
  expect(told).toMatchObject({ is: "waiting", detail: expect.stringMatching(words) });
});

it("tells tasks that a smaller count ended from those that failed", () => {
  const ended = newTask({ stopCode: "ServiceSchedulerInitiated", stoppedReason: "Scaling activity initiated by x" });
  expect(isNoFault(ended)).toBe(true);
  expect(isNoFault({ ...ended, stoppedReason: "Task failed ELB health checks" })).toBe(false);
  expect(isNoFault(exited)).toBe(false);
});

it("does not take the end of Spot capacity for the app's own, however its program ended then", () => {
  const takenBack = newTask({
    status: "STOPPED",
    stopCode: "SpotInterruption",
    stoppedReason: "Your Spot Task was interrupted.",
    exitCode: 143,
  });
  expect(isNoFault(takenBack)).toBe(true);
  expect(whyStopped(takenBack)).toMatch(/^AWS took back its Spot capacity.*two minutes.*SpotInterruption/);
  const alone = newFacts({ tasks: [], isOnSpot: true }, { state: "IN_PROGRESS", running: 0 });
  expect(judgeNew(alone, NOW)).toMatchObject({ is: "waiting", detail: expect.stringContaining("Spot capacity") });
  expect(judgeProved(newFacts({ tasks: [], targets: [] }), NOW).is).toBe("healthy");
});

it.each([
  [unpulled, /registry.*execution role.*subnets.*CannotPullContainerError/s],
  [
    newTask({ stopCode: "TaskFailedToStart", stoppedReason: "ResourceInitializationError: unable to pull secrets" }),
    /secret could not be read/,
  ],
  [newTask({ exitCode: 137, containerReason: "OutOfMemoryError: killed" }), /more memory/],
  [
    newTask({ stoppedReason: "Task failed ELB health checks in (target-group arn:aws:elb:eu:1:targetgroup/sw-x/0)" }),
    /did not pass its health check.*: Task failed ELB health checks\)$/,
  ],
  [newTask({ stopCode: "SpotInterruption", stoppedReason: "SpotInterruption" }), /Spot/],
  [newTask({ exitCode: 3, stopCode: "EssentialContainerExited" }), /exited with 3/],
  [newTask(), /^It stopped/],
])("says in plain words why a task stopped (%#)", (task, words) => {
  expect(whyStopped(task)).toMatch(words);
});
