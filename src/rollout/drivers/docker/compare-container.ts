import type Docker from "dockerode";
import type { TaskDrift } from "../../target.ts";

type Attribute = TaskDrift["attributes"][number];

/** What of an image's settings a container has where its own options are silent. */
export type ImageSettings = {
  Env?: string[] | null;
  Cmd?: string[] | null;
  Entrypoint?: string | string[] | null;
  User?: string;
  WorkingDir?: string;
  Volumes?: Record<string, object> | null;
};

export type Declared = {
  options: Docker.ContainerCreateOptions;
  /** The only network it should be in, and the names it should have there. */
  network: string;
  aliases: string[];
  /** Paths that other things are mounted at by those who made it, beside `HostConfig.Mounts`. */
  mountedAt: string[];
  /** Variables whose values may be shown: neither secret nor handed over. Undefined: variables are not compared. */
  plainVariables: ReadonlySet<string> | undefined;
  /** Variables that may be declared anew while it runs. */
  movingVariables: ReadonlySet<string>;
};

export type Difference = {
  /** Changed by hand. */
  changed: Attribute[];
  /** Declared otherwise since it was made. */
  outdated: Attribute[];
};

const HIDDEN = "(hidden)";
const NOT_SET = "(not set)";

/**
 * How a container differs from what Shipway would make. Pure. `isAsMade`: its label says that it was made from these very options; only then the settings
 * count that Shipway itself chooses (capabilities, process limit, …), since an older Shipway may have chosen others.
 */
export function compareContainer(
  declared: Declared,
  info: Docker.ContainerInspectInfo,
  image: ImageSettings | undefined,
  isAsMade: boolean,
): Difference {
  const { options } = declared;
  const variables = compareVariables(declared, info, image, isAsMade);
  return {
    changed: [
      ...differ("image", options.Image, info.Config.Image),
      ...compareProgram(options, info, image),
      ...compareLimits(options.HostConfig ?? {}, info.HostConfig),
      ...compareNetworks(declared, info),
      ...variables.changed,
      ...(isAsMade ? compareConfinement(declared, info, image) : []),
    ],
    outdated: variables.outdated,
  };
}

function compareProgram(
  options: Docker.ContainerCreateOptions,
  { Config }: Docker.ContainerInspectInfo,
  image: ImageSettings | undefined,
): Attribute[] {
  // An image that was removed by force says nothing any more.
  if (image === undefined) return options.Cmd === undefined ? [] : differ("command", options.Cmd, Config.Cmd);
  return [
    ...differ("command", options.Cmd ?? image.Cmd ?? [], Config.Cmd ?? []),
    ...differ("entrypoint", image.Entrypoint ?? [], Config.Entrypoint ?? []),
    ...differ("user", image.User ?? "", Config.User),
    ...differ("working directory", image.WorkingDir ?? "", Config.WorkingDir),
  ];
}

/** What `docker update` can change. Where the kernel cannot limit something, the engine says nothing or 0, and for swap -1: that is no drift. */
function compareLimits(wanted: Docker.HostConfig, actual: Docker.HostConfig): Attribute[] {
  const limit = (
    path: string,
    before: number | undefined,
    after: number | undefined,
    show: (value: number) => string,
  ) => (before === undefined || !after || before === after ? [] : [{ path, before: show(before), after: show(after) }]);
  const unset = (path: string, after: number | string | undefined) =>
    after ? [{ path, before: NOT_SET, after: String(after) }] : [];
  return [
    ...limit("memory", wanted.Memory, actual.Memory, showBytes),
    ...(actual.MemorySwap === -1 ? [] : limit("memory and swap", wanted.MemorySwap, actual.MemorySwap, showBytes)),
    ...limit("cpu shares", wanted.CpuShares, actual.CpuShares, String),
    ...unset("cpus", actual.NanoCpus === undefined ? undefined : actual.NanoCpus / 1e9),
    ...unset("cpu quota", actual.CpuQuota),
    ...unset("cpuset", actual.CpusetCpus),
    ...differ("restart policy", wanted.RestartPolicy?.Name, actual.RestartPolicy?.Name),
    ...differ("privileged", false, actual.Privileged ?? false),
  ];
}

