import type { Rule } from "@aws-sdk/client-elastic-load-balancing-v2";
import { noneWithout } from "../../../../aws/aws-errors.ts";
import type { Place } from "../../../release.ts";
import type { KeptData } from "../../../target.ts";
import { findRule } from "../account/read-account.ts";
import { deleteRevisions, findFamilies, revisionsOf } from "../families.ts";
import type { Ground } from "../ground.ts";
import { logGroupName, readFamily, SLOTS, secretName, targetGroupName } from "../names.ts";
import { readTags, requireOurs } from "../tags.ts";
import { RECOVERY_DAYS, RUNNING } from "./left-kinds.ts";
import { sweepPlace } from "./sweep.ts";
import { taggedBehind } from "./tagged-behind.ts";

/**
 * Removes everything that was made for the place, in the order that AWS allows: rules, services, target groups, one-off tasks, task
 * definitions, secrets, logs; then looks whether anything is left. What is gone is no error, so it can be called again after any crash, and also when
 * Terraform has removed listener and cluster before. The images stay: they belong to the app.
 * @returns what is still there and is not ours to remove, in sentences
 */
export async function destroyPlace(ground: Ground, place: Place, data: KeptData): Promise<string[]> {
  const { aws, install } = ground;
  const families = await findFamilies(aws, install, place);
  const { rules, services } = await servicesOf(ground, place, families);
  await destroyOf(ground, place, services, rules, data);
  for (const family of families) await destroyFamily(ground, family);
  await destroyLogs(ground, place);
  return await sweepPlace(ground, place, families);
}

/**
 * Takes away what runs and what carries traffic, and waits until it is gone. Secrets, logs, images and task definitions stay: a later start finds them, and
 * nothing beneath the place is held by them.
 */
export async function haltPlace(ground: Ground, place: Place): Promise<void> {
  const families = await findFamilies(ground.aws, ground.install, place);
  const { rules, services } = await servicesOf(ground, place, families);
  await destroyTraffic(ground, place, services, rules);
  for (const family of families) await stopTasks(ground, family, "the environment is stopped");
  await sweepPlace(ground, place, families, RUNNING);
}

/** Services that anything was ever made for, by their task definitions and by what is behind the listener. */
export async function servicesOf(
  ground: Ground,
  place: Place,
  families: string[],
): Promise<{ services: string[]; rules: Rule[] }> {
  const rules = (await ground.reader.listenerRules().catch(noneWithout("ListenerNotFound"))) ?? [];
  const behind = (await taggedBehind(ground, place, rules)).flatMap(({ service }) => service ?? []);
  const ofFamilies = families.flatMap((family) => readFamily(ground.install, place, family)?.service ?? []);
  return { services: [...new Set([...ofFamilies, ...behind])], rules };
}

/** Removes rules, ECS services, target groups and secrets of these services of a place. */
export async function destroyOf(
  ground: Ground,
  place: Place,
  services: string[],
  rules: Rule[],
  data: KeptData,
): Promise<void> {
  await destroyTraffic(ground, place, services, rules);
  for (const service of services) await destroySecret(ground, secretName(ground.install, place, service), data);
}

async function destroyTraffic(ground: Ground, place: Place, services: string[], rules: Rule[]): Promise<void> {
  await destroyRules(ground, place, services, rules);
  await destroyServices(ground, place, services);
  for (const service of services)
    for (const name of SLOTS) await destroyTargetGroup(ground, targetGroupName(ground.install, place, service, name));
}

async function destroyRules({ aws, install }: Ground, place: Place, services: string[], rules: Rule[]): Promise<void> {
  for (const service of services) {
    const rule = findRule(rules, install, place, service);
    if (rule !== undefined) await aws.elb.deleteRule({ RuleArn: rule.arn }).catch(noneWithout("RuleNotFound"));
  }
}

async function destroyServices({ aws, reader, settings }: Ground, place: Place, services: string[]): Promise<void> {
  const { cluster } = settings;
  const found = (await reader.slotsOf(place, services).catch(noneWithout("ClusterNotFound"))) ?? new Map();
  for (const slots of found.values()) {
    for (const name of SLOTS) {
      const slot = slots[name];
      if (slot?.status !== "ACTIVE") continue;
      await aws.ecs
        .deleteService({ cluster, service: slot.serviceName, force: true })
        .catch(noneWithout("ServiceNotFound", "ServiceNotActive"));
    }
  }
}

async function destroyTargetGroup({ aws, install }: Ground, Name: string): Promise<void> {
  const found = await aws.elb.describeTargetGroups({ Names: [Name] }).catch(noneWithout("TargetGroupNotFound"));
  const arn = found?.TargetGroups?.[0]?.TargetGroupArn;
  if (arn === undefined) return;
  const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: [arn] });
  requireOurs(install, `The target group ${Name}`, readTags(TagDescriptions?.[0]?.Tags));
  // In use by a rule that is gone since a moment ago, or by somebody else's: the sweep tries again, and names it.
  await aws.elb.deleteTargetGroup({ TargetGroupArn: arn }).catch(noneWithout("TargetGroupNotFound", "ResourceInUse"));
}

async function destroySecret({ aws, install }: Ground, SecretId: string, data: KeptData): Promise<void> {
  const found = await aws.secrets.describeSecret({ SecretId }).catch(noneWithout("ResourceNotFound"));
  if (found === undefined || found.DeletedDate !== undefined) return;
  requireOurs(install, `The secret ${SecretId}`, readTags(found.Tags));
  const until = data === "keep" ? { RecoveryWindowInDays: RECOVERY_DAYS } : { ForceDeleteWithoutRecovery: true };
  await aws.secrets.deleteSecret({ SecretId, ...until }).catch(noneWithout("ResourceNotFound"));
}

async function stopTasks({ aws, settings }: Ground, family: string, why: string): Promise<void> {
  const { cluster } = settings;
  const running = await aws.ecs.listTasks({ cluster, family }).catch(noneWithout("ClusterNotFound"));
  for (const task of running?.taskArns ?? []) await aws.ecs.stopTask({ cluster, task, reason: `Shipway: ${why}` });
}

async function destroyFamily(ground: Ground, family: string): Promise<void> {
  const { aws } = ground;
  await stopTasks(ground, family, "the environment is removed");
  await deleteRevisions(aws, await revisionsOf(aws, family, "ACTIVE"), await revisionsOf(aws, family, "INACTIVE"));
}

async function destroyLogs({ aws, install }: Ground, place: Place): Promise<void> {
  const name = logGroupName(install, place);
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: name });
  const found = logGroups?.find((group) => group.logGroupName === name);
  if (found === undefined) return;
  const { tags } = await aws.logs.listTagsForResource({ resourceArn: (found.arn ?? "").replace(/:\*$/, "") });
  requireOurs(install, `The log group ${name}`, tags ?? {});
  await aws.logs.deleteLogGroup({ logGroupName: name }).catch(noneWithout("ResourceNotFound"));
}
