import type { Rule as ListenerRule } from "@aws-sdk/client-elastic-load-balancing-v2";
import { isAws } from "../../../../aws/aws-errors.ts";
import { fail } from "../../../../shared/errors.ts";
import { sleep } from "../../../../shared/until.ts";
import { type Place, type Release, type ReleaseService, servesTraffic } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { findRule } from "../account/read-account.ts";
import {
  isAsWritten,
  isStandby,
  knownRule,
  liveSlot,
  type Rule,
  releaseIn,
  type ServiceView,
  type Slot,
  slotOf,
} from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { otherSlot, SLOTS, type SlotName } from "../names.ts";
import { lowerTags, ROLE_TAG } from "../tags.ts";
import { forwardTo, hostCondition } from "./ensure.ts";
import { suspendScaling } from "./scaling.ts";

/** Moves traffic between releases that run, and ends those that do not serve. */
export function newTraffic(
  ground: Ground,
): Pick<RolloutTarget, "shiftTraffic" | "awaitDrained" | "park" | "wake" | "stop"> {
  const { reader, recall, times } = ground;
  /** What a rollback has just seen is not asked again, unless this process changed the place since. */
  const lookOf = (place: Place) => Math.max(Date.now() - times.lookMs, recall.changedAt(place) + 1);
  return {
    async shiftTraffic(place, release) {
      const since = lookOf(place);
      await recall.changing(place, async () => {
        const moves = await movesOf(ground, place, release, since);
        await flipAll(ground, place, moves);
        for (const { service, slot } of moves) {
          if (!servesTraffic(service)) await mark(ground, slot, `live-r${release.number}`);
        }
        await takeAwayOthers(ground, place, release);
      });
    },

    // Nothing that has a request open is paused or stopped here: the old slot runs on, and when it is scaled down ECS takes each task out of
    // the load balancer first and ends it after the deregistration delay.
    awaitDrained: async () => ({ stillOpen: 0 }),

    park: (place, release) =>
      recall.changing(place, async () => {
        for (const view of await reader.views(place)) {
          const slot = slotOf(view, release.number);
          if (slot === undefined) continue;
          if (view.rule === undefined) await scale(ground, slot, 0);
          else await mark(ground, slot, `standby-r${release.number}`);
        }
      }),

    async wake(place, release) {
      const web = release.services.filter(servesTraffic);
      const names = release.services.map((one) => one.name);
      const slots = await reader.slotsOf(place, names, lookOf(place));
      const isUp = (service: ReleaseService) =>
        SLOTS.some((name) => {
          const slot = slots.get(service.name)?.[name];
          return releaseIn(slot) === release.number && (slot?.primary?.running ?? 0) >= service.count;
        });
      return {
        ready: web.filter(isUp).map((one) => one.name),
        missing: web.filter((one) => !isUp(one)).map((one) => one.name),
      };
    },

    stop: (place, release, services) =>
      recall.changing(place, async () => {
        for (const view of await reader.views(place)) {
          if (services !== undefined && !services.includes(view.service)) continue;
          const slot = slotOf(view, release);
          if (slot !== undefined) await scale(ground, slot, 0);
        }
      }),
  };
}

type Move = { service: ReleaseService; slots: ServiceView["slots"]; slot: Slot };

/** Where the release is. @throws when a service of it is nowhere: a program that is wrong, since it was proved or woken before */
async function movesOf({ reader }: Ground, place: Place, release: Release, since: number): Promise<Move[]> {
  const names = release.services.map((one) => one.name);
  const all = await reader.slotsOf(place, names, since);
  return release.services.map((service) => {
    const slots = all.get(service.name) ?? {};
    const slot = SLOTS.map((name) => slots[name]).find((one) => one?.primary?.release === release.number);
    if (slot === undefined)
      throw new Error(`${service.name} of r${release.number} has no slot: traffic stays where it is`);
    return { service, slots, slot };
  });
}

/**
 * One write a service, then one look at all rules: what they say afterwards is the truth. A release that stands by gets traffic without asking first who
 * has it: its slots know their rule and target groups, and what is written says where all of the traffic goes.
 */
