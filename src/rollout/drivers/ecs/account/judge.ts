import type { ReleaseService } from "../../../release.ts";
import { servesTraffic } from "../../../release.ts";
import type { Slot } from "./slots.ts";

/** A task as far as it matters. */
export type SeenTask = {
  arn: string;
  /** The deployment or run that started it. */
  startedBy: string;
  /** PROVISIONING, PENDING, ACTIVATING, RUNNING, … STOPPED. */
  status: string;
  createdAt: number;
  startedAt: number | undefined;
  ip: string | undefined;
  stopCode: string | undefined;
  stoppedReason: string | undefined;
  exitCode: number | undefined;
  containerReason: string | undefined;
  /** Of the container's own check. */
  health: string | undefined;
};

export type SeenTarget = { ip: string; state: string; reason: string | undefined; description: string | undefined };

/** What is known of a service of a release while it proves itself. */
export type ServiceFacts = {
  service: ReleaseService;
  taskDefinition: string | undefined;
  slot: Slot | undefined;
  /** Started by the deployment, and not stopped. */
  tasks: SeenTask[];
  /** Started by the deployment, and stopped by something that went wrong in them. */
  died: SeenTask[];
  isOnSpot: boolean;
  targets: SeenTarget[];
  /** It was started so short a time ago that AWS may still answer as it was before (eventual consistency). */
  mayBeUnseen: boolean;
};

export type Verdict =
  | { is: "healthy" }
  | { is: "waiting"; healthy: number; detail: string }
  | { is: "failed"; because: string };

/** Pulling an image or finding capacity fails by chance; ECS's own circuit breaker counts three as well (Amazon ECS developer guide, deployment circuit breaker). */
const FAILURES_BY_CHANCE = 3;

/**
 * Healthy is: our deployment is the service's first, ECS calls it completed, all of its tasks run, and the load balancer calls as many
 * targets healthy, each of them an address of these tasks. Never "stable", which a service that was rolled back is too.
 */
export function judgeNew(facts: ServiceFacts, now: number): Verdict {
  const { service, taskDefinition, slot, tasks, died, targets } = facts;
  if (service.count === 0) return { is: "healthy" };
  const isShown =
    slot?.status === "ACTIVE" &&
    slot.primary !== undefined &&
    slot.primary.taskDefinition === (taskDefinition ?? slot.primary.taskDefinition);
  if (!isShown && facts.mayBeUnseen) return { is: "waiting", healthy: 0, detail: "ECS does not show it yet" };
  if (slot === undefined || slot.status !== "ACTIVE") {
    return {
      is: "failed",
      because: `The ECS service of ${service.name} is ${slot === undefined ? "gone" : slot.status}.`,
    };
  }
  const { primary } = slot;
  if (primary === undefined || (taskDefinition !== undefined && primary.taskDefinition !== taskDefinition)) {
    return {
      is: "failed",
      because: `Somebody else deployed ${primary?.taskDefinition ?? "something"} to ${slot.serviceName}.`,
    };
  }
  const own = died.find(isOwnFault);
  if (own !== undefined) return { is: "failed", because: whyStopped(own) };
  const last = died.at(-1);
  if (primary.state === "FAILED")
    return { is: "failed", because: last === undefined ? primary.reason : `${primary.reason} ${whyStopped(last)}` };
  if (died.length >= FAILURES_BY_CHANCE || primary.failedTasks >= FAILURES_BY_CHANCE) {
    return { is: "failed", because: last === undefined ? `${primary.failedTasks} tasks failed.` : whyStopped(last) };
  }
  const healthy = healthyTasks(service, tasks, targets).length;
  if (healthy >= service.count && !hasStayedUp(service, tasks, now)) {
    return { is: "waiting", healthy, detail: "watched for as long as its `grace`" };
  }
  if (healthy < service.count) return { is: "waiting", healthy, detail: detailOf(facts) };
  if (primary.state !== "COMPLETED" || primary.running < service.count) {
    return { is: "waiting", healthy, detail: "ECS has yet to call its deployment completed" };
  }
  return { is: "healthy" };
}

/** After it was healthy once: any task that died or target that fails is a failure. */
export function judgeProved(facts: ServiceFacts, now: number): Verdict {
  const { service, slot, died, tasks, targets } = facts;
  if (service.count === 0) return { is: "healthy" };
  const last = died.at(-1);
  if (last !== undefined) return { is: "failed", because: whyStopped(last) };
  if (slot === undefined || slot.status !== "ACTIVE") return judgeNew(facts, now);
  const sick = targets.find((one) => one.state === "unhealthy" && tasks.some((task) => task.ip === one.ip));
  if (sick !== undefined) return { is: "failed", because: targetText(service, sick) };
  return { is: "healthy" };
}

function healthyTasks(service: ReleaseService, tasks: SeenTask[], targets: SeenTarget[]): SeenTask[] {
  const running = tasks.filter((task) => task.status === "RUNNING" && task.health !== "UNHEALTHY");
  if (!servesTraffic(service)) return running;
  const healthy = new Set(targets.filter((one) => one.state === "healthy").map((one) => one.ip));
  return running.filter((task) => task.ip !== undefined && healthy.has(task.ip));
}

