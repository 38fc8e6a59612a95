import type { Place, Release, ReleaseService } from "../rollout/release.ts";
import type { AppSpec, EnvironmentSpec } from "../spec/app-spec.ts";
import { resolveEnvironment, withEnvironments } from "../spec/resolve-environment.ts";
import type { RecordedImage } from "../store/schema.ts";

/** A release as it is recorded: immutable, numbered per app. */
export type ReleaseRecord = {
  app: string;
  number: number;
  commit: string;
  refName: string;
  subject: string;
  author: string;
  createdAt: Date;
  spec: AppSpec;
  images: RecordedImage[];
};

/**
 * What a release is in one environment: a pure function of its record, so a rollback starts exactly what ran before. In an environment that was declared
 * after it was made, it runs as in any other; whether there is such an environment is judged where a deployment is asked for.
 */
export function resolveRelease(
  record: ReleaseRecord,
  environment: string,
): { release: Release; environmentSpec: EnvironmentSpec } {
  const byHand = { name: environment, branch: null, tag: null };
  const environmentSpec = resolveEnvironment(withEnvironments(record.spec, [byHand]), environment);
  const place = { app: record.app, environment };
  const services = Object.entries(environmentSpec.services).map(([name, spec]): ReleaseService => {
    const image = record.images.find((candidate) => candidate.service === name);
    if (!image) throw new Error(`release r${record.number} of ${record.app} has no image for ${name}`);
    return {
      name,
      image: image.reference ?? image.digest,
      ...(spec.command && { command: spec.command }),
      ...(spec.port !== undefined && { port: spec.port }),
      ...(spec.health && { health: spec.health }),
      cpu: spec.cpu,
      memoryMiB: spec.memory,
      count: spec.count,
      env: {
        ...spec.env,
        SHIPWAY_APP: record.app,
        SHIPWAY_ENVIRONMENT: environment,
        SHIPWAY_SERVICE: name,
        SHIPWAY_RELEASE: `r${record.number}`,
        SHIPWAY_COMMIT: record.commit,
      },
      secrets: spec.secrets,
      hosts: spec.port === undefined ? [] : hostsOf(place, name, spec.domains, environmentSpec),
      ...(environmentSpec.runtime === "ecs" && { scheme: environmentSpec.aws?.scheme ?? "https" }),
      ...(spec.release && { releaseCommand: spec.release }),
      stopTimeoutMs: spec.stopTimeout,
      ...(spec.hostPort !== undefined && { hostPort: spec.hostPort }),
      volumes: spec.volumes,
      acceptsDowntime: spec.downtime === "accept",
    };
  });
  return { release: { app: record.app, number: record.number, services }, environmentSpec };
}

/** Behind a load balancer names of this machine lead nowhere: there is the team's own domain, or what the service declares. */
function hostsOf(place: Place, service: string, domains: string[], { runtime, aws }: EnvironmentSpec): string[] {
  if (runtime === "docker") return [defaultHost(place, service), ...domains];
  // One label, since a certificate for `*.DOMAIN` covers no more.
  const own = aws?.domain === undefined ? [] : [`${service}-${place.environment}-${place.app}.${aws.domain}`];
  return domains.length + own.length > 0 ? [...domains, ...own] : [defaultHost(place, service)];
}

/** `SERVICE.ENV.APP.localhost`; every name below localhost is the loopback address (RFC 6761). */
function defaultHost(place: Place, service: string): string {
  return `${service}.${place.environment}.${place.app}.localhost`;
}

/** One address per service that a browser can open: its first domain, else the default host; in the order of shipway.yml. */
export function addressesOf(release: Release, httpPort: number): string[] {
  const port = httpPort === 80 ? "" : `:${httpPort}`;
  return release.services.flatMap(({ hosts: [byDefault, domain], scheme }) => {
    if (scheme !== undefined) return byDefault === undefined ? [] : [`${scheme}://${byDefault}`];
    const host = domain ?? byDefault;
    return host === undefined ? [] : [`http://${host}${port}`];
  });
}
