import type { CreateTargetGroupCommandInput, TargetGroup } from "@aws-sdk/client-elastic-load-balancing-v2";
import { isAws, noneWithout } from "../../../../aws/aws-errors.ts";
import { sleep } from "../../../../shared/until.ts";
import type { Place, ReleaseService } from "../../../release.ts";
import type { AwsClients } from "../aws-clients.ts";
import type { Ground } from "../ground.ts";
import { SLOTS, type SlotName, targetGroupName } from "../names.ts";
import { readTags, requireOurs, SERVICE_TAG, SLOT_TAG, type Tags, tagsFor, upperTags } from "../tags.ts";
import { targetCheckOf } from "./task-definition.ts";

/** Requests in flight have this long when their task is ended; the default of 300 s would keep each old task for five minutes. */
const DEREGISTRATION_DELAY_S = 30;
const DELAY_ATTRIBUTE = "deregistration_delay.timeout_seconds";
/** Attributes of a group as they are to be: what is set, and what AWS's default is and the way traffic moves rests on. */
const ATTRIBUTES = [
  {
    path: "targetGroup.deregistrationDelay",
    key: DELAY_ATTRIBUTE,
    value: String(DEREGISTRATION_DELAY_S),
    text: (value: string) => `${value} s`,
  },
  {
    path: "targetGroup.stickiness",
    key: "stickiness.enabled",
    value: "false",
    text: (value: string) => (value === "true" ? "on" : "off"),
  },
];
/** What a group is made with and keeps. The port is only a default: ECS registers each task with its own. */
const KIND = { TargetType: "ip", Protocol: "HTTP", Port: 80, HealthCheckProtocol: "HTTP" } as const;
/** One DescribeTags call takes at most 20 (Elastic Load Balancing API, DescribeTags, `ResourceArns`). */
const GROUPS_A_CALL = 20;

export type Wanted = { service: ReleaseService; slot: SlotName; name: string };

/** Both target groups of each of these web services, with the check as this release declares it. @returns their ARNs by service */
export async function ensureTargetGroups(
  ground: Ground,
  place: Place,
  services: ReleaseService[],
  vpcId: () => Promise<string>,
): Promise<Map<string, Record<SlotName, string>>> {
  const { aws, install } = ground;
  const wanted = services.flatMap((service) =>
    SLOTS.map((slot) => ({ service, slot, name: targetGroupName(install, place, service.name, slot) })),
  );
  const found = await findTargetGroups(
    aws,
    wanted.map(({ name }) => name),
  );
  const tags = await tagsOf(aws, arnsOf([...found.values()]));
  for (const [name, group] of found)
    requireOurs(install, `The target group ${name}`, tags.get(group.TargetGroupArn ?? "") ?? {});
  const arns = await Promise.all(
    wanted.map(async (one) => {
      const group = found.get(one.name);
      const arn =
        group === undefined ? await create(ground, place, one, await vpcId()) : await adjust(ground, one, group);
      return [one.name, arn] as const;
    }),
  );
  const byName = new Map(arns);
  const arnOf = (service: string, slot: SlotName) => byName.get(targetGroupName(install, place, service, slot)) ?? "";
  return new Map(services.map(({ name }) => [name, { a: arnOf(name, "a"), b: arnOf(name, "b") }]));
}

/** Those that are there, by name. One that is not there makes AWS answer for none, so then each is asked for by itself. */
export async function findTargetGroups(
  { elb }: Pick<AwsClients, "elb">,
  names: string[],
): Promise<Map<string, TargetGroup>> {
  const found: TargetGroup[] = [];
  for (let from = 0; from < names.length; from += GROUPS_A_CALL) {
    const Names = names.slice(from, from + GROUPS_A_CALL);
    const page = await elb.describeTargetGroups({ Names }).catch(noneWithout("TargetGroupNotFound"));
    if (page !== undefined) found.push(...(page.TargetGroups ?? []));
    else if (Names.length > 1)
      for (const name of Names) found.push(...(await findTargetGroups({ elb }, [name])).values());
  }
  return new Map(found.map((group) => [group.TargetGroupName ?? "", group]));
}

const arnsOf = (groups: TargetGroup[]): string[] => groups.flatMap(({ TargetGroupArn }) => TargetGroupArn ?? []);

/** Of target groups and rules. */
export async function tagsOf({ elb }: Pick<AwsClients, "elb">, arns: string[]): Promise<Map<string, Tags>> {
  const tags = new Map<string, Tags>();
  for (let from = 0; from < arns.length; from += GROUPS_A_CALL) {
    const { TagDescriptions } = await elb.describeTags({ ResourceArns: arns.slice(from, from + GROUPS_A_CALL) });
    for (const { ResourceArn = "", Tags } of TagDescriptions ?? []) tags.set(ResourceArn, readTags(Tags));
  }
  return tags;
}

