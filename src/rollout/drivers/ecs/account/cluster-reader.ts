import type { Deployment, Service, Task } from "@aws-sdk/client-ecs";
import { isAws } from "../../../../aws/aws-errors.ts";
import { newBatcher } from "../../../../aws/batch.ts";
import { sleep } from "../../../../shared/until.ts";
import type { AwsClients } from "../aws-clients.ts";
import type { SeenRevision } from "../rollout/revision-drift.ts";
import { readTags, SPEC_TAG, type Tags } from "../tags.ts";
import type { SeenTask } from "./judge.ts";
import { type ServiceSettings, serviceSettings } from "./service-settings.ts";
import type { Network } from "./slots.ts";

/** One DescribeServices call takes at most 10 services (Amazon ECS API reference, DescribeServices, `services`). */
const SERVICES_A_CALL = 10;
/** One DescribeTasks call takes at most 100 tasks (Amazon ECS API reference, DescribeTasks, `tasks`). */
const TASKS_A_CALL = 100;
/** A ListServices page has at most 100 (Amazon ECS API reference, ListServices, `maxResults`). */
const NAMES_A_PAGE = 100;
/** What is this many times older than it should be was not walked by: whoever needs it asks, and hears why. */
const OVERDUE = 3;

/** What is kept of an ECS service: AWS's answer has up to a hundred events beside it, and thousands of services are kept. */
export type SeenService = {
  name: string;
  arn: string;
  status: string;
  desired: number;
  deployments: SeenServiceDeployment[];
  /** What ECS said last that it does not say of a rollout that goes well. */
  complaint: string | undefined;
  tags: Tags;
  targetGroup: string | undefined;
  /** It runs by a strategy of capacity providers, not by a launch type. */
  hasProviders: boolean;
  network: Network;
  /** Commands can be run inside tasks that it starts. */
  exec: boolean;
  settings: ServiceSettings;
};

/** What ECS says of every rollout that goes well (Amazon ECS developer guide, service event messages). */
const ROUTINE =
  /steady state|has started \d+ task|has stopped \d+ running task|registered \d+ target|begun draining|deployment completed|deployment in progress/;

/** What ECS said last since the deployment began that it does not say when all goes well: that it finds no capacity, may not take a role, and so on. */
function complaintOf({ deployments, events }: Service): string | undefined {
  const begunAt = deployments?.find((one) => one.status === "PRIMARY")?.createdAt?.getTime() ?? 0;
  const [found] = (events ?? [])
    .filter(({ message, createdAt }) => (createdAt?.getTime() ?? 0) >= begunAt && !ROUTINE.test(message ?? ""))
    .sort((a, b) => (b.createdAt?.getTime() ?? 0) - (a.createdAt?.getTime() ?? 0));
  return found?.message?.replace(/^\(service [^)]*\) /, "");
}

export type SeenServiceDeployment = {
  id: string;
  isPrimary: boolean;
  taskDefinition: string;
  state: "IN_PROGRESS" | "COMPLETED" | "FAILED";
  reason: string;
  running: number;
  pending: number;
  failedTasks: number;
  /** In ms since 1970. */
  createdAt: number;
};

/** `agent`: how AWS's agent for commands is there, PENDING, RUNNING or STOPPED (Amazon ECS API, ManagedAgent). */
export type ExecReadiness = {
  status: string;
  isEnabled: boolean;
  agent: string | undefined;
  reason: string | undefined;
};

export type ClusterTimes = {
  /** How old what is known of a service may be while nothing is known to change; 0 keeps nothing. */
  steadyMs: number;
  /** Between two calls of a walk through the cluster. */
  walkGapMs: number;
};

export type ClusterReader = ReturnType<typeof newClusterReader>;

/**
 * Reads one cluster for all environments that are on it. What is asked in one moment is asked in one call, and what was read is kept with its moment:
 * an environment in which nothing changes costs its share of one walk through the cluster, and no call of its own.
 */
