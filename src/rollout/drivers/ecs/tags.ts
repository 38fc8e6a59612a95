import { INSTALL_TAG, type Tags } from "../../../aws/tags.ts";
import type { Place } from "../../release.ts";

export { lowerTags, readTags, requireOurs, type Tags, upperTags } from "../../../aws/tags.ts";

export const RELEASE_TAG = "shipway:release";
export const SERVICE_TAG = "shipway:service";
export const SLOT_TAG = "shipway:slot";
export const SPEC_TAG = "shipway:spec";
export const RUN_TAG = "shipway:run";
/** ARN of the listener rule that leads to the slot, so that traffic can be given to it without looking for the rule. */
export const RULE_TAG = "shipway:rule";
/** The number that its listener rule was given: nobody else remembers it. */
export const PRIORITY_TAG = "shipway:priority";
/** `live-r7` or `standby-r6`: what a slot is used for, valid for that release only, so it is never stale. */
export const ROLE_TAG = "shipway:role";

/** Tags set when a thing is made, never after: between the two calls it would be nobody's. */
export function tagsFor(install: string, place: Place, more: Tags = {}): Tags {
  return { [INSTALL_TAG]: install, "shipway:app": place.app, "shipway:environment": place.environment, ...more };
}

export function isOfPlace(install: string, place: Place, tags: Tags): boolean {
  return Object.entries(tagsFor(install, place)).every(([key, value]) => tags[key] === value);
}
