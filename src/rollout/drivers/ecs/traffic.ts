import { fail } from "../../../shared/errors.ts";
import { type Place, type ReleaseService, servesTraffic } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { forwardTo, hostCondition } from "./ensure.ts";
import type { Ground } from "./ground.ts";
import { otherSlot, SLOTS } from "./names.ts";
import { hasHosts, liveSlot, releaseIn, type ServiceView, type Slot, slotOf } from "./slots.ts";
import { lowerTags, ROLE_TAG } from "./tags.ts";

/** Moves traffic between releases that run, and ends those that do not serve. */
export function newTraffic(
  ground: Ground,
): Pick<RolloutTarget, "shiftTraffic" | "awaitDrained" | "park" | "wake" | "stop"> {
  const { reader, recall } = ground;
  return {
    async shiftTraffic(place, release) {
      recall.touch(place);
      const views = await reader.views(place);
      const moves = release.services.map((service) => {
        const view = views.find((one) => one.service === service.name);
        const slot =
          view && SLOTS.map((name) => view.slots[name]).find((one) => one?.primary?.release === release.number);
        if (view === undefined || slot === undefined)
          throw new Error(`${service.name} of r${release.number} has no slot: traffic stays where it is`);
        return { service, view, slot };
      });
      for (const { service, view, slot } of moves)
        if (view.rule !== undefined) await flip(ground, place, service, view, slot);
      for (const { service, slot } of moves) {
        if (!servesTraffic(service)) await mark(ground, slot, `live-r${release.number}`);
      }
      for (const view of views) {
        if (!release.services.some((service) => service.name === view.service)) await takeAway(ground, view);
      }
    },

    // Nothing that has a request open is paused or stopped here: the old slot runs on, and when it is scaled down ECS takes each task out of
    // the load balancer first and ends it after the deregistration delay.
    awaitDrained: async () => ({ stillOpen: 0 }),

    async park(place, release) {
      recall.touch(place);
      for (const view of await reader.views(place)) {
        const slot = slotOf(view, release.number);
        if (slot === undefined) continue;
        if (view.rule === undefined) await scale(ground, slot, 0);
        else await mark(ground, slot, `standby-r${release.number}`);
      }
    },

    async wake(place, release) {
      const web = release.services.filter(servesTraffic);
      const slots = await reader.slotsOf(
        place,
        web.map((one) => one.name),
      );
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

    async stop(place, release, services) {
      recall.touch(place);
      for (const view of await reader.views(place)) {
        if (services !== undefined && !services.includes(view.service)) continue;
        const slot = slotOf(view, release);
        if (slot !== undefined) await scale(ground, slot, 0);
      }
    },
  };
}

/** One write, then read back: what the rule says afterwards is the truth. */
async function flip(
  { aws, reader }: Ground,
  place: Place,
  service: ReleaseService,
  view: ServiceView,
  slot: Slot,
): Promise<void> {
  const { rule } = view;
  if (rule === undefined) return;
  const isThere = rule.weights[slot.name] > 0 && rule.weights[otherSlot(slot.name)] === 0;
  if (isThere && hasHosts(rule, service)) return;
  await aws.elb.modifyRule({
    RuleArn: rule.arn,
    Conditions: hostCondition(service),
    Actions: forwardTo(rule.groups, slot.name),
  });
  const now = await reader.rule(place, service.name, rule.arn);
  if ((now?.weights[slot.name] ?? 0) > 0) return;
  throw fail("AWS_RULE_CHANGED", {
    message: `The listener rule of ${service.name} does not lead to r${slot.primary?.release ?? 0} although it was written: somebody else writes it too.`,
    hint: "Find out who in CloudTrail (event ModifyRule), then try again.",
  });
}

/** A service that the new release no longer has: its rule leads to its empty slot, and back again if the release goes back. */
async function takeAway(ground: Ground, view: ServiceView): Promise<void> {
  const live = liveSlot(view);
  if (view.rule === undefined || live === undefined || releaseIn(view.slots[live]) === undefined) return;
  const idle = view.slots[otherSlot(live)];
  if (idle !== undefined && releaseIn(idle) !== undefined) await scale(ground, idle, 0);
  await ground.aws.elb.modifyRule({
    RuleArn: view.rule.arn,
    Actions: forwardTo(view.rule.groups, otherSlot(live)),
  });
}

async function mark({ aws }: Ground, slot: Slot, role: string): Promise<void> {
  if (slot.role === role) return;
  await aws.ecs.tagResource({ resourceArn: slot.arn, tags: lowerTags({ [ROLE_TAG]: role }) });
}

export async function scale({ aws, settings }: Ground, slot: Slot, desired: number): Promise<void> {
  await aws.ecs.updateService({ cluster: settings.cluster, service: slot.serviceName, desiredCount: desired });
}
