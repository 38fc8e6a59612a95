import type { Rule } from "@aws-sdk/client-elastic-load-balancing-v2";
import type { Place } from "../../../release.ts";
import type { Ground } from "../ground.ts";
import { isOfPlace, readTags, SERVICE_TAG } from "../tags.ts";

/** One DescribeTags call takes at most 20 (Elastic Load Balancing API, DescribeTags, `ResourceArns`). */
const TAGS_A_CALL = 20;

/** Rules of the listener and target groups that carry the place's tags, whatever they lead to, and which service they are of. */
export async function taggedBehind(
  { aws, install }: Ground,
  place: Place,
  rules: Rule[],
): Promise<{ arn: string; service: string | undefined }[]> {
  const arns = rules.flatMap(({ RuleArn, IsDefault }) => (RuleArn === undefined || IsDefault ? [] : [RuleArn]));
  let Marker: string | undefined;
  do {
    const page = await aws.elb.describeTargetGroups({ PageSize: 400, ...(Marker && { Marker }) });
    const groups = (page.TargetGroups ?? []).map((one) => one.TargetGroupArn ?? "");
    arns.push(...groups.filter((arn) => arn.includes(":targetgroup/sw-")));
    Marker = page.NextMarker;
  } while (Marker);
  const found: { arn: string; service: string | undefined }[] = [];
  for (let at = 0; at < arns.length; at += TAGS_A_CALL) {
    const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: arns.slice(at, at + TAGS_A_CALL) });
    for (const { ResourceArn = "", Tags } of TagDescriptions ?? []) {
      const tags = readTags(Tags);
      if (isOfPlace(install, place, tags)) found.push({ arn: ResourceArn, service: tags[SERVICE_TAG] });
    }
  }
  return found;
}
