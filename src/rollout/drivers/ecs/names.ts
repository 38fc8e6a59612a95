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

/** A release's own family: an ECS service then says by its task definition's name which release it holds, with nothing more to ask. */
export const familyName = (install: string, place: Place, service: string, release: number): string =>
  `${servicePrefix(install, place)}${service}_r${release}`;

/** Of one-off tasks. */
export const runFamilyName = (install: string, place: Place, service: string, release: number): string =>
  `${familyName(install, place, service, release)}_run`;

/** The service and release of a family of this place, or of a revision of one; undefined when it is not named like ours. */
export function readFamily(
  install: string,
  place: Place,
  family: string,
): { service: string; release: number } | undefined {
  const prefix = servicePrefix(install, place);
  const [, service, release] = /^([a-z0-9-]+)_r(\d+)(?:_run)?$/.exec(family.slice(prefix.length)) ?? [];
  if (!family.startsWith(prefix) || service === undefined) return undefined;
  return { service, release: Number(release) };
}

/** `FAMILY` of `arn:…:task-definition/FAMILY:12`. */
export const familyOf = (taskDefinition: string): string => taskDefinition.split("/").at(-1)?.split(":")[0] ?? "";

/**
 * At most 32 letters, digits and dashes (Elastic Load Balancing API, CreateTargetGroup, `Name`): hashes, since the names do not fit. The place's comes
 * first, so that all rules of a place are known by the groups that they lead to.
 */
export const targetGroupName = (install: string, place: Place, service: string, slot: SlotName): string =>
  `${targetGroupPrefix(install, place)}${hashName(service)}-${slot}`;

export const targetGroupPrefix = (install: string, { app, environment }: Place): string =>
  `sw-${hashName(`${install}/${app}/${environment}`)}-`;

/** `sw-HASH-a` of `arn:…:targetgroup/sw-HASH-a/0123456789abcdef`. */
export const targetGroupNameOf = (arn: string): string => arn.split(":targetgroup/")[1]?.split("/")[0] ?? "";

export const logGroupName = (install: string, { app, environment }: Place): string =>
  `/shipway/${install}/${app}/${environment}`;

/** awslogs makes it `PREFIX/CONTAINER/TASK-ID` (Amazon ECS developer guide, awslogs-stream-prefix); our container is the service. */
export const logStreamName = (prefix: string, service: string, taskArn: string): string =>
  `${prefix}/${service}/${taskIdOf(taskArn)}`;

/** The release comes first, so that one prefix finds all that it prints. */
export const logPrefix = (release: number): string => `r${release}`;

/**
 * The task that a log stream is of: `r7/web/3fa9…` → `APP.ENV.web.r7-3fa9c1d2`. Tasks come and go behind a number, so here they have the beginning of ECS's own id,
 * which stays. Undefined for streams of runs and journals.
 */
export function taskOfStream({ app, environment }: Place, stream: string): string | undefined {
  const [, release, service, id] = /^(r\d+)\/([^/]+)\/([^/]{8})/.exec(stream) ?? [];
  return id === undefined ? undefined : `${app}.${environment}.${service}.${release}-${id}`;
}

/** A fixed word ends it: Secrets Manager takes a name that ends in a dash and six characters for one with its own suffix. */
export const secretName = (install: string, { app, environment }: Place, service: string): string =>
  `shipway/${install}/${app}/${environment}/${service}/variables`;

export const taskIdOf = (taskArn: string): string => taskArn.split("/").at(-1) ?? taskArn;

/** 13 of `a-z2-7`: 65 bits. */
function hashName(text: string): string {
  const digest = createHash("sha256").update(text).digest();
  return Array.from(digest.subarray(0, 13), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte % 32]).join("");
}

export const hexHash = (text: string, length = 64): string =>
  createHash("sha256").update(text).digest("hex").slice(0, length);
