import type { Deployment, Service, Task } from "@aws-sdk/client-ecs";
import type { Rule as ListenerRule } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { Place } from "../../release.ts";
import type { AwsClients } from "./aws-clients.ts";
import { newBatcher } from "./batch.ts";
import type { SeenTarget, SeenTask } from "./judge.ts";
import {
  familyOf,
  readFamily,
  SLOTS,
  type SlotName,
  serviceName,
  servicePrefix,
  targetGroupName,
  targetGroupNameOf,
} from "./names.ts";
import type { Network, Rule, SeenDeployment, ServiceView, Slot } from "./slots.ts";
import { ROLE_TAG, readTags, requireOurs } from "./tags.ts";

/** One DescribeServices call takes at most 10 services (Amazon ECS API reference, DescribeServices, `services`). */
const SERVICES_A_CALL = 10;
/** One DescribeTasks call takes at most 100 tasks (Amazon ECS API reference, DescribeTasks, `tasks`). */
const TASKS_A_CALL = 100;
export type AccountReader = ReturnType<typeof newAccountReader>;

/** Reads what is in one cluster and behind one listener, in few calls: askers of the same moment share them. */
export function newAccountReader(
  aws: AwsClients,
  at: { install: string; cluster: string; listener: string; namesFreshMs: number },
) {
  const { install, cluster, listener, namesFreshMs } = at;
  let names: { at: number; list: Promise<string[]> } | undefined;

  const describeServices = newBatcher<Service>(SERVICES_A_CALL, async (keys) => {
    const { services } = await aws.ecs.describeServices({ cluster, services: keys, include: ["TAGS"] });
    return new Map((services ?? []).map((one) => [one.serviceName ?? "", one]));
  });
  const describeTasks = newBatcher<Task>(TASKS_A_CALL, async (keys) => {
    const { tasks } = await aws.ecs.describeTasks({ cluster, tasks: keys, include: ["TAGS"] });
    return new Map((tasks ?? []).map((one) => [one.taskArn ?? "", one]));
  });

  async function listServiceNames(): Promise<string[]> {
    const found: string[] = [];
    let nextToken: string | undefined;
    do {
      const page = await aws.ecs.listServices({ cluster, maxResults: 100, ...(nextToken && { nextToken }) });
      found.push(...(page.serviceArns ?? []).map((arn) => arn.split("/").at(-1) ?? ""));
      nextToken = page.nextToken;
    } while (nextToken);
    return found;
  }

  async function serviceNames(): Promise<string[]> {
    if (names === undefined || Date.now() - names.at > namesFreshMs) {
      const list = listServiceNames();
      names = { at: Date.now(), list };
      list.catch(() => {
        names = undefined;
      });
    }
    return await names.list;
  }

  function toSlot(place: Place, name: SlotName, service: Service): Slot {
    requireOurs(install, `The ECS service ${service.serviceName}`, readTags(service.tags));
    const deployments = (service.deployments ?? []).map((one) => toDeployment(place, one));
    return {
      name,
      arn: service.serviceArn ?? "",
      serviceName: service.serviceName ?? "",
      status: (service.status ?? "INACTIVE") as Slot["status"],
      desired: service.desiredCount ?? 0,
      primary: deployments.find((_, index) => service.deployments?.[index]?.status === "PRIMARY"),
      draining: deployments.filter((_, index) => service.deployments?.[index]?.status !== "PRIMARY"),
      role: readTags(service.tags)[ROLE_TAG],
      targetGroup: service.loadBalancers?.[0]?.targetGroupArn,
      network: networkOf(service),
    };
  }

  function toDeployment(place: Place, one: Deployment): SeenDeployment {
    const taskDefinition = one.taskDefinition ?? "";
    return {
      id: one.id ?? "",
      taskDefinition,
      release: readFamily(install, place, familyOf(taskDefinition))?.release,
      state: one.rolloutState ?? "IN_PROGRESS",
      reason: one.rolloutStateReason ?? "ECS gave no reason",
      running: one.runningCount ?? 0,
      pending: one.pendingCount ?? 0,
      failedTasks: one.failedTasks ?? 0,
    };
  }

  /** All rules of the listener. */
  async function listenerRules(): Promise<ListenerRule[]> {
    const found: ListenerRule[] = [];
    let marker: string | undefined;
    do {
      const page = await aws.elb.describeRules({
        ListenerArn: listener,
        PageSize: 400,
        ...(marker && { Marker: marker }),
      });
      found.push(...(page.Rules ?? []));
      marker = page.NextMarker;
    } while (marker);
    return found;
  }

  async function slotsOf(place: Place, services: string[]): Promise<Map<string, Partial<Record<SlotName, Slot>>>> {
    const keys = services.flatMap((service) => SLOTS.map((slot) => serviceName(install, place, service, slot)));
    const found = await describeServices(keys);
    const entries = services.map((service) => {
      const slots: Partial<Record<SlotName, Slot>> = {};
      for (const name of SLOTS) {
        const seen = found.get(serviceName(install, place, service, name));
        if (seen !== undefined && seen.status !== "INACTIVE") slots[name] = toSlot(place, name, seen);
      }
      return [service, slots] as const;
    });
    return new Map(entries);
  }

  return {
    listenerRules,

    /** One rule as it is now. */
    async rule(place: Place, service: string, arn: string): Promise<Rule | undefined> {
      const { Rules } = await aws.elb.describeRules({ RuleArns: [arn] });
      return findRule(Rules ?? [], install, place, service);
    },

    /** After a service was made, the names that are known lack it. */
    forgetNames(): void {
      names = undefined;
    },

    /** These services of a place; without `services`, all that are there. */
    async views(place: Place, services?: string[]): Promise<ServiceView[]> {
      const wanted = services ?? [...new Set(placeServices(install, place, await serviceNames()))];
      if (wanted.length === 0) return [];
      const [slots, rules] = await Promise.all([slotsOf(place, wanted), listenerRules()]);
      return wanted
        .map((service) => ({
          service,
          slots: slots.get(service) ?? {},
          rule: findRule(rules, install, place, service),
        }))
        .filter((view) => services !== undefined || Object.keys(view.slots).length > 0);
    },

    /** ECS services that have the place's prefix and are no slots. */
    async strangers(place: Place): Promise<string[]> {
      const prefix = servicePrefix(install, place);
      return (await serviceNames()).filter((name) => name.startsWith(prefix) && !/_[ab]$/.test(name));
    },

    /** ECS services under the place's prefix, whoever made them, that are not gone. */
    async underPrefix(place: Place): Promise<Service[]> {
      const prefix = servicePrefix(install, place);
      const found = await describeServices((await listServiceNames()).filter((name) => name.startsWith(prefix)));
      return [...found.values()].filter(({ status }) => status !== "INACTIVE");
    },

    /** The slots alone, without the rules: one call for five services. */
    slotsOf,

    /** Tasks that a deployment or a run started and that are to run. */
    async startedTasks(startedBy: string): Promise<SeenTask[]> {
      const { taskArns } = await aws.ecs.listTasks({ cluster, startedBy });
      return await tasksByArn(taskArns ?? []);
    },

    /** Stopped tasks, as long as ECS shows them: about an hour. */
    async stoppedTasks(of: { serviceName: string } | { family: string }): Promise<SeenTask[]> {
      const { taskArns } = await aws.ecs.listTasks({ cluster, desiredStatus: "STOPPED", ...of });
      return await tasksByArn(taskArns ?? []);
    },

    tasksByArn,

    async targets(targetGroup: string): Promise<SeenTarget[]> {
      const { TargetHealthDescriptions } = await aws.elb.describeTargetHealth({ TargetGroupArn: targetGroup });
      return (TargetHealthDescriptions ?? []).map(({ Target, TargetHealth }) => ({
        ip: Target?.Id ?? "",
        state: TargetHealth?.State ?? "unavailable",
        reason: TargetHealth?.Reason,
        description: TargetHealth?.Description,
      }));
    },
  };

  async function tasksByArn(arns: string[]): Promise<SeenTask[]> {
    const found = await describeTasks(arns);
    return [...found.values()].map(toTask).sort((a, b) => a.createdAt - b.createdAt || a.arn.localeCompare(b.arn));
  }
}

