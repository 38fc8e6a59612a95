import type { Place, Release, ReleaseService } from "../../../release.ts";
import { servesTraffic, taskName, taskNames } from "../../../release.ts";
import type { DesiredState, ObservedService, TaskDrift } from "../../../target.ts";
import { otherSlot, SLOTS, type SlotName } from "../names.ts";
import type { Tags } from "../tags.ts";
import type { ServiceSettings } from "./service-settings.ts";

/** One deployment of an ECS service: a task definition and how far its tasks are. */
export type SeenDeployment = {
  id: string;
  taskDefinition: string;
  /** Of the task definition; undefined when it is not one of ours. */
  release: number | undefined;
  state: "IN_PROGRESS" | "COMPLETED" | "FAILED";
  reason: string;
  running: number;
  pending: number;
  failedTasks: number;
  /** In ms since 1970. */
  createdAt: number;
};

/** An ECS service that is one of the two slots of a service. */
export type Slot = {
  name: SlotName;
  arn: string;
  /** Name of the ECS service. */
  serviceName: string;
  status: "ACTIVE" | "DRAINING" | "INACTIVE";
  desired: number;
  /** What the slot is for now; what goes before it is on its way out. */
  primary: SeenDeployment | undefined;
  draining: SeenDeployment[];
  /** What ECS said last that it does not say of a rollout that goes well. */
  complaint?: string | undefined;
  /** `live-r7`, `standby-r6`; valid only for that release. */
  role: string | undefined;
  /** ARN of its listener rule, as far as the slot knows, and the number that was given to that. */
  rule: string | undefined;
  priority?: string | undefined;
  tags: Tags;
  settings: ServiceSettings;
  targetGroup: string | undefined;
  /** It runs by a strategy of capacity providers, not by a launch type. */
  hasProviders: boolean;
  network: Network;
  /** Commands can be run inside tasks that it starts. */
  exec: boolean;
};

/** What the tasks of a slot are attached to. */
export type Network = { subnets: string[]; securityGroups: string[]; publicIp: boolean };

export type Rule = {
  arn: string;
  hosts: string[];
  weights: Record<SlotName, number>;
  /** ARNs of the target groups. */
  groups: Record<SlotName, string>;
  priority: string;
  /** What it says that Shipway does not write, by path. */
  extras: Record<string, string>;
};

/** What is there of one service of a place. */
export type ServiceView = { service: string; slots: Partial<Record<SlotName, Slot>>; rule: Rule | undefined };

/** The release a slot holds; undefined when it is empty: what was scaled to nothing has tasks only on their way out. */
export function releaseIn(slot: Slot | undefined): number | undefined {
  return slot?.status === "ACTIVE" && slot.desired > 0 ? slot.primary?.release : undefined;
}

/** Whether a slot holds a release that was parked after it had served, and stands by since. */
export const isStandby = (slot: Slot): boolean =>
  slot.primary?.release !== undefined && slot.role === `standby-r${slot.primary.release}`;

/** The rule that leads to a slot and where else it can lead, by what the slots know; undefined where they do not. */
export function knownRule(slot: Slot, { a, b }: ServiceView["slots"]): Pick<Rule, "arn" | "groups"> | undefined {
  if (slot.rule === undefined || a?.targetGroup === undefined || b?.targetGroup === undefined) return undefined;
  return { arn: slot.rule, groups: { a: a.targetGroup, b: b.targetGroup } };
}

/** The slot that works: by the rule where there is one, else by the mark that was set when the release proved itself. */
export function liveSlot({ slots, rule }: ServiceView): SlotName | undefined {
  if (rule !== undefined) return SLOTS.find((name) => rule.weights[name] > 0);
  return SLOTS.find((name) => {
    const release = releaseIn(slots[name]);
    return release !== undefined && slots[name]?.role === `live-r${release}`;
  });
}

export const slotOf = (view: ServiceView, release: number): Slot | undefined =>
  SLOTS.map((name) => view.slots[name]).find((slot) => releaseIn(slot) === release);

/**
 * Where a release starts: where it is already, else beside what works, which is never touched. Undefined when both slots of a worker hold
 * releases of which none is known to work.
 */
export function chooseSlot(view: ServiceView, release: number): SlotName | undefined {
  const own = SLOTS.find(
    (name) => view.slots[name]?.status === "ACTIVE" && view.slots[name]?.primary?.release === release,
  );
  if (own !== undefined) return own;
  const live = liveSlot(view);
  if (live !== undefined) return otherSlot(live);
  return SLOTS.find((name) => releaseIn(view.slots[name]) === undefined);
}

/** What the port calls observed: tasks are counted per deployment and named by their number. */
export function observedOf(place: Place, views: ServiceView[]): ObservedService[] {
  return views
    .flatMap((view) =>
      SLOTS.flatMap((name) => {
        const slot = view.slots[name];
        return slot === undefined ? [] : observedSlot(place, view, slot);
      }),
    )
    .sort((a, b) => a.release - b.release || a.service.localeCompare(b.service));
}

