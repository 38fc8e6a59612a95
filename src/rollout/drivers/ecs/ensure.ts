import type { RegisterTaskDefinitionCommandInput } from "@aws-sdk/client-ecs";
import { isAlreadyThere, isAws, isStillDraining, kindOf } from "../../../aws/aws-errors.ts";
import { fail } from "../../../shared/errors.ts";
import type { Secret } from "../../../shared/secret.ts";
import { sleep } from "../../../shared/until.ts";
import { healthDeadlineMs, type Place, type Release, type ReleaseService } from "../../release.ts";
import type { EcsSettings } from "../../runtime.ts";
import type { Ground } from "./ground.ts";
import {
  familyOf,
  hexHash,
  logGroupName,
  SLOTS,
  type SlotName,
  secretName,
  serviceName,
  targetGroupName,
} from "./names.ts";
import { findRule } from "./read-account.ts";
import type { Rule, Slot } from "./slots.ts";
import {
  lowerTags,
  RULE_TAG,
  readTags,
  requireOurs,
  SERVICE_TAG,
  SLOT_TAG,
  SPEC_TAG,
  type Tags,
  tagsFor,
  upperTags,
} from "./tags.ts";
import { targetCheckOf } from "./task-definition.ts";

/** A group that is there twice is no error; one that is not ours is. */
export async function ensureLogGroup({ aws, install, settings }: Ground, place: Place): Promise<void> {
  const name = logGroupName(install, place);
  try {
    await aws.logs.createLogGroup({ logGroupName: name, tags: tagsFor(install, place) });
  } catch (error) {
    if (!isAws(error, "ResourceAlreadyExists")) throw error;
    const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: name });
    const found = logGroups?.find((group) => group.logGroupName === name);
    const arn = (found?.arn ?? "").replace(/:\*$/, "");
    const { tags } = await aws.logs.listTagsForResource({ resourceArn: arn });
    requireOurs(install, `The log group ${name}`, tags ?? {});
    if (found?.retentionInDays === settings.logRetentionDays) return;
  }
  await aws.logs.putRetentionPolicy({ logGroupName: name, retentionInDays: settings.logRetentionDays });
}

/** Both target groups of a web service, with the check as this release declares it. @returns their ARNs */
export async function ensureTargetGroups(
  ground: Ground,
  place: Place,
  service: ReleaseService,
  vpcId: string,
): Promise<Record<SlotName, string>> {
  const [a, b] = await Promise.all(SLOTS.map((slot) => ensureTargetGroup(ground, place, service, slot, vpcId)));
  return { a: a ?? "", b: b ?? "" };
}

async function ensureTargetGroup(
  { aws, install }: Ground,
  place: Place,
  service: ReleaseService,
  slot: SlotName,
  vpcId: string,
): Promise<string> {
  const Name = targetGroupName(install, place, service.name, slot);
  const check = targetCheckOf(service);
  const health = {
    HealthCheckPath: check.path,
    HealthCheckIntervalSeconds: check.intervalS,
    HealthCheckTimeoutSeconds: check.timeoutS,
    HealthyThresholdCount: check.healthy,
    UnhealthyThresholdCount: check.unhealthy,
    Matcher: { HttpCode: check.matcher },
  };
  const found = await aws.elb.describeTargetGroups({ Names: [Name] }).then(
    ({ TargetGroups }) => TargetGroups?.[0],
    (error: unknown) => {
      if (isAws(error, "TargetGroupNotFound")) return undefined;
      throw error;
    },
  );
  if (found !== undefined) {
    const arn = found.TargetGroupArn ?? "";
    const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: [arn] });
    requireOurs(install, `The target group ${Name}`, readTags(TagDescriptions?.[0]?.Tags));
    const isSame =
      found.HealthCheckPath === health.HealthCheckPath &&
      found.HealthCheckIntervalSeconds === health.HealthCheckIntervalSeconds &&
      found.HealthCheckTimeoutSeconds === health.HealthCheckTimeoutSeconds &&
      found.HealthyThresholdCount === health.HealthyThresholdCount &&
      found.UnhealthyThresholdCount === health.UnhealthyThresholdCount &&
      found.Matcher?.HttpCode === check.matcher;
    if (!isSame) await aws.elb.modifyTargetGroup({ TargetGroupArn: arn, ...health });
    return arn;
  }
  const { TargetGroups } = await aws.elb
    .createTargetGroup({
      Name,
      TargetType: "ip",
      Protocol: "HTTP",
      // Only a default: ECS registers each task with its own port.
      Port: 80,
      VpcId: vpcId,
      HealthCheckProtocol: "HTTP",
      ...health,
      Tags: upperTags(tagsFor(install, place, { [SERVICE_TAG]: service.name, [SLOT_TAG]: slot })),
    })
    .catch(async (error: unknown) => {
      // An answer that was lost, or another control plane.
      if (isAws(error, "DuplicateTargetGroupName")) return await aws.elb.describeTargetGroups({ Names: [Name] });
      throw error;
    });
  const arn = TargetGroups?.[0]?.TargetGroupArn ?? "";
  await aws.elb.modifyTargetGroupAttributes({
    TargetGroupArn: arn,
    Attributes: [{ Key: "deregistration_delay.timeout_seconds", Value: String(DEREGISTRATION_DELAY_S) }],
  });
  return arn;
}