function networkOf({ networkConfiguration }: Service): Network {
  const { subnets = [], securityGroups = [], assignPublicIp } = networkConfiguration?.awsvpcConfiguration ?? {};
  return { subnets, securityGroups, publicIp: assignPublicIp === "ENABLED" };
}

/** The service names of a place among all of the cluster. */
function placeServices(install: string, place: Place, names: string[]): string[] {
  const prefix = servicePrefix(install, place);
  return names
    .filter((name) => name.startsWith(prefix) && /_[ab]$/.test(name))
    .map((name) => name.slice(prefix.length, -"_a".length));
}

/** Ours is the rule that forwards to our target groups: their names are hashes of this place and service, and were checked when they were made. */
export function findRule(rules: ListenerRule[], install: string, place: Place, service: string): Rule | undefined {
  const names = { a: targetGroupName(install, place, service, "a"), b: targetGroupName(install, place, service, "b") };
  for (const rule of rules) {
    const groups = (rule.Actions ?? []).flatMap((action) => action.ForwardConfig?.TargetGroups ?? []);
    const groupOf = (name: string) => groups.find((one) => targetGroupNameOf(one.TargetGroupArn ?? "") === name);
    const [a, b] = [groupOf(names.a), groupOf(names.b)];
    if (a === undefined || b === undefined) continue;
    return {
      arn: rule.RuleArn ?? "",
      hosts: (rule.Conditions ?? []).flatMap((condition) => condition.HostHeaderConfig?.Values ?? []),
      weights: { a: a.Weight ?? 0, b: b.Weight ?? 0 },
      groups: { a: a.TargetGroupArn ?? "", b: b.TargetGroupArn ?? "" },
    };
  }
  return undefined;
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
