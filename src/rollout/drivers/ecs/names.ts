import { createHash } from "node:crypto";
import type { Place } from "../../release.ts";

/** A web service and a worker each have two: one works, the other is where the next release proves itself or the last one stands by. */
export type SlotName = "a" | "b";

export const SLOTS: readonly SlotName[] = ["a", "b"];

export const otherSlot = (slot: SlotName): SlotName => (slot === "a" ? "b" : "a");

/**
 * `_` joins the parts, since names of apps, environments and services may contain dashes: `a-b` in `c` must not meet `a` in `b-c`.
 * At most 255 of `A-Za-z0-9_-` (Amazon ECS API, CreateService, `serviceName`); three names of 30 with ours stay below 120.
 */
export const servicePrefix = (install: string, { app, environment }: Place): string =>
  `shipway-${install}_${app}_${environment}_`;

export const serviceName = (install: string, place: Place, service: string, slot: SlotName): string =>
  `${servicePrefix(install, place)}${service}_${slot}`;

export const familyName = (install: string, place: Place, service: string): string =>
  `${servicePrefix(install, place)}${service}`;

export const runFamilyName = (install: string, place: Place, service: string): string =>
  `${familyName(install, place, service)}_run`;

/** At most 32 letters, digits and dashes (Elastic Load Balancing API, CreateTargetGroup, `Name`): a hash, since the names do not fit. */
export const targetGroupName = (install: string, place: Place, service: string, slot: SlotName): string =>
  `sw-${hashName(`${install}/${place.app}/${place.environment}/${service}`)}-${slot}`;

/** `sw-HASH-a` of `arn:…:targetgroup/sw-HASH-a/0123456789abcdef`. */
export const targetGroupNameOf = (arn: string): string => arn.split(":targetgroup/")[1]?.split("/")[0] ?? "";

export const logGroupName = (install: string, { app, environment }: Place): string =>
  `/shipway/${install}/${app}/${environment}`;

/** awslogs makes it `PREFIX/CONTAINER/TASK-ID` (Amazon ECS developer guide, awslogs-stream-prefix); our prefix and container are the service. */
export const logStreamName = (prefix: string, container: string, taskArn: string): string =>
  `${prefix}/${container}/${taskIdOf(taskArn)}`;

/** A fixed word ends it: Secrets Manager takes a name that ends in a dash and six characters for one with its own suffix. */
export const secretName = (install: string, { app, environment }: Place, service: string): string =>
  `shipway/${install}/${app}/${environment}/${service}/variables`;

export const taskIdOf = (taskArn: string): string => taskArn.split("/").at(-1) ?? taskArn;

/** 16 of `a-z2-7`: 80 bits. */
function hashName(text: string): string {
  const digest = createHash("sha256").update(text).digest();
  return Array.from(digest.subarray(0, 16), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte % 32]).join("");
}

export const hexHash = (text: string, length = 64): string =>
  createHash("sha256").update(text).digest("hex").slice(0, length);
