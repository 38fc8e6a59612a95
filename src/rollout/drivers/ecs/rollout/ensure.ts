import type { RegisterTaskDefinitionCommandInput } from "@aws-sdk/client-ecs";
import { isAlreadyThere, isAws, isStillDraining, kindOf, noneWithout } from "../../../../aws/aws-errors.ts";
import { fail } from "../../../../shared/errors.ts";
import type { Secret } from "../../../../shared/secret.ts";
import { sleep } from "../../../../shared/until.ts";
import { healthDeadlineMs, type Place, type Release, type ReleaseService } from "../../../release.ts";
import type { EcsSettings } from "../../../runtime.ts";
import { findRule } from "../account/read-account.ts";
import { ALWAYS } from "../account/service-settings.ts";
import type { Rule, Slot } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { familyOf, hexHash, logGroupName, SLOTS, type SlotName, secretName, serviceName } from "../names.ts";
import {
  lowerTags,
  PRIORITY_TAG,
  RULE_TAG,
  readTags,
  requireOurs,
  SERVICE_TAG,
  SLOT_TAG,
  SPEC_TAG,
  type Tags,
  tagsFor,
  upperTags,
} from "../tags.ts";

/** One that is not ours is refused. Nothing is written where it is there as it should be. */
export async function ensureLogGroup(ground: Ground, place: Place): Promise<void> {
  const { aws, install, settings } = ground;
  const name = logGroupName(install, place);
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: name });
  const found = logGroups?.find((group) => group.logGroupName === name);
  if (found === undefined) {
    try {
      await aws.logs.createLogGroup({ logGroupName: name, tags: tagsFor(install, place) });
    } catch (error) {
      if (!isAws(error, "ResourceAlreadyExists")) throw error;
      return await lookAgain(() => ensureLogGroup(ground, place));
    }
  } else {
    const { tags } = await aws.logs.listTagsForResource({ resourceArn: (found.arn ?? "").replace(/:\*$/, "") });
    requireOurs(install, `The log group ${name}`, tags ?? {});
    if (found.retentionInDays === settings.logRetentionDays) return;
  }
  await aws.logs.putRetentionPolicy({ logGroupName: name, retentionInDays: settings.logRetentionDays });
}

/** At most 5 condition values a rule (Elastic Load Balancing, quotas for Application Load Balancers). */
const HOSTS_A_RULE = 5;
/** The team's own rules usually have the first numbers. */
const FIRST_PRIORITY = 1_000;
const LAST_PRIORITY = 50_000;
const FULL_WEIGHT = 100;

/**
 * The one rule that says who is live. It is made before any ECS service (a target group that no load balancer knows is refused there) and
 * leads to slot a, which is empty then: the first release starts in b and gets traffic by the same shift as any other.
 */
export async function ensureRule(
  ground: Ground,
  place: Place,
  service: ReleaseService,
  groups: Record<SlotName, string>,
): Promise<Rule> {
  const { aws, reader, install, settings } = ground;
  let isMade = false;
  for (;;) {
    const rules = await reader.listenerRules();
    const found = findRule(rules, install, place, service.name);
    if (found !== undefined) return found;
    if (isMade) {
      await sleep(RE_READ_MS);
      continue;
    }
    const taken = new Set(rules.map((rule) => rule.Priority));
    let priority = FIRST_PRIORITY;
    while (taken.has(String(priority)) && priority < LAST_PRIORITY) priority++;
    try {
      await aws.elb.createRule({
        ListenerArn: settings.listener,
        Priority: priority,
        Conditions: hostCondition(service),
        Actions: forwardTo(groups, "a"),
        Tags: upperTags(tagsFor(install, place, { [SERVICE_TAG]: service.name })),
      });
      // What follows reads it from the listener, which may not show it yet.
      isMade = true;
    } catch (error) {
      // Taken by somebody else in this moment, or made after all although the answer was lost: the next look tells.
      if (!isAws(error, "PriorityInUse") && kindOf(error) !== "transient") throw error;
      await sleep(RE_READ_MS);
    }
  }
}

