import { type Place, type ReleaseService, servesTraffic } from "../../../release.ts";
import type { DesiredState } from "../../../target.ts";
import { type FoundDrift, type ServiceView, slotOf } from "../account/slots.ts";
import type { Ground } from "../ground.ts";
import { logGroupName, targetGroupName } from "../names.ts";
import { SERVICE_TAG, SLOT_TAG, tagsFor } from "../tags.ts";
import { imageDrift } from "./image-drift.ts";
import { type Attributes, differing, tagDrift } from "./service-drift.ts";
import {
  changedAttributes,
  findTargetGroups,
  groupSettings,
  healthSettings,
  MADE_WITH,
  tagsOf,
  type Wanted,
} from "./target-groups.ts";

type Found = Map<string, FoundDrift[]>;

/**
 * What differs of things that no walk reads: target groups, the log group, the tags of both and of the rule, repositories. For those who ask, since it costs
 * calls of its own: `DescribeTargetGroups` and `DescribeTags` for twenty groups and `DescribeTargetGroupAttributes` for each, two of the log group, one of ECR.
 */
export async function askedDrift(
  ground: Ground,
  place: Place,
  views: ServiceView[],
  { live }: DesiredState,
): Promise<Found> {
  const found: Found = new Map();
  const tell = (service: string, attributes: Attributes, remedy: string) => {
    if (attributes.length > 0) found.set(service, [...(found.get(service) ?? []), { attributes, remedy }]);
  };
  if (live === undefined) return found;
  const [first] = live.release.services;
  await Promise.all([
    lookAtGroups(ground, place, wantedGroups(ground, place, views, live.release), tell),
    imageDrift(ground, live.release.services, tell),
    // It is the environment's: told with its first service.
    first && lookAtLogs(ground, place, (attributes, remedy) => tell(first.name, attributes, remedy)),
  ]);
  return found;
}

type Tell = (service: string, attributes: Attributes, remedy: string) => void;
type Seen = Wanted & { rule: string | undefined };

function wantedGroups(
  { install }: Ground,
  place: Place,
  views: ServiceView[],
  release: { number: number; services: ReleaseService[] },
): Seen[] {
  return release.services.filter(servesTraffic).flatMap((service): Seen[] => {
    const view = views.find((one) => one.service === service.name);
    const slot = view && slotOf(view, release.number);
    if (slot === undefined) return [];
    const name = targetGroupName(install, place, service.name, slot.name);
    return [{ service, slot: slot.name, name, rule: view?.rule?.arn }];
  });
}

async function lookAtGroups({ aws, install }: Ground, place: Place, wanted: Seen[], tell: Tell): Promise<void> {
  const names = wanted.map(({ name }) => name);
  if (names.length === 0) return;
  const groups = await findTargetGroups(aws, names);
  const arns = [...groups.values()].map(({ TargetGroupArn = "" }) => TargetGroupArn);
  const tags = await tagsOf(aws, [...arns, ...wanted.flatMap(({ rule }) => rule ?? [])]);
  const deploy = nextDeployment(place);
  await Promise.all(
    wanted.map(async ({ service, slot, name, rule }) => {
      const own = { [SERVICE_TAG]: service.name };
      const ofRule = rule === undefined ? [] : tagDrift(tagsFor(install, place, own), tags.get(rule) ?? {});
      tell(service.name, inside("rule", ofRule), tagCommand("elbv2 add-tags --resource-arns", rule ?? "", ofRule));
      const group = groups.get(name);
      if (group === undefined) return;
      const arn = group.TargetGroupArn ?? "";
      tell(service.name, differing(healthSettings(service), groupSettings(group)), deploy);
      tell(service.name, differing(MADE_WITH, groupSettings(group)), MADE_ANEW);
      const ofGroup = tagDrift(tagsFor(install, place, { ...own, [SLOT_TAG]: slot }), tags.get(arn) ?? {});
      tell(service.name, inside("targetGroup", ofGroup), tagCommand("elbv2 add-tags --resource-arns", arn, ofGroup));
      const changed = await changedAttributes(aws, arn);
      const attributes = changed.flatMap(({ path, value, seen, text }) =>
        seen === undefined ? [] : [{ path, before: text(value), after: text(seen) }],
      );
      tell(service.name, attributes, deploy);
    }),
  );
}

/** Neither can be changed of a target group (Elastic Load Balancing API, ModifyTargetGroup). */
const MADE_ANEW =
  "AWS changes neither of a target group that is there, so somebody made it anew under its name: CloudTrail says who (event CreateTargetGroup).";

async function lookAtLogs(
  { aws, install, settings }: Ground,
  place: Place,
  tell: (attributes: Attributes, remedy: string) => void,
): Promise<void> {
  const name = logGroupName(install, place);
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: name });
  const group = logGroups?.find(({ logGroupName }) => logGroupName === name);
  const days = (value: number | undefined) => (value === undefined ? "for good" : `${value} days`);
  const [before, after] = [
    days(settings.logRetentionDays),
    group === undefined ? "(gone)" : days(group.retentionInDays),
  ];
  if (before !== after) tell([{ path: "logs.retention", before, after }], nextDeployment(place));
  if (group === undefined) return;
  const resourceArn = (group.arn ?? "").replace(/:\*$/, "");
  const { tags = {} } = await aws.logs.listTagsForResource({ resourceArn });
  const changed = tagDrift(tagsFor(install, place), tags);
  const pairs = changed.map(({ path, before: value }) => `${nameOf(path)}=${value}`);
  const command = `\`aws logs tag-resource --resource-arn ${resourceArn} --tags ${pairs.join(",")}\``;
  tell(inside("logs", changed), `${WITHOUT_TAGS}: ${command}`);
}

const WITHOUT_TAGS = "Without its tags it is nobody's, and a deployment refuses to touch it";

function tagCommand(command: string, arn: string, changed: Attributes): string {
  const pairs = changed.map(({ path, before }) => `Key=${nameOf(path)},Value=${before}`);
  return `${WITHOUT_TAGS}: \`aws ${command} ${arn} --tags ${pairs.join(" ")}\``;
}

/** `tags.shipway:app` → `shipway:app`. */
const nameOf = (path: string): string => path.slice("tags.".length);

const inside = (what: string, attributes: Attributes): Attributes =>
  attributes.map((one) => ({ ...one, path: `${what}.${one.path}` }));

const nextDeployment = ({ app, environment }: Place): string =>
  `The next deployment sets it as declared: \`shipway deploy --app ${app} --env ${environment}\`.`;
