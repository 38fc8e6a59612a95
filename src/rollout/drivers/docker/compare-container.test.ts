import type Docker from "dockerode";
import { describe, expect, it } from "vitest";
import { Secret } from "../../../shared/secret.ts";
import { newService } from "../../testing.ts";
import { compareContainer, type Declared, type ImageSettings } from "./compare-container.ts";
import { hashOptions, taskOptions } from "./container-options.ts";
import { LABEL } from "./names.ts";

const place = { app: "shop", environment: "production" };
const NETWORK = "shipway-shop.production";
const IMAGE: ImageSettings = {
  Env: ["PATH=/bin", "LANG=C"],
  Cmd: ["node"],
  Entrypoint: ["entry.sh"],
  User: "node",
  WorkingDir: "/app",
  Volumes: { "/cache": {} },
};
const service = newService("web", { env: { LOG_LEVEL: "info" } });
const variables = { env: { COLOR: "blue" }, secrets: { KEY: new Secret("KEY", "swordfish") } };
const options = taskOptions({
  ...{ instance: "default", place, release: { app: "shop", number: 3, services: [service] }, service, variables },
  ...{ name: "shop.production.web.r3-1", routerAddress: "10.0.0.2", attachment: { network: NETWORK } },
});
const declared: Declared = {
  ...{ options, network: NETWORK, aliases: [], mountedAt: [] },
  plainVariables: new Set(["PORT", "LOG_LEVEL", "COLOR", "SHIPWAY_RELEASE"]),
  movingVariables: new Set(["COLOR", "KEY"]),
};

type Info = Docker.ContainerInspectInfo;
type Changes = { config?: object; host?: object; networks?: object; mounts?: object[] };

/** What the engine (20.10) shows of a container made from `options`. */
function made({ config = {}, host = {}, networks, mounts = [] }: Changes = {}): Info {
  return {
    Config: {
      Image: options.Image,
      Cmd: options.Cmd ?? IMAGE.Cmd,
      Entrypoint: IMAGE.Entrypoint,
      User: IMAGE.User,
      WorkingDir: IMAGE.WorkingDir,
      Env: [...(options.Env ?? []), ...(IMAGE.Env ?? [])],
      StopTimeout: options.StopTimeout,
      ...config,
    },
    HostConfig: {
      ...options.HostConfig,
      CapAdd: options.HostConfig?.CapAdd?.map((name: string) => `CAP_${name}`),
      ...{ NanoCpus: 0, CpuQuota: 0, CpusetCpus: "", Privileged: false, PortBindings: {} },
      ...host,
    },
    NetworkSettings: { Networks: networks ?? { [NETWORK]: { Aliases: ["3f1c2ab9"] } } },
    Mounts: mounts,
  } as unknown as Info;
}
const env = (...lines: string[]) => ({ config: { Env: [...lines, ...(IMAGE.Env ?? [])] } });
const without = (name: string) => (options.Env ?? []).filter((line) => !line.startsWith(`${name}=`));
const compare = (changes: Changes = {}, isAsMade = true, image: ImageSettings | undefined = IMAGE) =>
  compareContainer(declared, made(changes), image, isAsMade);
const lines = (changes: Changes, isAsMade = true) =>
  compare(changes, isAsMade).changed.map(({ path, before, after }) => `${path}: ${before} → ${after}`);