const RE_READ_MS = 200;

/** Made in this moment, by an answer that was lost or by somebody else; or a while ago, and AWS does not show it yet. */
async function lookAgain<T>(look: () => Promise<T>): Promise<T> {
  await sleep(RE_READ_MS);
  return await look();
}

export const hostCondition = (service: ReleaseService) => [
  { Field: "host-header", HostHeaderConfig: { Values: service.hosts } },
];

export const forwardTo = (groups: Record<SlotName, string>, live: SlotName) => [
  {
    Type: "forward" as const,
    ForwardConfig: {
      TargetGroups: SLOTS.map((slot) => ({
        TargetGroupArn: groups[slot],
        Weight: slot === live ? FULL_WEIGHT : 0,
      })),
    },
  },
];

/** @throws SPEC_INVALID naming every service that Fargate or a load balancer cannot take as it is declared */
export function refuseUnfit(release: Release): void {
  const problems = release.services.flatMap((service) => [
    ...(service.hosts.length > HOSTS_A_RULE
      ? [`${service.name} has ${service.hosts.length} host names, and a rule of a load balancer takes ${HOSTS_A_RULE}`]
      : []),
    ...(service.hostPort !== undefined ? [`${service.name} declares hostPort, and Fargate has no host`] : []),
    ...(service.volumes.length > 0 ? [`${service.name} declares volumes, which do not outlive a Fargate task`] : []),
  ]);
  if (problems.length === 0) return;
  throw fail("SPEC_INVALID", {
    message: `r${release.number} cannot run on ECS: ${problems.join("; ")}.`,
    hint: "Change these services in shipway.yml, or leave the environment on `runtime: docker`.",
  });
}

/** Versions of one secret a service: its variables as JSON. A version that exists is found by its name, so a repetition writes nothing. */
export async function ensureSecret(
  { aws, install, fingerprint }: Ground,
  place: Place,
  service: string,
  variables: Record<string, Secret>,
): Promise<{ arn: string; versionId: string; keys: string[] } | undefined> {
  const keys = Object.keys(variables).sort();
  if (keys.length === 0) return undefined;
  const { text, versionId } = secretContent(fingerprint, variables);
  const arn = await ensureSecretVersion({ aws, install }, place, service, { text, versionId });
  return { arn, versionId, keys };
}

/** What a service's secret holds, and the name of that version of it. */
export function secretContent(fingerprint: Ground["fingerprint"], variables: Record<string, Secret>) {
  const keys = Object.keys(variables).sort();
  const text = JSON.stringify(Object.fromEntries(keys.map((key) => [key, variables[key]?.reveal() ?? ""])));
  return { keys, text, versionId: fingerprint(text).slice(0, 64) };
}

async function ensureSecretVersion(
  { aws, install }: Pick<Ground, "aws" | "install">,
  place: Place,
  service: string,
  { text, versionId }: { text: string; versionId: string },
): Promise<string> {
  const Name = secretName(install, place, service);
  const found = await aws.secrets.describeSecret({ SecretId: Name }).catch(noneWithout("ResourceNotFound"));
  if (found === undefined) {
    try {
      const Tags = upperTags(tagsFor(install, place, { [SERVICE_TAG]: service }));
      const made = { Name, SecretString: text, ClientRequestToken: versionId, Tags };
      return (await aws.secrets.createSecret(made)).ARN ?? "";
    } catch (error) {
      if (!isAws(error, "ResourceExists")) throw error;
      return await lookAgain(() => ensureSecretVersion({ aws, install }, place, service, { text, versionId }));
    }
  }
  requireOurs(install, `The secret ${Name}`, readTags(found.Tags));
  // An environment of that name was removed within the last days, and its secret waits for its end.
  if (found.DeletedDate !== undefined) await aws.secrets.restoreSecret({ SecretId: Name });
  // Versions that are not named there may still exist, and writing one again does nothing.
  if (found.VersionIdsToStages?.[versionId] === undefined)
    await aws.secrets.putSecretValue({ SecretId: Name, SecretString: text, ClientRequestToken: versionId });
  return found.ARN ?? "";
}

