import { describe, expect, it } from "vitest";
import { isDown, judgeTask, type SeenContainer, type SeenTask, stopReasonOf } from "./judge.ts";

const container = (rest: Partial<SeenContainer> = {}): SeenContainer => ({
  status: "PENDING",
  exitCode: undefined,
  reason: undefined,
  health: undefined,
  ...rest,
});
const ended = (exitCode: number, rest: Partial<SeenContainer> = {}) =>
  container({ status: "STOPPED", exitCode, ...rest });
const running = (health?: string) => container({ status: "RUNNING", ...(health && { health }) });

function task(containers: Record<string, SeenContainer>, rest: Partial<SeenTask> = {}): SeenTask {
  return {
    arn: "arn:task/1",
    status: "RUNNING",
    stopCode: undefined,
    stoppedReason: undefined,
    stoppedAt: undefined,
    containers: { setup: container(), step: container(), collect: container(), ...containers },
    ...rest,
  };
}
const stopped = (containers: Record<string, SeenContainer>, stopCode: string, stoppedReason: string) =>
  task(containers, { status: "STOPPED", stopCode, stoppedReason });

describe("what a task's state says of its step", () => {
  it.each([
    { name: "is being placed", seen: task({}, { status: "PROVISIONING" }) },
    { name: "is being set up", seen: task({ setup: running() }) },
    { name: "waits for a service", seen: task({ setup: ended(0), "service-db": running("UNKNOWN") }) },
    {
      name: "runs, also when a service stops meanwhile",
      seen: task({ setup: ended(0), step: running(), "service-db": ended(1) }),
    },
  ])("is nothing yet while it $name", ({ seen }) => {
    expect(judgeTask(seen, ["db"])).toEqual({ kind: "going" });
  });

  it("is the script's exit code once its container has ended, whatever else still runs", () => {
    const seen = task({ setup: ended(0), step: ended(3), collect: running(), "service-db": running("HEALTHY") });
    expect(judgeTask(seen, ["db"])).toMatchObject({ kind: "ended", exitCode: 3, outOfMemory: false });
  });

  it("is want of memory when ECS says so", () => {
    const step = ended(137, { reason: "OutOfMemoryError: Container killed due to memory usage" });
    expect(judgeTask(task({ setup: ended(0), step }), [])).toMatchObject({ kind: "ended", outOfMemory: true });
  });

  it("is a service's fault when it stops, or is called unhealthy, before the step begins", () => {
    expect(judgeTask(task({ setup: ended(0), "service-db": ended(1) }), ["db"])).toEqual({
      kind: "serviceFailed",
      service: "db",
      exitCode: 1,
    });
    expect(judgeTask(task({ setup: ended(0), "service-db": running("UNHEALTHY") }), ["cache", "db"])).toEqual({
      kind: "serviceFailed",
      service: "db",
      exitCode: undefined,
    });
  });

  it("is still the service's fault when all have stopped, by themselves or because we stopped them", () => {
    const byEcs = { setup: ended(0), "service-db": ended(137, { health: "UNHEALTHY" }), "service-ok": ended(143) };
    const failed = "Task failed to start";
    expect(judgeTask(stopped(byEcs, "TaskFailedToStart", failed), ["ok", "db"])).toMatchObject({ service: "db" });
    const ours = stopReasonOf({ kind: "serviceFailed", service: "db", exitCode: 1 });
    const byUs = stopped({ setup: ended(0), "service-db": ended(1), "service-ok": ended(137) }, "UserInitiated", ours);
    expect(judgeTask(byUs, ["ok", "db"])).toEqual({ kind: "serviceFailed", service: "db", exitCode: 1 });
  });

  it.each([
    "Capacity is unavailable at this time. Please try again later or in a different availability zone",
    "Timeout waiting for network interface provisioning to complete.",
  ])("is want of a place when ECS stops it for %j", (why) => {
    expect(judgeTask(stopped({}, "TaskFailedToStart", why), [])).toEqual({ kind: "noCapacity", why });
  });

  it("is an image that cannot be had, by the container that wanted it where ECS says which", () => {
    const why = "CannotPullContainerError: failed to resolve ref docker.io/library/nope:1: not found";
    expect(judgeTask(stopped({}, "TaskFailedToStart", why), [])).toEqual({ kind: "noImage", container: "", why });
    const seen = task({ "service-db": container({ status: "STOPPED", reason: why }) });
    expect(judgeTask(seen, ["db"])).toEqual({ kind: "noImage", container: "service-db", why });
  });

  it("is an image without a shell", () => {
    const reason = 'CannotStartContainerError: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown';
    expect(judgeTask(task({ setup: ended(0), step: container({ reason }) }), [])).toEqual({ kind: "noShell" });
  });

  it("is that it could not be set up when its first container failed, or for another reason of ECS's own", () => {
    expect(judgeTask(task({ setup: ended(1) }), [])).toMatchObject({
      kind: "notSetUp",
      why: expect.stringContaining("exited with 1"),
    });
    const logger = "ResourceInitializationError: failed to validate logger args";
    expect(judgeTask(stopped({}, "TaskFailedToStart", logger), [])).toEqual({ kind: "notSetUp", why: logger });
  });
});

describe("a task is down", () => {
  it.each([
    [task({ setup: ended(0), step: ended(0), collect: running() }), false],
    [task({ setup: ended(0), step: ended(0), collect: ended(0) }), true],
    [task({ step: running() }, { status: "DEPROVISIONING" }), true],
    [{ ...task({}), containers: {} }, false],
  ])("case %#", (seen, down) => {
    expect(isDown(seen)).toBe(down);
  });
});
