import { noneWithout } from "../../../../aws/aws-errors.ts";
import type { Place } from "../../../release.ts";
import type { DesiredState, RolloutTarget, TaskVariables } from "../../../target.ts";
import {
  type ChangedRevision,
  driftOf,
  type FoundDrift,
  planMending,
  type ServiceView,
  slotOf,
} from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { askedDrift } from "./asked-drift.ts";
import { secretContent } from "./ensure.ts";
import { revisionDrift } from "./revision-drift.ts";
import { asScaled } from "./scaling.ts";
import { type Attributes, serviceDrift } from "./service-drift.ts";
import { scale } from "./traffic.ts";

/** Compares what is there with what is declared, and puts it right where that is safe. */
export function newMending(
  ground: Ground,
  does: Pick<RolloutTarget, "prepare" | "startService" | "shiftTraffic">,
): Pick<RolloutTarget, "findDrift" | "reconcile"> {
  const { reader, recall, settings, times } = ground;
  return {
    async findDrift(place, desired, options) {
      const mayBeOldMs = Math.min(options?.mayBeOldMs ?? 0, times.steadyMs);
      const views = await orNone(desired, mayBeOldMs > 0 ? reader.steadyViews(place) : reader.views(place));
      // The walk that the views come from lists all names; one that is late keeps nobody waiting.
      const strangers = await orNone(desired, reader.strangers(place, Date.now() - 3 * mayBeOldMs));
      const { cluster, subnets, securityGroups, publicIp, exec } = settings;
      const revisions = await changedRevisions(ground, place, views, desired);
      const at = {
        cluster,
        network: { subnets, securityGroups, publicIp },
        exec,
        revisions,
        settings: changedServices(ground, place, views, desired),
        asked: mayBeOldMs > 0 ? NOTHING : await askedDrift(ground, place, views, desired),
      };
      return driftOf(place, views, strangers, asScaled(settings, desired, views), at);
    },

    async reconcile(place, desired) {
      if (recall.changedAt(place) > Date.now() - times.quietMs) return [];
      const plan = (views: ServiceView[]) => planMending(views, asScaled(settings, desired, views));
      if (plan(await orNone(desired, reader.steadyViews(place))).length === 0) return [];
      // What differed a while ago is looked at again before anything is touched.
      const readAt = Date.now();
      const mendings = plan(await reader.views(place));
      if (recall.changedAt(place) >= readAt) return [];
      // What starts needs its target groups, and traffic a rule, which somebody may have removed.
      if (mendings.some((one) => one.do === "start" || one.do === "shift") && desired.live)
        await does.prepare(place, desired.live.release);
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

/** Once a minute nobody asks. */
const NOTHING = new Map<string, FoundDrift[]>();

/** How the ECS services that the live release runs in are set otherwise than they would be made now, by service. */
function changedServices(ground: Ground, place: Place, views: ServiceView[], { live }: DesiredState) {
  const changed = new Map<string, Attributes>();
  for (const service of live?.release.services ?? []) {
    const view = views.find((one) => one.service === service.name);
    const slot = view && slotOf(view, live?.release.number ?? 0);
    if (slot !== undefined) changed.set(service.name, serviceDrift(ground, place, service, slot));
  }
  return changed;
}

/** Of a place in which nothing is to run, Terraform may have destroyed what it stood on. */
async function orNone<T>({ live }: DesiredState, looking: Promise<T[]>): Promise<T[]> {
  if (live !== undefined) return looking;
  return (await looking.catch(noneWithout("ClusterNotFound", "ListenerNotFound"))) ?? [];
}

/** How the task definitions that the live release's services run with differ from what they would be started with now, by service. */
async function changedRevisions(
  { reader, install, settings, fingerprint }: Ground,
  place: Place,
  views: ServiceView[],
  { live }: DesiredState,
): Promise<Map<string, ChangedRevision>> {
  const changed = new Map<string, ChangedRevision>();
  for (const service of live?.release.services ?? []) {
    const { env, secrets, references }: TaskVariables = live?.variables[service.name] ?? { env: {}, secrets: {} };
    const release = live?.release.number ?? 0;
    const slot = views.filter((view) => view.service === service.name).map((view) => slotOf(view, release))[0];
    const seen = slot?.primary && (await reader.revision(slot.primary.taskDefinition));
    if (seen === undefined) continue;
    const { keys, versionId } = secretContent(fingerprint, secrets);
    const secret = keys.length === 0 ? undefined : { arn: ANY_SECRET, versionId, keys };
    const drift = revisionDrift({ install, place, release, service, settings, env, secret, references }, seen);
    if (drift !== undefined) changed.set(service.name, drift);
  }
  return changed;
}

/** Which secret it is says its name; compared are keys and versions. */
const ANY_SECRET = "arn:aws:secretsmanager:any:any:secret:any";
