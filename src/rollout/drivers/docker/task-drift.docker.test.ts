import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../shared/secret.ts";
import { until } from "../../../shared/until.ts";
import { type Release, taskName } from "../../release.ts";
import type { DesiredState } from "../../target.ts";
import { askSocket } from "./haproxy/router-socket.ts";
import { LABEL, networkName, prefixed } from "./names.ts";
import { type DockerStage, dockerService, newDockerStage } from "./testing.ts";

/** What people do with the docker command, and what is found of it. One environment is enough: every case is put right before the next. */
describe("drift of tasks on a real engine", () => {
  let stage: DockerStage;
  let desired: DesiredState & { live: { release: Release } };
  const place = { app: "shop", environment: "drift" };
  const [WEB, WORKER] = ["web", "worker"].map((name) => taskName(place, name, 1, 1)) as [string, string];
  beforeAll(async () => {
    stage = await newDockerStage();
    const services = [
      dockerService(place, "web", "web", { env: { LOG_LEVEL: "info" }, memoryMiB: 512 }),
      dockerService(place, "worker", "worker"),
    ];
    const release = { app: "shop", number: 1, services };
    const own = { env: {}, secrets: { KEY: new Secret("KEY", "swordfish") } };
    const backing = [{ name: "cache", spec: { engine: "redis" as const }, password: new Secret("CACHE", "x") }];
    desired = { live: { release, variables: { web: own, worker: own } }, inProgress: [], backing };
    await stage.target.prepare(place, release);
    await stage.target.ensureBacking(place, backing, () => undefined);
    await startAgain();
    const options = { deadlineMs: 15_000, onProgress: () => undefined };
    expect(await stage.target.awaitHealthy(place, release, services, options)).toMatchObject({ status: "healthy" });
    await stage.target.shiftTraffic(place, release);
  });
  afterAll(async () => {
    await stage?.target.destroy(place, "remove");
    await stage?.cleanUp();
  });

  const startAgain = async () => {
    for (const service of desired.live.release.services) {
      const own = desired.live.variables[service.name] ?? { env: {}, secrets: {} };
      await stage.target.startService(place, desired.live.release, service, own);
    }
  };
  const container = (task: string) => stage.docker.getContainer(prefixed(stage.instance, task));
  const network = () => stage.docker.getNetwork(networkName(stage.instance, place));
  const found = async (state: DesiredState = desired) =>
    (await stage.target.findDrift(place, state)).map(({ name, kind, attributes, mendsItself }) =>
      [
        name,
        kind,
        mendsItself ? "mends" : "stays",
        ...attributes.map((one) => `${one.path}: ${one.before} → ${one.after}`),
      ].join(" | "),
    );

  it("finds none before anybody did anything", async () => {
    expect(await found()).toEqual([]);
  });

  it("finds limits and restart policy changed by `docker update`, also those that stay when it is put back", async () => {
    await container(WEB).update({
      Memory: 256 * 1024 ** 2,
      MemorySwap: 256 * 1024 ** 2,
      RestartPolicy: { Name: "no" },
    });
    expect(await found()).toEqual([
      `${WEB} | changed | stays | memory: 512 MiB → 256 MiB | memory and swap: 512 MiB → 256 MiB | restart policy: unless-stopped → no`,
    ]);
    expect(await stage.target.reconcile(place, desired)).toEqual([]);
    const Memory = 512 * 1024 ** 2;
    await container(WEB).update({ MemorySwap: Memory, Memory, RestartPolicy: { Name: "unless-stopped" } });
    expect(await found()).toEqual([]);
  });

  it("finds a container that was stopped, and one that was paused, until the loop has mended it", async () => {
    await container(WORKER).stop({ t: 1 });
    // On a busy machine runc now and then gives up freezing a container.
    await until("the engine pausing it", async () => {
      await container(WEB).pause();
      return true;
    });
    expect(await found()).toEqual([
      `${WEB} | stopped | mends | state: running → paused`,
      `${WORKER} | stopped | mends | state: running → exited`,
    ]);
    await stage.target.reconcile(place, desired);
    expect(await found()).toEqual([]);
  });

  it("finds a task that was taken off its network, or put on another", async () => {
    await network().disconnect({ Container: container(WORKER).id });
    await stage.docker.getNetwork("bridge").connect({ Container: container(WORKER).id });
    const own = networkName(stage.instance, place);
    expect(await found()).toEqual([
      `${WORKER} | changed | stays | network ${own}: attached → not attached | network bridge: not attached → attached`,
    ]);
    await container(WORKER).remove({ force: true });
    await stage.target.reconcile(place, desired);
    expect(await found()).toEqual([]);
  });

  it("finds a container that was made anew by hand: with our labels by its settings, without them by its name", async () => {
    const { Config, HostConfig } = await container(WORKER).inspect();
    const name = prefixed(stage.instance, WORKER);
    const again = async (labels: Record<string, string>, Env: string[]) => {
      await container(WORKER).remove({ force: true });
      const made = { name, Image: Config.Image, Cmd: ["node", "-e", "setInterval(()=>{},1000)"], Env, Labels: labels };
      const host = { ...HostConfig, NetworkMode: networkName(stage.instance, place) };
      await (await stage.docker.createContainer({ ...made, StopTimeout: 1, HostConfig: host })).start();
    };
    await again(Config.Labels, [...Config.Env, "DEBUG=secret-thing"]);
    const [drift] = await stage.target.findDrift(place, desired);
    expect(drift).toMatchObject({ name: WORKER, kind: "changed", mendsItself: false });
    const command = { path: "command", before: expect.stringContaining("working"), after: expect.any(String) };
    expect(drift?.attributes).toEqual([command, { path: "env.DEBUG", before: "(not set)", after: "(hidden)" }]);
    expect(JSON.stringify(drift)).not.toMatch(/secret-thing|swordfish/);

    // The loop could not start its own: the name is taken. Its label of the instance is for this test's clean-up.
    await again({ [LABEL.instance]: stage.instance, [LABEL.app]: "by-hand" }, Config.Env);
    expect(await stage.target.findDrift(place, desired)).toMatchObject([
      { name: WORKER, kind: "missing", mendsItself: false, remedy: `docker rm -f ${name}` },
      { name, kind: "unknown", mendsItself: false },
    ]);
    await expect(stage.target.reconcile(place, desired)).rejects.toThrow("is taken by a container");
    await container(WORKER).remove({ force: true });
    await stage.target.reconcile(place, desired);
    expect(await found()).toEqual([]);
  });

  it("finds a server that was put out of service in the router, until the loop has mended it", async () => {
    await askSocket(stage.adminSocket, `set server ${place.app}.${place.environment}.web/${WEB} state maint`);
    expect(await found()).toEqual([`${WEB} | no-traffic | mends`]);
    expect((await stage.target.reconcile(place, desired)).join()).toContain("state ready");
    expect(await found()).toEqual([]);
  });

  it("finds what somebody did to a backing service, and what is gone of it", async () => {
    const cache = stage.docker.getContainer(prefixed(stage.instance, `${place.app}.${place.environment}.cache`));
    await cache.update({ CpuShares: 77 });
    expect(await found()).toEqual(["cache | changed | stays | cpu shares: 1024 → 77"]);
    await network().disconnect({ Container: cache.id });
    const own = networkName(stage.instance, place);
    expect(await found()).toEqual([
      `cache | changed | mends | cpu shares: 1024 → 77 | network ${own}: attached → not attached`,
    ]);
    await stage.target.ensureBacking(place, desired.backing ?? [], () => undefined);
    expect(await found()).toEqual([]);
    await cache.stop({ t: 1 });
    expect(await found()).toEqual(["cache | stopped | mends | state: running → exited"]);
    await cache.remove({ force: true });
    expect(await found()).toEqual(["cache | missing | mends"]);
    await stage.target.ensureBacking(place, desired.backing ?? [], () => undefined);
    expect(await found()).toEqual([]);
  });

  it("takes secrets that were set anew for outdated, not for changed", async () => {
    const own = { env: {}, secrets: { KEY: new Secret("KEY", "marlin") } };
    const since = { ...desired, live: { ...desired.live, variables: { web: own, worker: own } } };
    expect(await found(since)).toEqual([
      `${WEB} | outdated | stays | env.KEY: (hidden) → (hidden)`,
      `${WORKER} | outdated | stays | env.KEY: (hidden) → (hidden)`,
    ]);
  });

  /** So that a request from outside was answered all the while, in spite of all the above. */
  it("still serves", async () => {
    const status = await new Promise((resolve, reject) => {
      const host = `web.${place.environment}.${place.app}.localhost`;
      request({ host: "127.0.0.1", port: stage.httpPort, headers: { host } }, ({ statusCode }) => resolve(statusCode))
        .on("error", reject)
        .end();
    });
    expect(status).toBe(200);
  });
});
