import { createHash } from "node:crypto";
import type Docker from "dockerode";
import type { Place, Release, ReleaseService } from "../../release.ts";
import type { TaskVariables } from "../../target.ts";
import { LABEL, placeLabels, prefixed, type Role, volumeName } from "./names.ts";

/**
 * What ordinary images need of root's powers, and no more (Docker's default set has 14): images that start as root to hand a
 * directory to the user they then become (nginx, redis, mariadb, postgres) need the first five; a port below 1024 the sixth;
 * a process manager that ends its children under another user the last. Left out are, among others, NET_RAW, MKNOD, SETFCAP, SYS_CHROOT.
 */
const CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "NET_BIND_SERVICE", "KILL"];
/** Far above what a JVM with a thread per request uses; a fork bomb ends here instead of taking the machine along. */
const PIDS_LIMIT = 4_096;
/** Docker keeps this much output of a task: enough for `docker logs` by hand, the real log store is ours. */
const LOG_CONFIG = { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } };

export type Attachment = { network: string; address?: string; aliases?: string[] };

/** Hosts a task resolves itself: every service with a port is the router's address, so calls between services survive a rollout too. */
function extraHosts(release: Release, routerAddress: string): string[] {
  return release.services
    .filter((service) => service.port !== undefined)
    .map((service) => `${service.name}:${routerAddress}`);
}

export function taskOptions(task: {
  instance: string;
  place: Place;
  release: Release;
  service: ReleaseService;
  name: string;
  variables: TaskVariables;
  routerAddress: string;
  attachment: Attachment;
}): Docker.ContainerCreateOptions {
  const { instance, place, release, service, name } = task;
  const port = service.port === undefined ? undefined : `${service.port}/tcp`;
  const publish =
    port !== undefined && service.hostPort !== undefined ? { [port]: [{ HostPort: `${service.hostPort}` }] } : {};
  const options: Docker.ContainerCreateOptions = {
    name: prefixed(instance, name),
    Image: service.image,
    ...(service.command ? { Cmd: service.command } : {}),
    Env: environment(place, release, service, task.variables, { SHIPWAY_TASK: name }),
    ...(port === undefined ? {} : { ExposedPorts: { [port]: {} } }),
    StopTimeout: Math.ceil(service.stopTimeoutMs / 1_000),
    NetworkingConfig: networking(task.attachment),
    HostConfig: {
      ...confinement(service),
      RestartPolicy: { Name: "unless-stopped" },
      ExtraHosts: extraHosts(release, task.routerAddress),
      PortBindings: publish,
      Mounts: volumesOf(service).map(({ name: volume, path }) => ({
        Type: "volume" as const,
        Source: volumeName(instance, place, volume),
        Target: path,
        VolumeOptions: {
          NoCopy: false,
          Labels: placeLabels(instance, place),
          DriverConfig: { Name: "local", Options: {} },
        },
      })),
    },
  };
  return { ...options, Labels: labelsOf(task, "task", { [LABEL.task]: name, [LABEL.spec]: hashOptions(options) }) };
}

/**
 * Tells whether a container was made from these options, by this way of making them: a later Shipway may confine tasks otherwise, and those that run are
 * not drift. Left out are names and addresses, which differ from task to task, and the values of variables: a hash of a secret is a thing to guess it by,
 * and labels travel into metrics.
 */
export function hashOptions(options: Docker.ContainerCreateOptions): string {
  const { name: _name, Labels: _labels, NetworkingConfig: _networking, Env, HostConfig, ...rest } = options;
  const variables = (Env ?? []).map((one) => one.slice(0, one.indexOf("="))).sort();
  const hosts = (HostConfig?.ExtraHosts as string[] | undefined)?.map((one) => one.slice(0, one.indexOf(":")));
  return createHash("sha256")
    .update(JSON.stringify([rest, variables, { ...HostConfig, ExtraHosts: hosts }]))
    .digest("hex")
    .slice(0, 16);
}

export function oneOffOptions(run: {
  instance: string;
  place: Place;
  release: Release;
  service: ReleaseService;
  name: string;
  key: string;
  command: string[];
  variables: TaskVariables;
  routerAddress: string;
  network: string;
  role: Role;
}): Docker.ContainerCreateOptions {
  const { instance, place, release, service } = run;
  return {
    name: prefixed(instance, run.name),
    Image: service.image,
    Cmd: run.command,
    Env: environment(place, release, service, run.variables, {}),
    Labels: labelsOf(run, run.role, { [LABEL.run]: run.key }),
    StopTimeout: Math.ceil(service.stopTimeoutMs / 1_000),
    NetworkingConfig: networking({ network: run.network }),
    HostConfig: {
      ...confinement(service),
      RestartPolicy: { Name: "no" },
      ExtraHosts: extraHosts(release, run.routerAddress),
    },
  };
}

/** What holds for every container that runs a user's program. */
export function confinement(size: { cpu: number; memoryMiB: number }): Docker.HostConfig {
  const memory = size.memoryMiB * 1024 * 1024;
  return {
    Memory: memory,
    // The same number means no swap: a task that needs more is ended and says so, rather than being slow for everybody.
    MemorySwap: memory,
    // A share, as ECS gives it on its own instances: what is declared is guaranteed when others want the processor too, and what
    // nobody wants may be used. A hard cap at the default quarter of a core would make every start four times as long.
    CpuShares: size.cpu,
    PidsLimit: PIDS_LIMIT,
    CapDrop: ["ALL"],
    CapAdd: CAPABILITIES,
    SecurityOpt: ["no-new-privileges"],
    LogConfig: LOG_CONFIG,
  };
}

export function networking(attachment: Attachment): { EndpointsConfig: Docker.EndpointsConfig } {
  const { network, address, aliases } = attachment;
  return {
    EndpointsConfig: {
      [network]: {
        ...(address === undefined ? {} : { IPAMConfig: { IPv4Address: address } }),
        ...(aliases === undefined ? {} : { Aliases: aliases }),
      },
    },
  };
}

/** `NAME:/path` as written in shipway.yml. */
function volumesOf(service: ReleaseService): { name: string; path: string }[] {
  return service.volumes.map((volume) => {
    const colon = volume.indexOf(":");
    return { name: volume.slice(0, colon), path: volume.slice(colon + 1) };
  });
}

/** Variables of the environment win over the release's own, secrets (backing services' and outputs among them) over both. */
function environment(
  place: Place,
  release: Release,
  service: ReleaseService,
  variables: TaskVariables,
  more: Record<string, string>,
): string[] {
  const secrets = Object.entries(variables.secrets).map(([name, secret]) => [name, secret.reveal()]);
  const all: Record<string, string> = {
    ...(service.port === undefined ? {} : { PORT: String(service.port) }),
    SHIPWAY_APP: place.app,
    SHIPWAY_ENVIRONMENT: place.environment,
    SHIPWAY_SERVICE: service.name,
    SHIPWAY_RELEASE: `r${release.number}`,
    ...more,
    ...service.env,
    ...variables.env,
    ...Object.fromEntries(secrets),
  };
  return Object.entries(all).map(([name, value]) => `${name}=${value}`);
}

function labelsOf(
  what: { instance: string; place: Place; release: Release; service: ReleaseService },
  role: Role,
  more: Record<string, string>,
): Record<string, string> {
  return {
    ...placeLabels(what.instance, what.place),
    [LABEL.service]: what.service.name,
    [LABEL.release]: String(what.release.number),
    [LABEL.role]: role,
    ...more,
  };
}