/** A task that nobody can ask for its health proves itself by staying up. */
function hasStayedUp(service: ReleaseService, tasks: SeenTask[], now: number): boolean {
  const isProbed = servesTraffic(service) || service.health?.command !== undefined;
  const grace = service.health?.grace ?? 0;
  return isProbed || tasks.every((task) => task.startedAt !== undefined && now - task.startedAt >= grace);
}

function detailOf({ service, slot, tasks, targets, died, isOnSpot }: ServiceFacts): string {
  const last = died.at(-1);
  if (last !== undefined) return whyStopped(last);
  // Where ECS cannot even begin with a task there is none to ask, and only the service's events say why.
  if (tasks.length < service.count && slot?.complaint !== undefined) return inPlainWords(slot.complaint);
  const sick = targets.find((one) => one.state === "unhealthy" && tasks.some((task) => task.ip === one.ip));
  if (sick !== undefined) return targetText(service, sick);
  const counts = new Map<string, number>();
  for (const { status } of tasks) counts.set(status, (counts.get(status) ?? 0) + 1);
  const told = [...counts].map(([status, count]) => `${count} ${status.toLowerCase()}`);
  if (told.length > 0) return told.join(", ");
  return isOnSpot ? "waiting for Spot capacity, which AWS may not have now" : "waiting for Fargate";
}

/** What the load balancer asked and what came back. */
export function targetText(service: ReleaseService, { ip, description, reason, state }: SeenTarget): string {
  return `GET http://${ip}:${service.port ?? 0}${service.health?.path ?? "/"} → ${description ?? reason ?? state}`;
}

/** Tasks whose own program ended, or whose check failed, are not started a second time to see whether it was chance. */
export function isOwnFault(task: SeenTask): boolean {
  return task.stopCode === "EssentialContainerExited" && (task.exitCode !== undefined || isOutOfMemory(task));
}

export function isOutOfMemory(task: SeenTask): boolean {
  return /OutOfMemory/.test(task.containerReason ?? "") || /OutOfMemory/.test(task.stoppedReason ?? "");
}

/** Ended by a smaller count or a deployment after it, or taken back with its Spot capacity, and not by something that went wrong in it. */
export function isNoFault(task: SeenTask): boolean {
  if (task.stopCode === SPOT_TAKEN_BACK) return true;
  return task.stopCode === "ServiceSchedulerInitiated" && /^Scaling activity/.test(task.stoppedReason ?? "");
}

/** Amazon ECS API, Task, `stopCode`. */
const SPOT_TAKEN_BACK = "SpotInterruption";

const CAUSES: [RegExp, string][] = [
  [
    /unable to assume|assume (the )?role|AssumeRole/i,
    "ECS may not use a role: check that the execution and task role trust ecs-tasks.amazonaws.com, and that Shipway's role may pass them (iam:PassRole).",
  ],
  [
    /CannotPullContainer/,
    "The image could not be pulled: check that it is in the registry, that the execution role may read it, and that the subnets reach it (NAT, public address or VPC endpoints).",
  ],
  [
    /secret|ssm|parameter/i,
    "A secret could not be read: check that it exists in that version, and that the execution role may read it (secretsmanager:GetSecretValue).",
  ],
  [
    /log group|logger|awslogs/i,
    "The log group could not be used: check that it exists and that the execution role may write to it.",
  ],
  [
    /ResourceInitializationError/,
    "The task could not be set up: usually the subnets reach neither the registry nor Secrets Manager nor CloudWatch (NAT, public address or VPC endpoints).",
  ],
  [
    /exec format error/,
    "The image was built for another processor: compare `aws: { architecture }` with what it was built for.",
  ],
  [
    /network interface|free address|InsufficientFreeAddresses|ENI/,
    "The task got no network address: check that the subnets have free addresses and that the security groups exist.",
  ],
  [
    /vCPUs?.*limit|limit.*vCPUs?/i,
    "The account's quota of Fargate vCPUs is used up: ask for more in the Service Quotas console, or end what nobody needs.",
  ],
  [/Capacity is unavailable|RESOURCE:/, "AWS has no Fargate capacity there at the moment."],
  [/ELB health checks|health checks? failed/i, "It did not pass its health check."],
];

/** What ECS says of a service, in plain words where they are known, then its own. */
function inPlainWords(text: string): string {
  const cause = CAUSES.find(([pattern]) => pattern.test(text))?.[1];
  return cause === undefined ? `ECS says that it ${text}` : `${cause} (${text})`;
}

/** Nobody knows a target group by its 130 characters. */
const TARGET_GROUP = / in \(target-group arn:[^)]*\)/g;

/** Why a task stopped, in plain words, then AWS's own. */
export function whyStopped(task: SeenTask): string {
  const reason = [task.containerReason, task.stoppedReason]
    .filter((one) => one !== undefined && one !== "")
    .join("; ")
    .replaceAll(TARGET_GROUP, "");
  const told = reason === "" ? "" : ` (${task.stopCode ?? "no stop code"}: ${reason})`;
  if (task.stopCode === SPOT_TAKEN_BACK)
    return `AWS took back its Spot capacity: it was told to end two minutes before, and another is started as soon as there is some.${told}`;
  if (isOutOfMemory(task)) return `It was ended because it needed more memory than the service declares.${told}`;
  const cause = CAUSES.find(([pattern]) => pattern.test(reason))?.[1];
  if (cause !== undefined) return `${cause}${told}`;
  if (task.exitCode !== undefined) return `It exited with ${task.exitCode}.${told}`;
  return `It stopped.${told}`;
}
