import { noneWithout } from "../../../../aws/aws-errors.ts";
import { sleep } from "../../../../shared/until.ts";
import type { Place, Release } from "../../../release.ts";
import { deleteRevisions, findFamilies, revisionsOf } from "../families.ts";
import type { Ground } from "../ground.ts";
import { logGroupName, readFamily, SLOTS } from "../names.ts";
import { destroyOf, servicesOf } from "./destroy.ts";

/** Revisions of a release that is kept which stay: it has more than one when its variables were changed between two deployments of it. */
const KEPT_REVISIONS = 2;
const DAY_MS = 86_400_000;

/**
 * Removes what no kept release needs: services that none of them has, with their secret; task definitions of other releases, and of old variables; log
 * streams whose lines have expired. What runs or stands by is never touched, whatever release it is of. One after the other with a pause, since a
 * deployment that begins meanwhile has the same rate to live on; it ends as soon as the place is changed.
 */
export async function tidyPlace(ground: Ground, place: Place, kept: Release[], signal: AbortSignal): Promise<void> {
  const begunAt = Date.now();
  const goesOn = () => !signal.aborted && ground.recall.changedAt(place) <= begunAt;
  const pause = () => sleep(ground.times.tidyGapMs, signal).catch(() => undefined);
  const { aws, install } = ground;
  const families = await findFamilies(aws, install, place);
  const wanted = new Set(kept.flatMap(({ services }) => services.map(({ name }) => name)));
  const { rules, services } = await servicesOf(ground, place, families);
  const idle = await idleAmong(
    ground,
    place,
    services.filter((name) => !wanted.has(name)),
  );
  if (idle.length > 0 && goesOn()) await destroyOf(ground, place, idle, rules, "keep");
  const numbers = new Set(kept.map(({ number }) => number));
  for (const family of families) {
    const release = readFamily(install, place, family)?.release;
    const keep = release !== undefined && numbers.has(release) ? KEPT_REVISIONS : 0;
    for (const revision of await uselessOf(ground, place, family, keep)) {
      if (!goesOn()) return;
      await deleteRevisions(aws, [revision], []);
      await pause();
    }
    // As a tidying leaves them that is killed between the two steps.
    if (keep === 0) await deleteRevisions(aws, [], await revisionsOf(aws, family, "INACTIVE"));
  }
  if (goesOn()) await forgetStreams(ground, place, goesOn);
}

/** Services of which nothing runs. */
async function idleAmong({ reader }: Ground, place: Place, services: string[]): Promise<string[]> {
  if (services.length === 0) return [];
  const slots = await reader.slotsOf(place, services);
  return services.filter((service) => SLOTS.every((name) => (slots.get(service)?.[name]?.desired ?? 0) === 0));
}

/** Revisions beyond the newest `keep` that no slot and no task refers to: one that is in use cannot be started again once it is deregistered. */
async function uselessOf(ground: Ground, place: Place, family: string, keep: number): Promise<string[]> {
  const { aws, reader, settings } = ground;
  const older = (await revisionsOf(aws, family, "ACTIVE")).slice(keep);
  if (older.length === 0) return [];
  // Tasks of a slot are known by it; one that runs a command, or is on its way out, only by itself.
  if (keep === 0 || family.endsWith("_run")) {
    const { taskArns } = await aws.ecs.listTasks({ cluster: settings.cluster, family });
    if ((taskArns ?? []).length > 0) return [];
  }
  const used = new Set(
    (await reader.views(place)).flatMap((view) =>
      SLOTS.flatMap((name) => {
        const slot = view.slots[name];
        return [slot?.primary, ...(slot?.draining ?? [])].flatMap((one) => one?.taskDefinition ?? []);
      }),
    ),
  );
  return older.filter((revision) => !used.has(revision));
}

/** CloudWatch forgets the lines after the retention, and keeps the empty streams: one a task, one a run. */
async function forgetStreams({ aws, install, settings }: Ground, place: Place, goesOn: () => boolean): Promise<void> {
  const group = logGroupName(install, place);
  const expiredAt = Date.now() - (settings.logRetentionDays + 1) * DAY_MS;
  let nextToken: string | undefined;
  do {
    const asked = aws.logs.describeLogStreams({ logGroupName: group, ...(nextToken && { nextToken }) });
    const page = await asked.catch(noneWithout("ResourceNotFound"));
    for (const { logStreamName, creationTime = 0, lastEventTimestamp = 0, lastIngestionTime = 0 } of page?.logStreams ??
      []) {
      if (Math.max(creationTime, lastEventTimestamp, lastIngestionTime) >= expiredAt) continue;
      if (!goesOn()) return;
      await aws.logs.deleteLogStream({ logGroupName: group, logStreamName }).catch(noneWithout("ResourceNotFound"));
    }
    nextToken = page?.nextToken;
  } while (nextToken && goesOn());
}
