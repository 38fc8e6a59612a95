import { isAws } from "../../../../aws/aws-errors.ts";
import type { Release, ReleaseService } from "../../../release.ts";
import type { DesiredState } from "../../../target.ts";
import { liveSlot, type ServiceView, slotOf } from "../account/slots.ts";
import type { Ground } from "../ground.ts";

/**
 * How many tasks a release begins with. Where something else decides how many run, it begins with as many as the one that serves has now, or traffic would
 * meet fewer than it needs; and what runs already is left as it is.
 */
export function countAtStart({ autoscaling }: Ground["settings"], service: ReleaseService, view: ServiceView): number {
  if (autoscaling !== true) return service.count;
  const live = liveSlot(view);
  return Math.max(service.count, live === undefined ? 0 : (view.slots[live]?.desired ?? 0));
}

/** What is declared, with the counts that something else has decided: they are nobody's mistake. A service with no task at all is. */
export function asScaled(settings: Ground["settings"], desired: DesiredState, views: ServiceView[]): DesiredState {
  const { live } = desired;
  if (settings.autoscaling !== true || live === undefined) return desired;
  const services = live.release.services.map((service): ReleaseService => {
    const view = views.find((one) => one.service === service.name);
    const slot = view && slotOf(view, live.release.number);
    return slot === undefined || slot.desired === 0 ? service : { ...service, count: slot.desired };
  });
  const release: Release = { ...live.release, services };
  return { ...desired, live: { ...live, release } };
}

/**
 * An empty slot's scaling is suspended, or its minimum would bring tasks of an old release back; one that is filled again goes on. A slot that nobody
 * registered has none.
 */
export async function suspendScaling(ground: Ground, serviceName: string, isSuspended: boolean): Promise<void> {
  const { aws, settings } = ground;
  if (settings.autoscaling !== true) return;
  const scaling = await aws.scaling();
  try {
    await scaling.registerScalableTarget({
      ServiceNamespace: "ecs",
      ResourceId: `service/${settings.cluster}/${serviceName}`,
      ScalableDimension: "ecs:service:DesiredCount",
      SuspendedState: {
        DynamicScalingInSuspended: isSuspended,
        DynamicScalingOutSuspended: isSuspended,
        ScheduledScalingSuspended: isSuspended,
      },
    });
  } catch (error) {
    // Only with a minimum and a maximum it would be made anew (Application Auto Scaling API, RegisterScalableTarget).
    if (!isAws(error, "Validation", "ObjectNotFound")) throw error;
  }
}
