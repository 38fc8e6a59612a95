import { fail } from "../shared/errors.ts";
import type { HealthCheck } from "../spec/app-spec.ts";

/** Where an app runs. */
export type Place = { app: string; environment: string };

/** Everything needed to start a service's tasks again, years later: part of the immutable release record (plain JSON). */
export type ReleaseService = {
  name: string;
  /** Content id or digest reference. */
  image: string;
  command?: string[];
  port?: number;
  health?: HealthCheck;
  /** Fargate CPU units: 1024 is one core. */
  cpu: number;
  memoryMiB: number;
  count: number;
  env: Record<string, string>;
  /** Names of secrets; their values are handed over when tasks start. */
  secrets: string[];
  /** Host names from outside, the default `SERVICE.ENV.APP.localhost` included. Empty without a port. */
  hosts: string[];
  /** How those are spoken to where a load balancer answers at its own port; undefined where Shipway's router does. */
  scheme?: "http" | "https";
  releaseCommand?: string[];
  stopTimeoutMs: number;
  hostPort?: number;
  /** `NAME:/path`, one writer. */
  volumes: string[];
  acceptsDowntime: boolean;
};

export type Release = {
  app: string;
  number: number;
  services: ReleaseService[];
};

/** @throws REQUEST_INVALID naming the services there are */
export function requireService(release: Release, name: string): ReleaseService {
  const service = release.services.find((one) => one.name === name);
  if (service !== undefined) return service;
  throw fail("REQUEST_INVALID", {
    message: `r${release.number} has no service ${name}.`,
    hint: `Its services are ${release.services.map((one) => one.name).join(", ")}.`,
  });
}

/** `APP.ENV.SERVICE.rN-I`, I from 1. With dots, since each name may contain dashes: `a-b` in `c` must not meet `a` in `b-c`. */
export function taskName(place: Place, service: string, release: number, index: number): string {
  return `${place.app}.${place.environment}.${service}.r${release}-${index}`;
}

/** A service gets traffic through the router exactly when it has a port. */
export function servesTraffic(service: ReleaseService): boolean {
  return service.port !== undefined;
}

/** Two tasks of such a service cannot run side by side (a host port or a volume has one owner), so replacing it interrupts it. */
export function needsDowntime(service: ReleaseService): boolean {
  return service.hostPort !== undefined || service.volumes.length > 0;
}

/** The names of all tasks of a service, in order. */
export function taskNames(place: Place, release: number, service: ReleaseService): string[] {
  return Array.from({ length: service.count }, (_, index) => taskName(place, service.name, release, index + 1));
}

/** For services that declare no `grace`. A JVM or Rails application on a quarter of a core boots in about a minute. */
const HEALTH_DEADLINE_MS = 120_000;

/** How long the tasks of a service may take to become healthy. */
export function healthDeadlineMs(service: ReleaseService): number {
  const grace = service.health?.grace;
  if (grace === undefined) return HEALTH_DEADLINE_MS;
  // Without a probe, `grace` is how long the task must stay up: waiting starts after it.
  const isProbed = servesTraffic(service) || service.health?.command !== undefined;
  return isProbed ? grace : grace + HEALTH_DEADLINE_MS;
}