function observedSlot(place: Place, view: ServiceView, slot: Slot): ObservedService[] {
  const release = releaseIn(slot);
  if (release === undefined || slot.primary === undefined) return [];
  const running = Math.min(slot.primary.running, slot.desired);
  const tasks = Array.from({ length: slot.desired }, (_, index) => ({
    name: taskName(place, view.service, release, index + 1),
    state: index < running ? ("running" as const) : ("starting" as const),
  }));
  return [{ release, service: view.service, traffic: trafficOf(view, slot), tasks }];
}

export function trafficOf(view: ServiceView, slot: Slot): ObservedService["traffic"] {
  if (view.rule !== undefined && view.rule.weights[slot.name] > 0) return "serving";
  if (isStandby(slot)) return "standby";
  return view.rule === undefined ? "none" : "draining";
}

/** One thing a reconciliation does. */
export type Mending =
  | { do: "scale-down"; slot: Slot; text: string }
  | { do: "scale-up"; slot: Slot; desired: number; text: string }
  | { do: "start"; service: ReleaseService; text: string }
  | { do: "shift"; release: Release; text: string };

/**
 * What differs from what is declared, in the order it is mended. A release that somebody else put into a slot is ended; the live one is
 * brought to its number of tasks with the task definition it proved itself with; traffic goes back to it where it has tasks that run.
 */
export function planMending(views: ServiceView[], { live, standby, inProgress }: DesiredState): Mending[] {
  const known = new Set([live?.release.number, standby?.number, ...inProgress].filter((one) => one !== undefined));
  const mendings: Mending[] = [];
  for (const view of views) {
    for (const name of SLOTS) {
      const slot = view.slots[name];
      const release = releaseIn(slot);
      if (slot === undefined || release === undefined) continue;
      // A service with a port has a target group also while somebody has removed its rule.
      const isWorker = view.rule === undefined && slot.targetGroup === undefined;
      const isStandbyWorker = release === standby?.number && release !== live?.release.number && isWorker;
      if (known.has(release) && !(isStandbyWorker && inProgress.length === 0)) continue;
      mendings.push({ do: "scale-down", slot, text: `stopped ${view.service} of r${release}, which nothing declares` });
    }
  }
  if (live === undefined) return mendings;
  for (const service of live.release.services) mendings.push(...mendService(views, live.release, service));
  if (inProgress.length === 0 && isMisled(views, live.release)) {
    mendings.push({ do: "shift", release: live.release, text: `moved traffic back to r${live.release.number}` });
  }
  return mendings;
}

function mendService(views: ServiceView[], release: Release, service: ReleaseService): Mending[] {
  const view = views.find((one) => one.service === service.name);
  const slot = SLOTS.map((name) => view?.slots[name]).find(
    (one) => one?.status === "ACTIVE" && one.primary?.release === release.number,
  );
  if (slot === undefined) {
    return [{ do: "start", service, text: `started ${service.name} of r${release.number}, which was gone` }];
  }
  if (slot.desired === service.count) return [];
  const text = `brought ${service.name} of r${release.number} from ${slot.desired} to ${service.count} tasks`;
  return [{ do: "scale-up", slot, desired: service.count, text }];
}

/** A rule leads elsewhere, or from other names, or is gone, although the live release has tasks that run. */
function isMisled(views: ServiceView[], release: Release): boolean {
  return release.services.filter(servesTraffic).some((service) => {
    const view = views.find((one) => one.service === service.name);
    const slot = view === undefined ? undefined : slotOf(view, release.number);
    const isUp = slot?.primary !== undefined && slot.primary.running > 0;
    if (!isUp) return false;
    return view?.rule === undefined || view.rule.weights[slot.name] === 0 || !isAsWritten(view.rule, service);
  });
}

/** Whether a rule says what it is written with, and nothing else, wherever it leads. */
export const isAsWritten = (rule: Rule, service: ReleaseService): boolean =>
  hasHosts(rule, service) && Object.keys(rule.extras).length === 0;

const hasHosts = (rule: Rule, { hosts }: ReleaseService): boolean =>
  [...rule.hosts].sort().join() === [...hosts].sort().join();

/** How a task definition differs from the declared one. */
export type ChangedRevision = { kind: "changed" | "outdated"; attributes: TaskDrift["attributes"] };

/** What differs and what a person does about it. */
export type FoundDrift = { attributes: TaskDrift["attributes"]; remedy: string };

/**
 * Of all services of an environment. By service: `revisions`, of those whose task definition differs; `settings`, how its ECS service is set otherwise;
 * `asked`, what differs of things that are only looked at for those who ask.
 */
type Declared = {
  cluster: string;
  network: Network;
  exec: boolean;
  revisions: Map<string, ChangedRevision>;
  settings: Map<string, TaskDrift["attributes"]>;
  asked: Map<string, FoundDrift[]>;
};

/**
 * What differs from what is declared. `strangers` are ECS services under the place's prefix that are no slots.
 */
