import { kindOf, noneWithout } from "../../../../aws/aws-errors.ts";
import { fail } from "../../../../shared/errors.ts";
import { sleep } from "../../../../shared/until.ts";
import type { Place } from "../../../release.ts";
import type { AwsClients } from "../aws-clients.ts";
import { revisionsOf } from "../families.ts";
import type { Ground } from "../ground.ts";
import { logGroupName } from "../names.ts";
import { isOfPlace, type Tags, tagsFor } from "../tags.ts";
import { type LeftKind, type LeftState, leftKinds } from "./left-kinds.ts";
import { taggedBehind } from "./tagged-behind.ts";

/** Something of ours that is not gone; `kind` is undefined for what only carries our tags. */
type Left = { arn: string; kind: LeftKind | undefined; state: LeftState };
type KnownLeft = Left & { kind: LeftKind };

/**
 * Looks for what is left of a place that was removed, removes what is ours, and waits for what is ending. `families` are its task definitions' before; with
 * `only`, what is called otherwise is passed over, and what is still ending counts as what stays.
 * @returns what is still there and is not removed, in sentences
 * @throws AWS_LEFTOVERS when something of ours stays although it was asked to go
 */
export async function sweepPlace(
  ground: Ground,
  place: Place,
  families: string[],
  only?: ReadonlySet<string>,
): Promise<string[]> {
  const { times } = ground;
  const remarks: string[] = [];
  const tagged = await findTagged(ground.aws, tagsFor(ground.install, place)).catch(withRemark(remarks));
  const found = await lookAt(ground.aws, [...tagged, ...(await findListed(ground, place, families, remarks))]);
  const left = found.filter(({ kind }) => only === undefined || (kind !== undefined && only.has(kind.called)));
  for (const { arn, kind } of left) {
    if (kind === undefined) remarks.push(`${arn} carries this environment's tags and is none of what Shipway makes.`);
  }
  const refused = new Map<string, unknown>();
  const endsAt = Date.now() + times.sweepMs;
  for (let open = left.filter(isKnown); open.length > 0; open = await stillThere(open)) {
    if (Date.now() >= endsAt && (only !== undefined || open.some(({ state }) => state === "there")))
      throw leftovers(place, open, refused);
    if (Date.now() >= endsAt) {
      return [...remarks, ...open.map(({ arn, kind }) => `The ${kind.called} ${arn} is still ending.`)];
    }
    for (const { arn, kind, state } of open) {
      if (state === "there") await kind.remove(arn).catch((error: unknown) => refused.set(arn, error));
    }
    await sleep(times.pollMs);
  }
  return remarks;
}

/** ARNs of everything in the Region that carries these tags and is not gone. */
export async function findLeft(aws: AwsClients, tags: Tags): Promise<string[]> {
  return (await lookAt(aws, await findTagged(aws, tags))).map(({ arn }) => arn);
}

async function stillThere(open: KnownLeft[]): Promise<KnownLeft[]> {
  const now = await Promise.all(open.map(async (one) => ({ ...one, state: await one.kind.state(one.arn) })));
  return now.filter(({ state }) => state !== "gone");
}

/**
 * What is really there of these, in the order it can be removed in. Each is asked for itself: tags are also found of things that were deleted
 * some time ago (https://github.com/aws/aws-sdk/issues/676 names listener rules among them).
 */
async function lookAt(aws: AwsClients, arns: string[]): Promise<Left[]> {
  const kinds = leftKinds(aws);
  // A log group's ARN is written with and without the `:*` that stands for its streams.
  const once = [...new Set(arns.map((arn) => arn.replace(/:\*$/, "")))];
  const seen = await Promise.all(
    once.map(async (arn): Promise<Left> => {
      const kind = kinds.find(({ pattern }) => pattern.test(arn));
      return { arn, kind, state: kind === undefined ? "there" : await kind.state(arn) };
    }),
  );
  const rank = ({ kind }: Left) => (kind === undefined ? kinds.length : kinds.indexOf(kind));
  return seen.filter(({ state }) => state !== "gone").sort((a, b) => rank(a) - rank(b));
}

async function findTagged({ tagging }: AwsClients, tags: Tags): Promise<string[]> {
  const TagFilters = Object.entries(tags).map(([Key, value]) => ({ Key, Values: [value] }));
  const found: string[] = [];
  let PaginationToken: string | undefined;
  do {
    const page = await tagging.getResources({ TagFilters, ...(PaginationToken && { PaginationToken }) });
    found.push(...(page.ResourceTagMappingList ?? []).flatMap(({ ResourceARN }) => ResourceARN ?? []));
    PaginationToken = page.PaginationToken;
  } while (PaginationToken);
  return found;
}

/** An older policy does not have it: the lists below are looked at all the same. */
function withRemark(remarks: string[]): (error: unknown) => string[] {
  return (error) => {
    if (kindOf(error) !== "denied" && kindOf(error) !== "gap") throw error;
    remarks.push(
      "AWS denied tag:GetResources, so only what Shipway makes today was looked for, not all that has its tags.",
    );
    return [];
  };
}

/** What the services themselves list: tags are found late, and not of every kind. */
async function findListed(ground: Ground, place: Place, families: string[], remarks: string[]): Promise<string[]> {
  const { aws, reader, install, settings } = ground;
  const { cluster } = settings;
  const rules = await reader.listenerRules().catch(noneWithout("ListenerNotFound"));
  const services = (await reader.underPrefix(place).catch(noneWithout("ClusterNotFound"))) ?? [];
  const ours = services.filter(({ tags }) => isOfPlace(install, place, tags));
  for (const { name } of services.filter((one) => !ours.includes(one))) {
    remarks.push(`The ECS service ${name} has a name such as Shipway gives, and was made by somebody else.`);
  }
  // Awaited at once: what fails while something else is waited for would be nobody's, and end the process.
  const ofFamilies = await Promise.all(
    families.map(async (family) => {
      const tasks = await aws.ecs.listTasks({ cluster, family }).catch(noneWithout("ClusterNotFound"));
      return [...(await revisionsOf(aws, family, "ACTIVE")), ...(tasks?.taskArns ?? [])];
    }),
  );
  const group = logGroupName(install, place);
  const { logGroups } = await aws.logs.describeLogGroups({ logGroupNamePrefix: group });
  return [
    ...(await taggedBehind(ground, place, rules ?? [])).map(({ arn }) => arn),
    ...ours.map(({ arn }) => arn),
    ...ofFamilies.flat(),
    ...(logGroups ?? []).flatMap(({ logGroupName: name, arn }) => (name === group ? (arn ?? []) : [])),
  ];
}

function isKnown(one: Left): one is KnownLeft {
  return one.kind !== undefined;
}

function leftovers({ app, environment }: Place, open: KnownLeft[], refused: Map<string, unknown>) {
  const named = open.map(({ arn, kind }) => {
    const error = refused.get(arn);
    return `the ${kind.called} ${arn}${error instanceof Error ? ` (${error.message})` : ""}`;
  });
  return fail("AWS_LEFTOVERS", {
    message: `Of ${environment} of ${app} something stays in AWS: ${named.join(", ")}.`,
    hint: "See who uses it, then try again: what is gone already is no error.",
    cause: [...refused.values()][0],
  });
}
