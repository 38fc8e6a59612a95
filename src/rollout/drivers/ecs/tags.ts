import { fail } from "../../../shared/errors.ts";
import type { Place } from "../../release.ts";

/** What our things are found and recognised by. `shipway:install` says whose it is; a name never does. */
export type Tags = Record<string, string>;

const INSTALL_TAG = "shipway:install";
export const RELEASE_TAG = "shipway:release";
export const SERVICE_TAG = "shipway:service";
export const SLOT_TAG = "shipway:slot";
export const SPEC_TAG = "shipway:spec";
export const RUN_TAG = "shipway:run";
/** ARN of the listener rule that leads to the slot, so that traffic can be given to it without looking for the rule. */
export const RULE_TAG = "shipway:rule";
/** `live-r7` or `standby-r6`: what a slot is used for, valid for that release only, so it is never stale. */
export const ROLE_TAG = "shipway:role";

/** Tags set when a thing is made, never after: between the two calls it would be nobody's. */
export function tagsFor(install: string, place: Place, more: Tags = {}): Tags {
  return { [INSTALL_TAG]: install, "shipway:app": place.app, "shipway:environment": place.environment, ...more };
}

export function isOfPlace(install: string, place: Place, tags: Tags): boolean {
  return Object.entries(tagsFor(install, place)).every(([key, value]) => tags[key] === value);
}

/** As ECS and CloudWatch Logs (`lower`) or ELB, ECR and Secrets Manager (`upper`) want them. */
export const lowerTags = (tags: Tags) => Object.entries(tags).map(([key, value]) => ({ key, value }));
export const upperTags = (tags: Tags) => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

/** Either form back. */
export function readTags(
  list:
    | { key?: string | undefined; value?: string | undefined; Key?: string | undefined; Value?: string | undefined }[]
    | undefined,
): Tags {
  return Object.fromEntries((list ?? []).map((one) => [one.key ?? one.Key ?? "", one.value ?? one.Value ?? ""]));
}

/** @throws AWS_NAME_TAKEN when the thing was not made by this installation: it is never adopted */
export function requireOurs(install: string, what: string, tags: Tags): void {
  const owner = tags[INSTALL_TAG];
  if (owner === install) return;
  throw fail("AWS_NAME_TAKEN", {
    message: `${what} exists already and ${owner === undefined ? "was not made by Shipway" : `belongs to the Shipway installation ${owner}`}; it was left as it is.`,
    hint: "Remove or rename it in the AWS account, or give this environment another cluster and listener.",
  });
}