export function driftOf(
  place: Place,
  views: ServiceView[],
  strangers: string[],
  desired: DesiredState,
  at: Declared,
): TaskDrift[] {
  const { live, standby, inProgress } = desired;
  const known = new Set([live?.release.number, standby?.number, ...inProgress]);
  const unknown = views.flatMap((view) =>
    SLOTS.flatMap((name): TaskDrift[] => {
      const slot = view.slots[name];
      const release = releaseIn(slot);
      if (slot === undefined || release === undefined || known.has(release)) return [];
      return [{ name: slot.serviceName, what: "unknown", kind: "unknown", attributes: [], mendsItself: true }];
    }),
  );
  return [
    ...(live?.release.services ?? []).flatMap((service) => serviceDrift(place, views, live?.release, service, at)),
    ...unknown,
    ...strangers.map((name): TaskDrift => {
      const remedy = `Nothing of Shipway's made it. Look at it with \`aws ecs describe-services --cluster ${at.cluster} --services ${name}\`; remove it with \`aws ecs delete-service --force\` when nobody needs it.`;
      return { name, what: "unknown", kind: "unknown", attributes: [], mendsItself: false, remedy };
    }),
  ];
}

function serviceDrift(
  place: Place,
  views: ServiceView[],
  release: Release | undefined,
  service: ReleaseService,
  declared: Declared,
): TaskDrift[] {
  if (release === undefined) return [];
  const view = views.find((one) => one.service === service.name);
  const slot = view && slotOf(view, release.number);
  const names = taskNames(place, release.number, service);
  const alive = Math.min(slot?.desired ?? 0, service.count);
  const drift = names.slice(alive).map((name): TaskDrift => {
    return { name, what: "task", kind: "missing", attributes: [], mendsItself: true };
  });
  if (slot === undefined || view === undefined) return drift;
  const attributes = [...changedSettings(declared, slot), ...(declared.settings.get(service.name) ?? [])];
  const remedy = `The next release runs as declared again; until then it is undone with \`aws ecs update-service --cluster ${declared.cluster} --service ${slot.serviceName} …\`.`;
  if (attributes.length > 0) {
    const changed = names.slice(0, alive).map((name): TaskDrift => {
      return { name, what: "task", kind: "changed", attributes, mendsItself: false, remedy };
    });
    drift.push(...changed);
  }
  const revision = declared.revisions.get(service.name);
  if (revision !== undefined) {
    const deploy = `\`shipway deploy --app ${place.app} --env ${place.environment}\``;
    drift.push(
      ...names.slice(0, alive).map((name): TaskDrift => {
        return {
          name,
          what: "task",
          ...revision,
          mendsItself: false,
          remedy: `The next deployment starts it as declared: ${deploy}.`,
        };
      }),
    );
  }
  if (servesTraffic(service) && (view.rule === undefined || view.rule.weights[slot.name] === 0)) {
    const without = names.slice(0, alive).map((name): TaskDrift => {
      return { name, what: "task", kind: "no-traffic", attributes: [], mendsItself: true };
    });
    drift.push(...without);
  } else if (view.rule !== undefined) {
    drift.push(...ruleDrift(names[0] ?? service.name, service, slot, view.rule));
  }
  for (const found of declared.asked.get(service.name) ?? [])
    drift.push({ name: names[0] ?? service.name, what: "task", kind: "changed", mendsItself: false, ...found });
  return drift;
}

/** A rule that leads to the slot and says something else than it is written with. Its number is no matter of writing it: that takes another call, and may be taken. */
function ruleDrift(name: string, service: ReleaseService, { priority }: Slot, rule: Rule): TaskDrift[] {
  const written = [
    ...(hasHosts(rule, service)
      ? []
      : [{ path: "hosts", before: service.hosts.join(", "), after: rule.hosts.join(", ") }]),
    ...Object.entries(rule.extras).map(([path, after]) => ({ path, before: "(not set)", after })),
  ];
  const drift: TaskDrift[] = [];
  if (written.length > 0) drift.push({ name, what: "task", kind: "changed", attributes: written, mendsItself: true });
  if (priority !== undefined && priority !== rule.priority) {
    const attributes = [{ path: "rule.priority", before: priority, after: rule.priority }];
    const remedy = `\`aws elbv2 set-rule-priorities --rule-priorities RuleArn=${rule.arn},Priority=${priority}\` gives it back; the next deployment takes it as it is then.`;
    drift.push({ name, what: "task", kind: "changed", attributes, mendsItself: false, remedy });
  }
  return drift;
}

function changedSettings({ network, exec }: Declared, seen: Slot): TaskDrift["attributes"] {
  const listed = (ids: string[]) => [...ids].sort().join(", ");
  const pairs = [
    ["subnets", listed(network.subnets), listed(seen.network.subnets)],
    ["securityGroups", listed(network.securityGroups), listed(seen.network.securityGroups)],
    ["publicIp", String(network.publicIp), String(seen.network.publicIp)],
    ["exec", String(exec), String(seen.exec)],
  ] as const;
  return pairs
    .filter(([, before, after]) => before !== after)
    .map(([path, before, after]) => ({ path, before, after }));
}