export function newClusterReader(
  { ecs }: Pick<AwsClients, "ecs">,
  at: { cluster: string; isOurs: (name: string) => boolean; times: ClusterTimes },
) {
  const { cluster, times } = at;
  const names = newNameList(ecs, cluster, at.isOurs);
  const known = new Map<string, { readAt: number; service: SeenService | undefined }>();
  let walk: { startedAt: number; isFirst: boolean; tookMs: number | undefined; done: Promise<void> } | undefined;
  /** How long a walk takes, where that is longer than it should be. */
  let periodMs = times.steadyMs;

  const describe = async (keys: string[]): Promise<Map<string, SeenService>> => {
    const readAt = Date.now();
    const { services } = await ecs.describeServices({ cluster, services: keys, include: ["TAGS"] });
    const seen = new Map((services ?? []).map((one) => [one.serviceName ?? "", toSeenService(one)]));
    for (const key of keys) {
      // An answer to an earlier question never replaces a later one.
      if ((known.get(key)?.readAt ?? 0) <= readAt) known.set(key, { readAt, service: seen.get(key) });
    }
    return seen;
  };
  const describeNow = newBatcher(SERVICES_A_CALL, describe);
  const tasksNow = newBatcher<Task>(TASKS_A_CALL, async (keys) => {
    const { tasks } = await ecs.describeTasks({ cluster, tasks: keys, include: ["TAGS"] });
    return new Map((tasks ?? []).map((one) => [one.taskArn ?? "", one]));
  });

  /** Ten services a call, one call at a time and after the first walk with a pause between, so that it never stands in a rollout's way. */
  async function walkThrough(gapMs: number): Promise<void> {
    const startedAt = Date.now();
    const all = await names.since(startedAt);
    for (let from = 0; from < all.length; from += SERVICES_A_CALL) {
      await describe(all.slice(from, from + SERVICES_A_CALL));
      if (gapMs > 0) await sleep(gapMs);
    }
    const listed = new Set(all);
    for (const [name, { readAt }] of known) if (!listed.has(name) && readAt < startedAt) known.delete(name);
  }

  function walkWhenDue(): void {
    const startedAt = Date.now();
    if (times.steadyMs === 0) return;
    if (walk !== undefined && (walk.tookMs === undefined || startedAt - walk.startedAt < times.steadyMs)) return;
    const isFirst = walk === undefined;
    const own: NonNullable<typeof walk> = { startedAt, isFirst, tookMs: undefined, done: Promise.resolve() };
    // Whoever needs what could not be read asks for it, and hears why it cannot be.
    own.done = walkThrough(isFirst ? 0 : times.walkGapMs)
      .catch(() => undefined)
      .finally(() => {
        own.tookMs = Date.now() - startedAt;
        periodMs = Math.max(times.steadyMs, own.tookMs);
      });
    walk = own;
  }

  async function servicesSince(keys: string[], since: number): Promise<Map<string, SeenService>> {
    const stale = keys.filter((key) => (known.get(key)?.readAt ?? 0) < since);
    const fresh = await describeNow(stale);
    return new Map(
      keys.flatMap((key) => {
        const service = stale.includes(key) ? fresh.get(key) : known.get(key)?.service;
        return service === undefined ? [] : [[key, service]];
      }),
    );
  }

  async function tasksByArn(arns: string[]): Promise<SeenTask[]> {
    const found = await tasksNow(arns);
    return [...found.values()].map(toTask).sort((a, b) => a.createdAt - b.createdAt || a.arn.localeCompare(b.arn));
  }

  return {
    /** Names of all our services, as listed at `since` (ms since 1970) or later. */
    names: names.since,
    /** A service was made, and need not be found. */
    addName: names.add,

    /** Services as they were at `since` or later. What is not there is left out. */
    services: servicesSince,

    /**
     * Services as they were when the cluster was last walked through, though never from before `since`; a walk that is due goes on behind the answer.
     * `keysOf` chooses among the names of all services.
     */
    async steady(keysOf: (names: string[]) => string[], since: number): Promise<Map<string, SeenService>> {
      walkWhenDue();
      if (walk?.isFirst) await walk.done;
      const oldest = Date.now() - OVERDUE * periodMs;
      return await servicesSince(keysOf(await names.since(oldest)), Math.max(since, oldest));
    },

    /** A revision of a task definition, which never changes and so is asked for once; undefined when it was deleted. */
    revision: newRevisionReader(ecs),

    /** Tasks that a deployment or a run started and that are to run. */
    async startedTasks(startedBy: string): Promise<SeenTask[]> {
      const { taskArns } = await ecs.listTasks({ cluster, startedBy });
      return await tasksByArn(taskArns ?? []);
    },

    /** Stopped tasks, as long as ECS shows them: about an hour. */
    async stoppedTasks(of: { serviceName: string } | { family: string }): Promise<SeenTask[]> {
      const { taskArns } = await ecs.listTasks({ cluster, desiredStatus: "STOPPED", ...of });
      return await tasksByArn(taskArns ?? []);
    },

    tasksByArn,

    /** Whether commands can be run inside a task; undefined when ECS shows it no more. */
    async execReadiness(arn: string): Promise<ExecReadiness | undefined> {
      const task = (await tasksNow([arn])).get(arn);
      return task && toReadiness(task);
    },
  };
}

/** What serves anywhere, and some of what did: an answer is a few kilobytes. */
const REVISIONS_KEPT = 2_000;

