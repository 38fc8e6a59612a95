import type { RolloutTarget } from "../../target.ts";
import type { Ground } from "./ground.ts";
import { asScaled } from "./scaling.ts";
import { driftOf, planMending, type ServiceView } from "./slots.ts";
import { scale } from "./traffic.ts";

/** Compares what is there with what is declared, and puts it right where that is safe. */
export function newMending(
  ground: Ground,
  does: Pick<RolloutTarget, "prepare" | "startService" | "shiftTraffic">,
): Pick<RolloutTarget, "findDrift" | "reconcile"> {
  const { reader, recall, settings, times } = ground;
  return {
    async findDrift(place, desired) {
      const [views, strangers] = await Promise.all([reader.views(place), reader.strangers(place)]);
      const { cluster, subnets, securityGroups, publicIp, exec } = settings;
      const at = { cluster, network: { subnets, securityGroups, publicIp }, exec };
      return driftOf(place, views, strangers, asScaled(settings, desired, views), at);
    },

    async reconcile(place, desired) {
      if (recall.changedAt(place) > Date.now() - times.quietMs) return [];
      const plan = (views: ServiceView[]) => planMending(views, asScaled(settings, desired, views));
      if (plan(await reader.steadyViews(place)).length === 0) return [];
      // What differed a while ago is looked at again before anything is touched.
      const readAt = Date.now();
      const mendings = plan(await reader.views(place));
      if (recall.changedAt(place) >= readAt) return [];
      if (mendings.some((one) => one.do === "start") && desired.live) await does.prepare(place, desired.live.release);
      for (const mending of mendings) {
        switch (mending.do) {
          case "scale-down":
            await recall.changing(place, () => scale(ground, mending.slot, 0));
            break;
          case "scale-up":
            await recall.changing(place, () => scale(ground, mending.slot, mending.desired));
            break;
          case "start": {
            const { live } = desired;
            const variables = live?.variables[mending.service.name] ?? { env: {}, secrets: {} };
            if (live) await does.startService(place, live.release, mending.service, variables);
            break;
          }
          case "shift":
            await does.shiftTraffic(place, mending.release);
            break;
        }
      }
      return mendings.map((one) => one.text);
    },
  };
}