/** How many of the newest revisions are looked through for an equal one. */
const LOOK_BACK = 10;

/**
 * The revision that equals `definition`, registered when there is none. Every registration makes a new one and AWS allows one a second, so it
 * is looked for by its hash first, also after an answer that was lost.
 */
export async function ensureTaskDefinition(
  { aws, install }: Ground,
  definition: RegisterTaskDefinitionCommandInput,
): Promise<string> {
  const family = definition.family ?? "";
  const wanted = readTags(definition.tags)[SPEC_TAG];
  for (;;) {
    const { taskDefinitionArns } = await aws.ecs.listTaskDefinitions({
      familyPrefix: family,
      status: "ACTIVE",
      sort: "DESC",
      maxResults: LOOK_BACK,
    });
    for (const arn of newestOf(family, taskDefinitionArns ?? [])) {
      const { tags } = await aws.ecs.describeTaskDefinition({ taskDefinition: arn, include: ["TAGS"] });
      const seen = readTags(tags);
      requireOurs(install, `The task definition ${family}`, seen);
      if (seen[SPEC_TAG] === wanted) return arn;
    }
    try {
      const { taskDefinition } = await aws.ecs.registerTaskDefinition(definition);
      return taskDefinition?.taskDefinitionArn ?? "";
    } catch (error) {
      if (kindOf(error) !== "transient") throw error;
      await sleep(RE_READ_MS);
    }
  }
}

/** A prefix also matches longer families, and an emulator gives all revisions in any order. */
function newestOf(family: string, arns: string[]): string[] {
  const revisionOf = (arn: string) => Number(arn.split(":").at(-1));
  return arns
    .filter((arn) => familyOf(arn) === family)
    .sort((a, b) => revisionOf(b) - revisionOf(a))
    .slice(0, LOOK_BACK);
}

export type Wanted = {
  place: Place;
  service: ReleaseService;
  slot: SlotName;
  taskDefinition: string;
  targetGroup: string | undefined;
  /** The listener rule that leads to it. */
  rule: Pick<Rule, "arn" | "priority"> | undefined;
};

/** ECS waits this long for a service that is being removed before its name is free again. */
const DRAINING_MS = 10 * 60_000;
const DRAINING_LOOK_MS = 1_000;

/**
 * The slot's ECS service exists and has this task definition and count; what is equal already is left alone.
 * @returns false when it is there although it was not seen: whoever chose the slot did so without knowing what is in it
 */
export async function ensureService(ground: Ground, wanted: Wanted, seen: Slot | undefined): Promise<boolean> {
  const { reader, install } = ground;
  if (seen?.status === "ACTIVE") {
    await updateService(ground, wanted, seen);
    return true;
  }
  const endsAt = Date.now() + DRAINING_MS;
  for (;;) {
    try {
      await createService(ground, wanted);
      reader.addName(serviceName(install, wanted.place, wanted.service.name, wanted.slot));
      return true;
    } catch (error) {
      if (isAlreadyThere(error)) return false;
      if (!isStillDraining(error) || Date.now() >= endsAt) throw error;
      await sleep(DRAINING_LOOK_MS);
    }
  }
}