function newRevisionReader(ecs: AwsClients["ecs"]) {
  const known = new Map<string, Promise<SeenRevision | undefined>>();
  return (taskDefinition: string): Promise<SeenRevision | undefined> => {
    const asked =
      known.get(taskDefinition) ??
      ecs.describeTaskDefinition({ taskDefinition, include: ["TAGS"] }).then(
        ({ taskDefinition: definition, tags }) => definition && { definition, spec: readTags(tags)[SPEC_TAG] },
        (error: unknown) => {
          known.delete(taskDefinition);
          // A revision that was deleted is described by nobody.
          if (isAws(error, "ClientException")) return undefined;
          throw error;
        },
      );
    known.delete(taskDefinition);
    known.set(taskDefinition, asked);
    for (const oldest of known.keys()) {
      if (known.size <= REVISIONS_KEPT) break;
      known.delete(oldest);
    }
    return asked;
  };
}

function newNameList(ecs: AwsClients["ecs"], cluster: string, isOurs: (name: string) => boolean) {
  let list: { readAt: number; names: Set<string> } | undefined;
  let listing: { startedAt: number; names: Promise<Set<string>> } | undefined;
  const read = async (readAt: number): Promise<Set<string>> => {
    const found: string[] = [];
    let nextToken: string | undefined;
    do {
      const page = await ecs.listServices({ cluster, maxResults: NAMES_A_PAGE, ...(nextToken && { nextToken }) });
      found.push(...(page.serviceArns ?? []).map((arn) => arn.split("/").at(-1) ?? ""));
      nextToken = page.nextToken;
    } while (nextToken);
    list = { readAt, names: new Set(found.filter(isOurs)) };
    return list.names;
  };
  return {
    async since(moment: number): Promise<string[]> {
      if (list !== undefined && list.readAt >= moment) return [...list.names];
      const startedAt = Date.now();
      if (listing === undefined || listing.startedAt < moment) listing = { startedAt, names: read(startedAt) };
      const own = listing;
      try {
        return [...(await own.names)];
      } finally {
        if (listing === own) listing = undefined;
      }
    },
    add: (name: string) => void list?.names.add(name),
  };
}

function toSeenService(service: Service): SeenService {
  return {
    name: service.serviceName ?? "",
    arn: service.serviceArn ?? "",
    status: service.status ?? "INACTIVE",
    desired: service.desiredCount ?? 0,
    deployments: (service.deployments ?? []).map(toSeenDeployment),
    complaint: complaintOf(service),
    tags: readTags(service.tags),
    targetGroup: service.loadBalancers?.[0]?.targetGroupArn,
    hasProviders: (service.capacityProviderStrategy ?? []).length > 0,
    network: networkOf(service),
    exec: service.enableExecuteCommand ?? false,
    settings: serviceSettings(service),
  };
}

function toSeenDeployment(one: Deployment): SeenServiceDeployment {
  return {
    id: one.id ?? "",
    isPrimary: one.status === "PRIMARY",
    taskDefinition: one.taskDefinition ?? "",
    state: one.rolloutState ?? "IN_PROGRESS",
    reason: one.rolloutStateReason ?? "ECS gave no reason",
    running: one.runningCount ?? 0,
    pending: one.pendingCount ?? 0,
    failedTasks: one.failedTasks ?? 0,
    createdAt: one.createdAt?.getTime() ?? 0,
  };
}

function networkOf({ networkConfiguration }: Service): Network {
  const { subnets = [], securityGroups = [], assignPublicIp } = networkConfiguration?.awsvpcConfiguration ?? {};
  return { subnets, securityGroups, publicIp: assignPublicIp === "ENABLED" };
}

function toTask(task: Task): SeenTask {
  const [container] = task.containers ?? [];
  const details = task.attachments?.flatMap((one) => one.details ?? []);
  return {
    arn: task.taskArn ?? "",
    startedBy: task.startedBy ?? "",
    status: task.lastStatus ?? "",
    createdAt: task.createdAt?.getTime() ?? 0,
    startedAt: task.startedAt?.getTime(),
    ip: details?.find((one) => one.name === "privateIPv4Address")?.value,
    stopCode: task.stopCode,
    stoppedReason: task.stoppedReason,
    // Before a task stopped it means nothing, and emulators say 0 from the first moment.
    exitCode: task.lastStatus === "STOPPED" ? container?.exitCode : undefined,
    containerReason: container?.reason,
    health: container?.healthStatus,
  };
}

function toReadiness(task: Task): ExecReadiness {
  const agent = task.containers?.[0]?.managedAgents?.find(({ name }) => name === "ExecuteCommandAgent");
  return {
    status: task.lastStatus ?? "",
    isEnabled: task.enableExecuteCommand ?? false,
    agent: agent?.lastStatus,
    reason: agent?.reason,
  };
}