async function flipAll(ground: Ground, place: Place, moves: Move[]): Promise<void> {
  const web = moves.filter(({ service }) => servesTraffic(service));
  const isKnown = web.every(({ slot, slots }) => isStandby(slot) && knownRule(slot, slots) !== undefined);
  try {
    await flipBy(ground, place, web, isKnown);
  } catch (error) {
    // Somebody removed a rule since the release was parked, and a deployment made another.
    if (!isKnown || !isAws(error, "RuleNotFound")) throw error;
    await flipBy(ground, place, web, false);
  }
}

async function flipBy(ground: Ground, place: Place, web: Move[], isKnown: boolean): Promise<void> {
  const { aws, reader, install, times } = ground;
  const rules = isKnown ? reader.rulesLately(times.lookMs) : await reader.listenerRules();
  let hasWritten = false;
  for (const move of web) {
    const { service, slot, slots } = move;
    const seen = rules && findRule(rules, install, place, service.name);
    if (seen !== undefined && leadsTo(seen, slot.name) && isAsWritten(seen, service)) continue;
    const rule = seen ?? (isKnown ? knownRule(slot, slots) : undefined);
    if (rule === undefined) throw ruleChanged(move, "is gone");
    await aws.elb.modifyRule({
      RuleArn: rule.arn,
      Conditions: hostCondition(service),
      Actions: forwardTo(rule.groups, slot.name),
    });
    hasWritten = true;
  }
  if (hasWritten) await readBack(ground, place, web);
}

/** AWS may show a rule for a moment as it was before (eventual consistency). */
async function readBack({ reader, install, times }: Ground, place: Place, web: Move[]): Promise<void> {
  const endsAt = Date.now() + times.readBackMs;
  for (;;) {
    const rules = await reader.listenerRules();
    const astray = web.find(({ service, slot }) => {
      const rule = findRule(rules, install, place, service.name);
      return rule === undefined || !leadsTo(rule, slot.name);
    });
    if (astray === undefined) return;
    if (Date.now() >= endsAt) throw ruleChanged(astray, "does not lead there although it was written");
    await sleep(READ_AGAIN_MS);
  }
}

const READ_AGAIN_MS = 300;

const leadsTo = ({ weights }: Rule, slot: SlotName): boolean => weights[slot] > 0 && weights[otherSlot(slot)] === 0;

function ruleChanged({ service, slot }: Move, what: string) {
  return fail("AWS_RULE_CHANGED", {
    message: `The listener rule that is to lead ${service.name} to r${slot.primary?.release ?? 0} ${what}: somebody else writes it too.`,
    hint: "Find out who in CloudTrail (events ModifyRule and DeleteRule), then try again.",
  });
}

/** Services that the release no longer has: the rules of the place that lead to none of its services tell. */
async function takeAwayOthers(ground: Ground, place: Place, release: Release): Promise<void> {
  const { reader, install, times } = ground;
  const rules = reader.rulesLately(times.lookMs) ?? (await reader.listenerRules());
  const isOurs = (rule: ListenerRule) =>
    release.services.some((service) => findRule([rule], install, place, service.name) !== undefined);
  if (reader.rulesOf(place, rules).every(isOurs)) return;
  for (const view of await reader.views(place)) {
    if (!release.services.some((service) => service.name === view.service)) await takeAway(ground, view);
  }
}

/** Its rule leads to its empty slot, and back again if the release goes back. */
async function takeAway(ground: Ground, view: ServiceView): Promise<void> {
  const live = liveSlot(view);
  if (view.rule === undefined || live === undefined || releaseIn(view.slots[live]) === undefined) return;
  const idle = view.slots[otherSlot(live)];
  if (idle !== undefined && releaseIn(idle) !== undefined) await scale(ground, idle, 0);
  await ground.aws.elb.modifyRule({
    RuleArn: view.rule.arn,
    Actions: forwardTo(view.rule.groups, otherSlot(live)),
  });
  ground.reader.forgetRules();
}

async function mark({ aws }: Ground, slot: Slot, role: string): Promise<void> {
  if (slot.role === role) return;
  await aws.ecs.tagResource({ resourceArn: slot.arn, tags: lowerTags({ [ROLE_TAG]: role }) });
}

export async function scale(ground: Ground, slot: Slot, desired: number): Promise<void> {
  const { aws, settings } = ground;
  await suspendScaling(ground, slot.serviceName, desired === 0);
  await aws.ecs.updateService({ cluster: settings.cluster, service: slot.serviceName, desiredCount: desired });
}