/** Requests in flight have this long when their task is ended; the default of 300 s would keep each old task for five minutes. */
const DEREGISTRATION_DELAY_S = 30;
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
  for (;;) {
    const rules = await reader.listenerRules();
    const found = findRule(rules, install, place, service.name);
    if (found !== undefined) return found;
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
    } catch (error) {
      // Taken by somebody else in this moment, or made after all although the answer was lost: the next look tells.
      if (!isAws(error, "PriorityInUse") && kindOf(error) !== "transient") throw error;
      await sleep(RE_READ_MS);
    }
  }
}

const RE_READ_MS = 200;

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
  const text = JSON.stringify(Object.fromEntries(keys.map((key) => [key, variables[key]?.reveal() ?? ""])));
  const versionId = fingerprint(text).slice(0, 64);
  const Name = secretName(install, place, service);
  try {
    const { ARN } = await aws.secrets.createSecret({
      Name,
      SecretString: text,
      ClientRequestToken: versionId,
      Tags: upperTags(tagsFor(install, place, { [SERVICE_TAG]: service })),
    });
    return { arn: ARN ?? "", versionId, keys };
  } catch (error) {
    // InvalidRequest: an environment of that name was removed within the last days, and its secret waits for its end.
    if (!isAws(error, "ResourceExists", "InvalidRequest")) throw error;
  }
  const { ARN, Tags, DeletedDate } = await aws.secrets.describeSecret({ SecretId: Name });
  requireOurs(install, `The secret ${Name}`, readTags(Tags));
  if (DeletedDate !== undefined) await aws.secrets.restoreSecret({ SecretId: Name });
  await aws.secrets.putSecretValue({ SecretId: Name, SecretString: text, ClientRequestToken: versionId });
  return { arn: ARN ?? "", versionId, keys };
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
  /** ARN of the listener rule that leads to it. */
  rule: string | undefined;
};

/** ECS waits this long for a service that is being removed before its name is free again. */
const DRAINING_MS = 10 * 60_000;
const DRAINING_LOOK_MS = 1_000;

/** The slot's ECS service exists and has this task definition and count; what is equal already is left alone. */
export async function ensureService(ground: Ground, wanted: Wanted, seen: Slot | undefined): Promise<void> {
  const { aws, reader, settings } = ground;
  const { service, taskDefinition } = wanted;
  if (seen?.status === "ACTIVE") {
    if (seen.primary?.taskDefinition === taskDefinition && seen.desired === service.count) return;
    await aws.ecs.updateService({
      cluster: settings.cluster,
      service: seen.serviceName,
      desiredCount: service.count,
      ...(seen.primary?.taskDefinition === taskDefinition
        ? {}
        : { taskDefinition, ...changedWith(ground, wanted), ...movedCapacity(settings, service, seen) }),
    });
    if (wanted.rule !== undefined && wanted.rule !== seen.rule)
      await aws.ecs.tagResource({ resourceArn: seen.arn, tags: lowerTags(ruleTag(wanted.rule)) });
    return;
  }
  const endsAt = Date.now() + DRAINING_MS;
  for (;;) {
    try {
      await createService(ground, wanted);
      reader.addName(serviceName(ground.install, wanted.place, service.name, wanted.slot));
      return;
    } catch (error) {
      if (isAlreadyThere(error)) {
        // Made in this moment by an answer that was lost, or by somebody else: it is ours or it is refused.
        reader.addName(serviceName(ground.install, wanted.place, service.name, wanted.slot));
        const found = (await reader.slotsOf(wanted.place, [service.name])).get(service.name)?.[wanted.slot];
        if (found !== undefined) return await ensureService(ground, wanted, found);
      } else if (!isStillDraining(error)) throw error;
      if (Date.now() >= endsAt) throw error;
      await sleep(DRAINING_LOOK_MS);
    }
  }
}

const ruleTag = (rule: string | undefined): Tags => (rule === undefined ? {} : { [RULE_TAG]: rule });

/** Members of UpdateService that go with a new task definition. */
function changedWith({ settings }: Ground, { service, targetGroup }: Wanted) {
  return {
    networkConfiguration: networkOf(settings),
    enableExecuteCommand: settings.exec,
    ...(targetGroup !== undefined && {
      loadBalancers: [{ targetGroupArn: targetGroup, containerName: service.name, containerPort: service.port }],
      healthCheckGracePeriodSeconds: graceS(service),
    }),
  };
}

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
  const { place, service, slot, taskDefinition, rule } = wanted;
  const name = serviceName(install, place, service.name, slot);
  await aws.ecs.createService({
    cluster: settings.cluster,
    serviceName: name,
    // At most 36 characters (Amazon ECS API, CreateService).
    clientToken: hexHash(`${name}/${taskDefinition}/${service.count}`, 32),
    taskDefinition,
    desiredCount: service.count,
    ...(settings.spot === true ? { capacityProviderStrategy: onSpot(service) } : { launchType: "FARGATE" as const }),
    platformVersion: "LATEST",
    ...changedWith(ground, wanted),
    deploymentConfiguration: {
      minimumHealthyPercent: 100,
      maximumPercent: 200,
      // It stops starting what cannot start. It must not roll back: a slot that quietly holds the wrong release would look healthy.
      deploymentCircuitBreaker: { enable: true, rollback: false },
    },
    availabilityZoneRebalancing: "ENABLED",
    enableECSManagedTags: true,
    propagateTags: "SERVICE",
    tags: lowerTags(tagsFor(install, place, { [SERVICE_TAG]: service.name, [SLOT_TAG]: slot, ...ruleTag(rule) })),
  });
}