async function updateService(ground: Ground, wanted: Wanted, seen: Slot): Promise<void> {
  const { aws, settings } = ground;
  const { service, taskDefinition } = wanted;
  const isSame = seen.primary?.taskDefinition === taskDefinition;
  if (!isSame || seen.desired !== service.count) {
    await aws.ecs.updateService({
      cluster: settings.cluster,
      service: seen.serviceName,
      desiredCount: service.count,
      ...(isSame ? {} : { taskDefinition, ...changedWith(ground, wanted), ...movedCapacity(settings, service, seen) }),
    });
  }
  // Also what somebody took away.
  const tags = Object.entries(serviceTags(ground, wanted)).filter(([name, value]) => seen.tags[name] !== value);
  if (tags.length > 0) await aws.ecs.tagResource({ resourceArn: seen.arn, tags: lowerTags(Object.fromEntries(tags)) });
}

const serviceTags = ({ install }: Pick<Ground, "install">, { place, service, slot, rule }: Wanted): Tags => ({
  ...tagsFor(install, place, { [SERVICE_TAG]: service.name, [SLOT_TAG]: slot }),
  ...(rule !== undefined && { [RULE_TAG]: rule.arn, [PRIORITY_TAG]: rule.priority }),
});

/** Members of UpdateService that go with a new task definition. */
function changedWith({ settings }: Ground, { service, targetGroup }: Wanted) {
  return {
    ...ALWAYS,
    networkConfiguration: networkOf(settings),
    enableExecuteCommand: settings.exec,
    ...(targetGroup !== undefined && {
      loadBalancers: [{ targetGroupArn: targetGroup, containerName: service.name, containerPort: service.port }],
      healthCheckGracePeriodSeconds: graceS(service),
    }),
  };
}

/** What an ECS service is made with beside its tasks and their network. */
export const serviceMembers = (settings: EcsSettings, service: ReleaseService, targetGroup: string | undefined) => ({
  ...ALWAYS,
  ...capacityOf(settings, service),
  ...(targetGroup !== undefined && { healthCheckGracePeriodSeconds: graceS(service) }),
});

const capacityOf = ({ spot }: EcsSettings, service: ReleaseService) =>
  spot === true ? { capacityProviderStrategy: onSpot(service) } : { launchType: "FARGATE" as const };

/**
 * Spot for all tasks but the first, which stays on demand where there are several: AWS may take back all of Spot at once, and does not replace it by
 * tasks on demand (Amazon ECS developer guide, Fargate capacity providers).
 */
function onSpot({ count }: ReleaseService) {
  const spot = { capacityProvider: "FARGATE_SPOT", weight: 1 };
  return count > 1 ? [{ capacityProvider: "FARGATE", base: 1, weight: 0 }, spot] : [spot];
}

/** A slot that comes from the other kind of capacity. A service that has providers keeps having them: there is no way back to a launch type. */
function movedCapacity({ spot }: EcsSettings, service: ReleaseService, { hasProviders }: Slot) {
  if (spot !== true && !hasProviders) return {};
  const onDemand = [{ capacityProvider: "FARGATE", weight: 1 }];
  return { capacityProviderStrategy: spot === true ? onSpot(service) : onDemand, forceNewDeployment: true };
}

const graceS = (service: ReleaseService) => Math.ceil(healthDeadlineMs(service) / 1_000);

export const networkOf = ({ subnets, securityGroups, publicIp }: EcsSettings) => ({
  awsvpcConfiguration: {
    subnets,
    securityGroups,
    assignPublicIp: publicIp ? ("ENABLED" as const) : ("DISABLED" as const),
  },
});

async function createService(ground: Ground, wanted: Wanted): Promise<void> {
  const { aws, install, settings } = ground;
  const { place, service, slot, taskDefinition } = wanted;
  const name = serviceName(install, place, service.name, slot);
  await aws.ecs.createService({
    cluster: settings.cluster,
    serviceName: name,
    // At most 36 characters (Amazon ECS API, CreateService).
    clientToken: hexHash(`${name}/${taskDefinition}/${service.count}`, 32),
    taskDefinition,
    desiredCount: service.count,
    ...capacityOf(settings, service),
    platformVersion: "LATEST",
    ...changedWith(ground, wanted),
    tags: lowerTags(serviceTags(ground, wanted)),
  });
}