/** What the check of a target group of this service is. */
function healthOf(service: ReleaseService) {
  const check = targetCheckOf(service);
  return {
    HealthCheckPath: check.path,
    HealthCheckIntervalSeconds: check.intervalS,
    HealthCheckTimeoutSeconds: check.timeoutS,
    HealthyThresholdCount: check.healthy,
    UnhealthyThresholdCount: check.unhealthy,
    Matcher: { HttpCode: check.matcher },
  };
}

/** As text by path, in the words of `health` in shipway.yml. */
export function groupSettings(group: TargetGroup): Record<string, string> {
  const seconds = (value: number | undefined) => (value === undefined ? undefined : `${value} s`);
  const settings = {
    "health.path": group.HealthCheckPath,
    "health.codes": group.Matcher?.HttpCode,
    "health.interval": seconds(group.HealthCheckIntervalSeconds),
    "health.timeout": seconds(group.HealthCheckTimeoutSeconds),
    "health.healthy": group.HealthyThresholdCount?.toString(),
    "health.unhealthy": group.UnhealthyThresholdCount?.toString(),
    "targetGroup.type": group.TargetType,
    "targetGroup.protocol": group.Protocol,
    "targetGroup.port": group.Port?.toString(),
    "targetGroup.checkProtocol": group.HealthCheckProtocol,
  };
  return Object.fromEntries(Object.entries(settings).filter((one): one is [string, string] => one[1] !== undefined));
}

export const healthSettings = (service: ReleaseService) => groupSettings(healthOf(service));
export const MADE_WITH = groupSettings(KIND);

async function adjust({ aws }: Ground, { service }: Wanted, group: TargetGroup): Promise<string> {
  const arn = group.TargetGroupArn ?? "";
  const { Matcher, ...health } = healthOf(service);
  const isSame =
    Object.entries(health).every(([key, value]) => group[key as keyof typeof health] === value) &&
    group.Matcher?.HttpCode === Matcher.HttpCode;
  if (!isSame) await aws.elb.modifyTargetGroup({ TargetGroupArn: arn, ...health, Matcher });
  return arn;
}

async function create(ground: Ground, place: Place, wanted: Wanted, vpcId: string): Promise<string> {
  const { aws, install } = ground;
  const { service, slot, name } = wanted;
  const input: CreateTargetGroupCommandInput = {
    Name: name,
    ...KIND,
    VpcId: vpcId,
    ...healthOf(service),
    Tags: upperTags(tagsFor(install, place, { [SERVICE_TAG]: service.name, [SLOT_TAG]: slot })),
  };
  try {
    const { TargetGroups } = await aws.elb.createTargetGroup(input);
    const arn = TargetGroups?.[0]?.TargetGroupArn ?? "";
    await setAttributes(aws, arn, ATTRIBUTES);
    return arn;
  } catch (error) {
    if (!isAws(error, "DuplicateTargetGroupName")) throw error;
  }
  // Made by an answer that was lost or by another control plane, and AWS may not show it yet.
  return await adjust(ground, wanted, await untilFound(ground, name));
}

async function untilFound({ aws, install, times }: Ground, name: string): Promise<TargetGroup> {
  const endsAt = Date.now() + times.readBackMs;
  for (;;) {
    const group = (await findTargetGroups(aws, [name])).get(name);
    if (group !== undefined) {
      const tags = await tagsOf(aws, arnsOf([group]));
      requireOurs(install, `The target group ${name}`, tags.get(group.TargetGroupArn ?? "") ?? {});
      return group;
    }
    if (Date.now() >= endsAt) throw new Error(`AWS says that the target group ${name} is there, and does not show it`);
    await sleep(LOOK_AGAIN_MS);
  }
}

const LOOK_AGAIN_MS = 300;

/** Attributes of a group that differ from those it is to have; one call a group, AWS has none for several (Elastic Load Balancing API). */
export async function changedAttributes({ elb }: Pick<AwsClients, "elb">, TargetGroupArn: string) {
  const { Attributes = [] } = await elb.describeTargetGroupAttributes({ TargetGroupArn });
  const seen = new Map(Attributes.map(({ Key, Value }) => [Key, Value]));
  return ATTRIBUTES.filter(({ key, value }) => seen.get(key) !== value).map((one) => ({
    ...one,
    seen: seen.get(one.key),
  }));
}

/** Before a release starts behind it: it may have been made by a process that came no further, or somebody changed it since. */
export async function ensureAttributes({ aws }: Pick<Ground, "aws">, targetGroup: string): Promise<void> {
  const changed = await changedAttributes(aws, targetGroup);
  if (changed.length > 0) await setAttributes(aws, targetGroup, changed);
}

async function setAttributes(
  { elb }: Pick<AwsClients, "elb">,
  TargetGroupArn: string,
  wanted: Pick<(typeof ATTRIBUTES)[number], "key" | "value">[],
): Promise<void> {
  const Attributes = wanted.map(({ key, value }) => ({ Key: key, Value: value }));
  await elb.modifyTargetGroupAttributes({ TargetGroupArn, Attributes });
}
