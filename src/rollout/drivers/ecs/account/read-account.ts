import type { Rule as ListenerRule } from "@aws-sdk/client-elastic-load-balancing-v2";
import { type Place, type Release, servesTraffic } from "../../../release.ts";
import type { AwsClients } from "../aws-clients.ts";
import type { EcsTimes, Recall } from "../ground.ts";
import {
  familyOf,
  readFamily,
  SLOTS,
  type SlotName,
  serviceName,
  servicePrefix,
  targetGroupName,
  targetGroupNameOf,
  targetGroupPrefix,
} from "../names.ts";
import { PRIORITY_TAG, ROLE_TAG, RULE_TAG, requireOurs } from "../tags.ts";
import type { ClusterReader, SeenService, SeenServiceDeployment } from "./cluster-reader.ts";
import type { SeenTarget } from "./judge.ts";
import type { ListenerReader } from "./listener-reader.ts";
import { extrasOf } from "./rule-conditions.ts";
import { isStandby, type Rule, releaseIn, type SeenDeployment, type ServiceView, type Slot } from "./slots.ts";

export type AccountReader = ReturnType<typeof newAccountReader>;

type Slots = Map<string, Partial<Record<SlotName, Slot>>>;

/** What is there of a place: its services in one cluster, its rules at one listener. */
export function newAccountReader(
  { elb }: Pick<AwsClients, "elb">,
  on: {
    install: string;
    cluster: ClusterReader;
    listener: ListenerReader;
    recall: Recall;
    times: Pick<EcsTimes, "namesFreshMs" | "steadyMs">;
  },
) {
  const { install, cluster, listener, recall, times } = on;
  const keysOf = (place: Place, services: string[]) =>
    services.flatMap((service) => SLOTS.map((slot) => serviceName(install, place, service, slot)));

  function toSlots(place: Place, services: string[], found: Map<string, SeenService>): Slots {
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

  function toSlot(place: Place, name: SlotName, seen: SeenService): Slot {
    requireOurs(install, `The ECS service ${seen.name}`, seen.tags);
    const { arn, status, desired, targetGroup, hasProviders, network, exec, tags, settings } = seen;
    const toDeployment = ({ isPrimary, ...one }: SeenServiceDeployment): SeenDeployment => {
      return { ...one, release: readFamily(install, place, familyOf(one.taskDefinition))?.release };
    };
    const primary = seen.deployments.find((one) => one.isPrimary);
    return {
      name,
      arn,
      serviceName: seen.name,
      status: status as Slot["status"],
      desired,
      primary: primary && toDeployment(primary),
      complaint: seen.complaint,
      draining: seen.deployments.filter((one) => !one.isPrimary).map(toDeployment),
      role: tags[ROLE_TAG],
      rule: tags[RULE_TAG],
      priority: tags[PRIORITY_TAG],
      tags,
      settings,
      targetGroup,
      hasProviders,
      network,
      exec,
    };
  }

  async function slotsOf(place: Place, services: string[], since = Date.now()): Promise<Slots> {
    return toSlots(place, services, await cluster.services(keysOf(place, services), since));
  }

  const withRules = (place: Place, slots: Slots, rules: ListenerRule[]): ServiceView[] =>
    [...slots].map(([service, own]) => ({ service, slots: own, rule: findRule(rules, install, place, service) }));
  const isThere = (view: ServiceView) => Object.keys(view.slots).length > 0;

  /** These services of a place, now; without `services`, all that are there. */
  async function views(place: Place, services?: string[]): Promise<ServiceView[]> {
    const now = Date.now();
    const wanted = services ?? placeServices(install, place, await cluster.names(now - times.namesFreshMs));
    if (wanted.length === 0) return [];
    const [slots, rules] = await Promise.all([slotsOf(place, wanted, now), listener.rules(now)]);
    return withRules(place, slots, rules).filter((view) => services !== undefined || isThere(view));
  }

  return {
    /** All rules of the listener, now or as they were at `since` or later. */
    listenerRules: (since = Date.now()) => listener.rules(since),
    /** As they were read within the last `withinMs`, if they were. */
    rulesLately: listener.lately,
    forgetRules: listener.forget,

    /** Rules of the place, by the target groups they lead to. */
    rulesOf: (place: Place, rules: ListenerRule[]): ListenerRule[] =>
      rules.filter((rule) => groupNames(rule).some((name) => name.startsWith(targetGroupPrefix(install, place)))),

    /** After a service was made, the names that are known lack it. */
    addName: cluster.addName,

    views,

    /** What tells whether a release can be woken: the slots of its services alone where they say that they stand by, else all that is there. */
    async standbyViews(place: Place, release: Release): Promise<ServiceView[]> {
      const slots = await slotsOf(
        place,
        release.services.map((one) => one.name),
      );
      const web = release.services.filter(servesTraffic);
      const standsBy = web.every(({ name }) =>
        Object.values(slots.get(name) ?? {}).some((slot) => releaseIn(slot) === release.number && isStandby(slot)),
      );
      return web.length > 0 && standsBy ? withRules(place, slots, []) : await views(place);
    },

    /** All services of a place as they were a while ago, at no cost of their own; never from before this process changed the place. */
    async steadyViews(place: Place): Promise<ServiceView[]> {
      const changedAt = recall.changedAt(place) + 1;
      const prefix = servicePrefix(install, place);
      const found = await cluster.steady((names) => names.filter((name) => name.startsWith(prefix)), changedAt);
      const wanted = placeServices(install, place, [...found.keys()]);
      if (wanted.length === 0) return [];
      const rules = await listener.rules(Math.max(changedAt, Date.now() - times.steadyMs));
      return withRules(place, toSlots(place, wanted, found), rules).filter(isThere);
    },

    /** ECS services that have the place's prefix and are no slots. */
    async strangers(place: Place, since = Date.now()): Promise<string[]> {
      const prefix = servicePrefix(install, place);
      return (await cluster.names(since)).filter((name) => name.startsWith(prefix) && !isSlotName(name));
    },

    /** ECS services under the place's prefix, whoever made them, that are not gone. */
    async underPrefix(place: Place): Promise<SeenService[]> {
      const prefix = servicePrefix(install, place);
      const now = Date.now();
      const names = (await cluster.names(now)).filter((name) => name.startsWith(prefix));
      return [...(await cluster.services(names, now)).values()].filter(({ status }) => status !== "INACTIVE");
    },

    /** The slots alone, without the rules, now or as they were at `since` or later: one call for five services. */
    slotsOf,

    revision: cluster.revision,
    startedTasks: cluster.startedTasks,
    stoppedTasks: cluster.stoppedTasks,
    tasksByArn: cluster.tasksByArn,
    execReadiness: cluster.execReadiness,

    async targets(targetGroup: string): Promise<SeenTarget[]> {
      const { TargetHealthDescriptions } = await elb.describeTargetHealth({ TargetGroupArn: targetGroup });
      return (TargetHealthDescriptions ?? []).map(({ Target, TargetHealth }) => ({
        ip: Target?.Id ?? "",
        state: TargetHealth?.State ?? "unavailable",
        reason: TargetHealth?.Reason,
        description: TargetHealth?.Description,
      }));
    },
  };
}

const isSlotName = (name: string): boolean => /_[ab]$/.test(name);

/** The services of a place among the names of a whole cluster's. */
function placeServices(install: string, place: Place, names: string[]): string[] {
  const prefix = servicePrefix(install, place);
  const own = names.filter((name) => name.startsWith(prefix) && isSlotName(name));
  return [...new Set(own.map((name) => name.slice(prefix.length, -"_a".length)))];
}

const groupNames = (rule: ListenerRule): string[] =>
  (rule.Actions ?? [])
    .flatMap((action) => action.ForwardConfig?.TargetGroups ?? [])
    .map((group) => targetGroupNameOf(group.TargetGroupArn ?? ""));

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
      priority: rule.Priority ?? "",
      extras: extrasOf(rule, [a.TargetGroupArn ?? "", b.TargetGroupArn ?? ""]),
    };
  }
  return undefined;
}