/** Of a container that does not run the engine shows the networks it will be in. */
function compareNetworks(
  { network, aliases }: Declared,
  { NetworkSettings }: Docker.ContainerInspectInfo,
): Attribute[] {
  const endpoints = NetworkSettings.Networks as Record<string, { Aliases?: string[] | null } | undefined>;
  const own = endpoints[network];
  const lost = own === undefined ? [] : aliases.filter((alias) => !own.Aliases?.includes(alias));
  return [
    ...(own === undefined ? [{ path: `network ${network}`, before: "attached", after: "not attached" }] : []),
    ...lost.map((alias) => ({ path: `name ${alias} in ${network}`, before: "set", after: NOT_SET })),
    ...Object.keys(endpoints)
      .filter((name) => name !== network)
      .map((name) => ({ path: `network ${name}`, before: "not attached", after: "attached" })),
  ];
}

function compareVariables(
  { options, plainVariables, movingVariables }: Declared,
  { Config }: Docker.ContainerInspectInfo,
  image: ImageSettings | undefined,
  isAsMade: boolean,
): Difference {
  if (plainVariables === undefined) return { changed: [], outdated: [] };
  const [wanted, actual, inImage] = [options.Env, Config.Env, image?.Env].map(toMap);
  const difference: Difference = { changed: [], outdated: [] };
  const names = new Set([...(wanted?.keys() ?? []), ...(actual?.keys() ?? [])]);
  for (const name of [...names].sort()) {
    const [before, after] = [wanted?.get(name), actual?.get(name)];
    if (before === after) continue;
    if (before === undefined && (image === undefined || inImage?.get(name) === after)) continue;
    const show = (value: string | undefined) =>
      value === undefined ? NOT_SET : plainVariables.has(name) ? cut(JSON.stringify(value)) : HIDDEN;
    // A variable that came or went with what is declared leaves another label behind; without that, somebody did it by hand.
    const isMoving = before !== undefined && after !== undefined ? movingVariables.has(name) : !isAsMade;
    difference[isMoving ? "outdated" : "changed"].push({
      path: `env.${name}`,
      before: show(before),
      after: show(after),
    });
  }
  return difference;
}

function compareConfinement(
  declared: Declared,
  info: Docker.ContainerInspectInfo,
  image: ImageSettings | undefined,
): Attribute[] {
  const { options, mountedAt } = declared;
  const [wanted, actual] = [options.HostConfig ?? {}, info.HostConfig];
  const mounts = [...mountedAt, ...(wanted.Mounts ?? []).map(({ Target }) => Target)];
  const ofImage = new Set(Object.keys(image?.Volumes ?? {}));
  const mounted = info.Mounts.map(({ Destination }) => Destination).filter(
    (path) => mounts.includes(path) || !ofImage.has(path),
  );
  const { StopTimeout } = info.Config as { StopTimeout?: number };
  return [
    ...(actual.PidsLimit === null ? [] : differ("process limit", wanted.PidsLimit, actual.PidsLimit)),
    ...differ("added capabilities", capabilities(wanted.CapAdd), capabilities(actual.CapAdd)),
    ...differ("dropped capabilities", capabilities(wanted.CapDrop), capabilities(actual.CapDrop)),
    ...differ("security options", wanted.SecurityOpt ?? [], actual.SecurityOpt ?? []),
    ...differ("mounts", mounts.sort(), mounted.sort()),
    ...differ("published ports", ports(wanted.PortBindings), ports(actual.PortBindings)),
    ...(options.StopTimeout === undefined ? [] : differ("stop timeout", options.StopTimeout, StopTimeout)),
  ];
}

function differ(path: string, before: unknown, after: unknown): Attribute[] {
  const [left, right] = [show(before), show(after)];
  return left === right ? [] : [{ path, before: cut(left), after: cut(right) }];
}

/** Told apart as a whole, shown by their beginning: a command may be a script. */
const MOST_SHOWN = 160;
const cut = (text: string) => (text.length <= MOST_SHOWN ? text : `${text.slice(0, MOST_SHOWN)}…`);

const show = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? NOT_SET));

const showBytes = (bytes: number) => (bytes % 1_048_576 === 0 ? `${bytes / 1_048_576} MiB` : `${bytes} bytes`);

/** Newer engines write them with the kernel's prefix. */
const capabilities = (names: string[] | null | undefined) =>
  (names ?? []).map((name) => name.replace(/^CAP_/, "")).sort();

const ports = (bindings: unknown): string[] =>
  Object.entries((bindings ?? {}) as Record<string, { HostPort?: string }[] | null>)
    .flatMap(([port, hosts]) => (hosts ?? []).map(({ HostPort }) => `${HostPort ?? ""}:${port}`))
    .sort();

function toMap(lines: string[] | null | undefined): Map<string, string> {
  return new Map((lines ?? []).map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}
