import type { Task } from "@aws-sdk/client-ecs";
import { COLLECT, SETUP, STEP, serviceContainer } from "./task-definition.ts";

export type SeenContainer = {
  status: string;
  exitCode: number | undefined;
  reason: string | undefined;
  health: string | undefined;
};

/** A task as ECS shows it. */
export type SeenTask = {
  arn: string;
  status: string;
  stopCode: string | undefined;
  stoppedReason: string | undefined;
  stoppedAt: number | undefined;
  containers: Record<string, SeenContainer>;
};

export function toSeenTask(task: Task): SeenTask {
  const containers = (task.containers ?? []).map((one) => {
    const status = one.lastStatus ?? "PENDING";
    // Before a container stopped it means nothing, and emulators say 0 from the first moment.
    const exitCode = status === "STOPPED" ? one.exitCode : undefined;
    return [one.name ?? "", { status, exitCode, reason: one.reason, health: one.healthStatus }] as const;
  });
  return {
    arn: task.taskArn ?? "",
    status: task.lastStatus ?? "",
    stopCode: task.stopCode,
    stoppedReason: task.stoppedReason,
    stoppedAt: task.stoppedAt?.getTime(),
    containers: Object.fromEntries(containers),
  };
}

/**
 * `going`: nothing is decided. `ended`: the step's container ran and has ended. `serviceFailed`: it could not begin, for want of a service.
 * `noCapacity`: Fargate had no place; nothing of the user's ran, so it may be tried again. The others end the step.
 */
export type Verdict =
  | { kind: "going" }
  | { kind: "ended"; exitCode: number | undefined; outOfMemory: boolean; endedAt: number | undefined }
  | { kind: "serviceFailed"; service: string; exitCode: number | undefined }
  | { kind: "noCapacity"; why: string }
  | { kind: "noImage"; container: string; why: string }
  | { kind: "noShell" }
  | { kind: "notSetUp"; why: string };

/** What a task's state says of its step. `services` are those of the step, in its order. */
export function judgeTask(task: SeenTask, services: readonly string[]): Verdict {
  const step = task.containers[STEP];
  if (step?.status === "STOPPED" && (step.exitCode !== undefined || isOutOfMemory(step))) {
    return { kind: "ended", exitCode: step.exitCode, outOfMemory: isOutOfMemory(step), endedAt: task.stoppedAt };
  }
  const isOver = task.status === "STOPPED";
  const failed = failedStart(task, step, isOver);
  if (failed) return failed;
  if (step?.status === "RUNNING" && !isOver) return { kind: "going" };
  const service = failedService(task, services, isOver);
  if (service !== undefined) return service;
  const setup = task.containers[SETUP];
  if (setup?.exitCode !== undefined && setup.exitCode !== 0)
    return { kind: "notSetUp", why: `its first container exited with ${setup.exitCode}` };
  return isOver ? { kind: "notSetUp", why: whyOver(task) } : { kind: "going" };
}

/** Once the step's containers have stopped, ECS has only its own things left to put away. */
export function isDown(task: SeenTask): boolean {
  if (/^(DEPROVISIONING|STOPPED)$/.test(task.status)) return true;
  const all = Object.values(task.containers);
  return all.length > 0 && all.every(({ status }) => status === "STOPPED");
}

function failedStart(task: SeenTask, step: SeenContainer | undefined, isOver: boolean): Verdict | undefined {
  const unpulled = Object.entries(task.containers).find(([, { reason }]) => /CannotPull/.test(reason ?? ""));
  if (unpulled) return { kind: "noImage", container: unpulled[0], why: unpulled[1].reason ?? "" };
  if (step && /\/bin\/sh/.test(step.reason ?? "") && /no such file|not found/i.test(step.reason ?? ""))
    return { kind: "noShell" };
  const why = task.stoppedReason ?? "";
  if (!isOver) return undefined;
  if (/CannotPull/.test(why)) return { kind: "noImage", container: "", why };
  if (/\/bin\/sh/.test(why) && /no such file|not found/i.test(why)) return { kind: "noShell" };
  if (LATER.test(why) && task.stopCode !== "UserInitiated") return { kind: "noCapacity", why };
  return undefined;
}

/** What another attempt may find otherwise (Amazon ECS developer guide, stopped tasks error messages): no place, no address in time, a fault of the host. */
const LATER =
  /Capacity is unavailable|Timeout waiting for network interface|unexpected EC2 error|RESOURCE:|host .* (terminated|failure)/i;

/** A service that has stopped, or, when the task was given up, one that never answered. */
function failedService(task: SeenTask, services: readonly string[], isOver: boolean): Verdict | undefined {
  const seen = services.map((service) => ({ service, container: task.containers[serviceContainer(service)] }));
  if (!isOver) {
    const stopped = seen.find(({ container }) => container?.exitCode !== undefined);
    const sick = seen.find(({ container }) => container?.health === "UNHEALTHY");
    if (stopped) return { kind: "serviceFailed", service: stopped.service, exitCode: stopped.container?.exitCode };
    return sick && { kind: "serviceFailed", service: sick.service, exitCode: undefined };
  }
  const [, blamed] = STOPPED_FOR.exec(task.stoppedReason ?? "") ?? [];
  if (blamed !== undefined) {
    const exitCode = task.containers[serviceContainer(blamed)]?.exitCode;
    return { kind: "serviceFailed", service: blamed, exitCode: TOLD_TO.has(exitCode ?? 137) ? undefined : exitCode };
  }
  // At its end every container has stopped. Those that were told to say 137 or 143.
  if (task.containers[SETUP]?.exitCode !== 0 || task.stopCode === "UserInitiated") return undefined;
  const byItself = seen.find(({ container }) => container?.exitCode !== undefined && !TOLD_TO.has(container.exitCode));
  if (byItself) return { kind: "serviceFailed", service: byItself.service, exitCode: byItself.container?.exitCode };
  const silent = seen.find(({ container }) => container?.health !== undefined && container.health !== "HEALTHY");
  return silent && { kind: "serviceFailed", service: silent.service, exitCode: undefined };
}

const TOLD_TO = new Set([137, 143]);

/** ECS keeps it with the stopped task: so a later life of Shipway knows as well why it was stopped. */
export const stopReasonOf = (verdict: Verdict): string =>
  verdict.kind === "serviceFailed" ? `Shipway: service ${verdict.service} failed` : "Shipway: the step cannot begin";
const STOPPED_FOR = /^Shipway: service (.+) failed$/;

const isOutOfMemory = ({ reason }: SeenContainer): boolean => /OutOfMemory/.test(reason ?? "");

function whyOver(task: SeenTask): string {
  const said = [task.containers[STEP]?.reason, task.containers[COLLECT]?.reason, task.stoppedReason];
  const reasons = [...new Set(said.filter((one) => one !== undefined && one !== ""))];
  return reasons.length === 0 ? "ECS gave no reason" : reasons.join("; ");
}
