import type { Rule } from "@aws-sdk/client-elastic-load-balancing-v2";
import { isAws } from "../../../aws/aws-errors.ts";
import type { Place } from "../../release.ts";
import type { Ground } from "./ground.ts";
import { familyOf, logGroupName, readFamily, SLOTS, secretName, servicePrefix, targetGroupName } from "./names.ts";
import { findRule } from "./read-account.ts";
import { isOfPlace, readTags, requireOurs, SERVICE_TAG } from "./tags.ts";

/** One DeleteTaskDefinitions call takes at most 10 (Amazon ECS API reference, DeleteTaskDefinitions). */
const DEFINITIONS_A_CALL = 10;
/** How long a deleted secret can be brought back (Secrets Manager: 7 to 30 days). */
const RECOVERY_DAYS = 7;

/**
 * Removes everything that was made for the place, in the order that AWS allows: rules, services, target groups, one-off tasks, task
 * definitions, secrets, logs. What is gone is no error, so it can be called again after any crash. The images stay: they belong to the app.
 */
export async function destroyPlace(ground: Ground, place: Place): Promise<void> {
  const { aws, reader, install, settings } = ground;
  const { cluster } = settings;
  const families = await findFamilies(ground, place);
  const rules = await reader.listenerRules();
  const services = [
    ...new Set([
      ...families.flatMap((family) => readFamily(install, place, family)?.service ?? []),
      ...(await taggedServices(ground, place, rules)),
    ]),
  ];
  for (const service of services) {
    const rule = findRule(rules, install, place, service);
    if (rule !== undefined) await unless(["RuleNotFound"], aws.elb.deleteRule({ RuleArn: rule.arn }));
  }
  for (const [service, slots] of await reader.slotsOf(place, services)) {
    for (const name of SLOTS) {
      const slot = slots[name];
      if (slot?.status !== "ACTIVE") continue;
      await unless(
        ["ServiceNotFound", "ServiceNotActive"],
        aws.ecs.deleteService({ cluster, service: slot.serviceName, force: true }),
      );
    }
    for (const name of SLOTS) await destroyTargetGroup(ground, targetGroupName(install, place, service, name));
    await destroySecret(ground, secretName(install, place, service));
  }
  for (const family of families) await destroyFamily(ground, family);
  await destroyLogs(ground, place);
}

/** One DescribeTags call takes at most 20 (Elastic Load Balancing API, DescribeTags, `ResourceArns`). */
const TAGS_A_CALL = 20;

/** Services of which a preparation that was cut off left a rule or target groups, and nothing else yet. */
async function taggedServices({ aws, install }: Ground, place: Place, rules: Rule[]): Promise<string[]> {
  const arns = rules.flatMap(({ RuleArn, IsDefault }) => (RuleArn === undefined || IsDefault ? [] : [RuleArn]));
  let Marker: string | undefined;
  do {
    const page = await aws.elb.describeTargetGroups({ PageSize: 400, ...(Marker && { Marker }) });
    arns.push(
      ...(page.TargetGroups ?? []).flatMap(({ TargetGroupArn: arn = "" }) =>
        arn.includes(":targetgroup/sw-") ? [arn] : [],
      ),
    );
    Marker = page.NextMarker;
  } while (Marker);
  const services: string[] = [];
  for (let at = 0; at < arns.length; at += TAGS_A_CALL) {
    const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: arns.slice(at, at + TAGS_A_CALL) });
    for (const { Tags } of TagDescriptions ?? []) {
      const tags = readTags(Tags);
      const service = tags[SERVICE_TAG];
      if (service !== undefined && isOfPlace(install, place, tags)) services.push(service);
    }
  }
  return services;
}

/** Task definitions are made before the services and removed last, so they say what else there may be. */
async function findFamilies({ aws, install }: Ground, place: Place): Promise<string[]> {
  const families: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await aws.ecs.listTaskDefinitionFamilies({
      familyPrefix: servicePrefix(install, place),
      status: "ACTIVE",
      ...(nextToken && { nextToken }),
    });
    families.push(...(page.families ?? []).filter((family) => readFamily(install, place, family) !== undefined));
    nextToken = page.nextToken;
  } while (nextToken);
  return families;
}

async function destroyTargetGroup({ aws, install }: Ground, Name: string): Promise<void> {
  const found = await unless(["TargetGroupNotFound"], aws.elb.describeTargetGroups({ Names: [Name] }));
  const arn = found?.TargetGroups?.[0]?.TargetGroupArn;
  if (arn === undefined) return;
  const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: [arn] });
  requireOurs(install, `The target group ${Name}`, readTags(TagDescriptions?.[0]?.Tags));
  await unless(["TargetGroupNotFound"], aws.elb.deleteTargetGroup({ TargetGroupArn: arn }));
}

async function destroySecret({ aws, install }: Ground, SecretId: string): Promise<void> {
  const found = await unless(["ResourceNotFound"], aws.secrets.describeSecret({ SecretId }));
  if (found === undefined || found.DeletedDate !== undefined) return;
  requireOurs(install, `The secret ${SecretId}`, readTags(found.Tags));
  await unless(["ResourceNotFound"], aws.secrets.deleteSecret({ SecretId, RecoveryWindowInDays: RECOVERY_DAYS }));
}

async function destroyFamily({ aws, settings }: Ground, family: string): Promise<void> {
  const { taskArns } = await aws.ecs.listTasks({ cluster: settings.cluster, family });
  for (const task of taskArns ?? []) {
    await aws.ecs.stopTask({ cluster: settings.cluster, task, reason: "Shipway: the environment is removed" });
  }
  const revisions: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await aws.ecs.listTaskDefinitions({
      familyPrefix: family,
      status: "ACTIVE",
      ...(nextToken && { nextToken }),
    });
    revisions.push(...(page.taskDefinitionArns ?? []).filter((arn) => familyOf(arn) === family));
    nextToken = page.nextToken;
  } while (nextToken);
  for (const taskDefinition of revisions) await aws.ecs.deregisterTaskDefinition({ taskDefinition });
  for (let at = 0; at < revisions.length; at += DEFINITIONS_A_CALL) {
    await aws.ecs.deleteTaskDefinitions({ taskDefinitions: revisions.slice(at, at + DEFINITIONS_A_CALL) });
  }
}

async function destroyLogs({ aws, install }: Ground, place: Place): Promise<void> {
  const name = logGroupName(install, place);
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: name });
  const found = logGroups?.find((group) => group.logGroupName === name);
  if (found === undefined) return;
  const { tags } = await aws.logs.listTagsForResource({ resourceArn: (found.arn ?? "").replace(/:\*$/, "") });
  requireOurs(install, `The log group ${name}`, tags ?? {});
  await unless(["ResourceNotFound"], aws.logs.deleteLogGroup({ logGroupName: name }));
}

/** Undefined when AWS says one of these: the thing is gone already. */
async function unless<T>(names: string[], asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isAws(error, ...names)) return undefined;
    throw error;
  }
}