describe("compareContainer", () => {
  it("finds nothing in a container as it was made, whether or not its image is still there", () => {
    expect(compare()).toEqual({ changed: [], outdated: [] });
    expect(compare({}, true, undefined)).toEqual({ changed: [], outdated: [] });
    expect(compare({ mounts: [{ Destination: "/cache" }] })).toEqual({ changed: [], outdated: [] });
  });

  const MIB = 1024 * 1024;
  it.each<[string, Changes]>([
    ["memory: 512 MiB → 64 MiB", { host: { Memory: 64 * MIB } }],
    ["memory and swap: 512 MiB → 1024 MiB", { host: { MemorySwap: 1024 * MIB } }],
    ["cpu shares: 256 → 77", { host: { CpuShares: 77 } }],
    ["cpus: (not set) → 0.5", { host: { NanoCpus: 5e8 } }],
    ["cpu quota: (not set) → 50000", { host: { CpuQuota: 50_000 } }],
    ["cpuset: (not set) → 0", { host: { CpusetCpus: "0" } }],
    ["restart policy: unless-stopped → no", { host: { RestartPolicy: { Name: "no" } } }],
    ["privileged: false → true", { host: { Privileged: true } }],
    ["process limit: 4096 → 0", { host: { PidsLimit: 0 } }],
    ['security options: ["no-new-privileges"] → []', { host: { SecurityOpt: null } }],
    ['dropped capabilities: ["ALL"] → []', { host: { CapDrop: null } }],
    ['published ports: [] → ["9000:3000/tcp"]', { host: { PortBindings: { "3000/tcp": [{ HostPort: "9000" }] } } }],
    ['mounts: [] → ["/etc/shadow"]', { mounts: [{ Destination: "/etc/shadow" }] }],
    [`image: ${service.image} → other:1`, { config: { Image: "other:1" } }],
    ['command: ["node"] → ["sh"]', { config: { Cmd: ["sh"] } }],
    ['entrypoint: ["entry.sh"] → []', { config: { Entrypoint: null } }],
    ["user: node → root", { config: { User: "root" } }],
    ["working directory: /app → /", { config: { WorkingDir: "/" } }],
    [`network ${NETWORK}: attached → not attached`, { networks: {} }],
    ["network bridge: not attached → attached", { networks: { [NETWORK]: {}, bridge: {} } }],
    ['env.LOG_LEVEL: "info" → "debug"', env(...without("LOG_LEVEL"), "LOG_LEVEL=debug")],
    ['env.LOG_LEVEL: "info" → (not set)', env(...without("LOG_LEVEL"))],
    ["env.KEY: (hidden) → (not set)", env(...without("KEY"))],
    ["env.EXTRA: (not set) → (hidden)", env(...(options.Env ?? []), "EXTRA=swordfish")],
    ["env.LANG: (not set) → (hidden)", { config: { Env: [...(options.Env ?? []), "PATH=/bin", "LANG=de"] } }],
  ])("says %s", (line, changes) => {
    expect(lines(changes)).toEqual([line]);
  });

  it("takes for no drift what the kernel cannot limit", () => {
    const host = { Memory: 0, MemorySwap: -1, CpuShares: 0, PidsLimit: null };
    expect(compare({ host })).toEqual({ changed: [], outdated: [] });
  });

  it("tells variables that were declared anew from those changed by hand, and never shows a secret", () => {
    const changes = env(...without("KEY").filter((line) => !line.startsWith("COLOR=")), "KEY=marlin", "COLOR=red");
    expect(compare(changes)).toEqual({
      changed: [],
      outdated: [
        { path: "env.COLOR", before: '"blue"', after: '"red"' },
        { path: "env.KEY", before: "(hidden)", after: "(hidden)" },
      ],
    });
  });

  it("takes variables that came or went with the declaration for outdated, and an older Shipway's settings for none", () => {
    const changes = { ...env(...without("KEY"), "GONE=1"), host: { PidsLimit: 100, CapDrop: null } };
    const { changed, outdated } = compare(changes, false);
    expect(changed).toEqual([]);
    expect(outdated.map(({ path }) => path)).toEqual(["env.GONE", "env.KEY"]);
    expect(lines({ host: { Memory: 64 * MIB } }, false)).toEqual(["memory: 512 MiB → 64 MiB"]);
  });

  it("wants a backing service under its name", () => {
    const backing = { ...declared, aliases: ["db"], plainVariables: undefined };
    const found = compareContainer(backing, made(), IMAGE, true).changed;
    expect(found).toEqual([{ path: `name db in ${NETWORK}`, before: "set", after: "(not set)" }]);
  });
});

describe("hashOptions", () => {
  it("stands in the label, is the same for every task of a service, and hides what variables hold", () => {
    expect(options.Labels?.[LABEL.spec]).toBe(hashOptions(options));
    const others = { name: "shop.production.web.r3-2", NetworkingConfig: {}, HostConfig: { ...options.HostConfig } };
    others.HostConfig.ExtraHosts = ["web:10.0.0.9"];
    const Env = (options.Env ?? []).map((line) => `${line}-other`);
    expect(hashOptions({ ...options, ...others, Env })).toBe(hashOptions(options));
    expect(hashOptions({ ...options, Env: [...Env, "MORE=1"] })).not.toBe(hashOptions(options));
    expect(hashOptions({ ...options, HostConfig: { ...options.HostConfig, PidsLimit: 9 } })).not.toBe(
      hashOptions(options),
    );
  });
});
