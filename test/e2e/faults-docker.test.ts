import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findFreePort } from "../../src/shared/free-port.ts";
import { until } from "../../src/shared/until.ts";
import { hostOf, liveApp, pushGood, told } from "../bad-push.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE, server, spec } from "../sample-app.ts";
import { type SocketProxy, startSocketProxy } from "../socket-proxy.ts";

const APP = "cut";

describe("when Docker goes away", () => {
  let shipway: Installation;
  let proxy: SocketProxy;
  let socketDir: string;
  let checkout: string;
  beforeAll(async () => {
    socketDir = await mkdtemp(join(tmpdir(), "shipway-socket-"));
    proxy = await startSocketProxy(join(socketDir, "docker.sock"), "/var/run/docker.sock");
    shipway = await newInstallation({ dockerSocket: proxy.path });
    await shipway.start();
    checkout = await liveApp(shipway, APP);
  });
  afterAll(async () => {
    await proxy.close();
    await shipway.remove();
    await rm(socketDir, { recursive: true, force: true });
  });

  /** Pushes, takes Docker away as soon as `moment` is reached, and brings it back once the push has ended. */
  async function cutDuring(files: Record<string, string>, moment: () => Promise<boolean>): Promise<string> {
    const before = await shipway.things();
    const traffic = shipway.traffic(hostOf(APP));
    await shipway.commit(checkout, files, "Break it");
    const pushing = shipway.push(checkout);
    await until("the moment to cut", moment, { withinMs: 30_000, everyMs: 20 });
    await proxy.cut();
    const cutAt = Date.now();
    const text = told(await pushing);
    expect(Date.now() - cutAt).toBeLessThan(20_000);
    await proxy.restore();
    await until(
      "what was left being cleaned up",
      async () =>
        JSON.stringify(await shipway.things()) === JSON.stringify(before) ||
        Promise.reject(new Error((await shipway.things()).join("\n"))),
      { withinMs: 40_000, everyMs: 500 },
    );
    const counts = await traffic.stop();
    expect(counts).toMatchObject({ failed: 0 });
    await pushGood(shipway, APP, checkout, { "shipway.yml": spec(APP), "bitbucket-pipelines.yml": "pipelines: {}\n" });
    return text;
  }

  /** An event with these words that is not there yet. */
  async function newEvent(words: string): Promise<() => Promise<boolean>> {
    const events = (after: number) => shipway.api<{ id: number }[]>(`/api/events?app=${APP}&after=${after}&limit=1000`);
    const last = (await events(0)).at(-1)?.id ?? 0;
    return async () => JSON.stringify(await events(last)).includes(words);
  }

  it("while a step runs", async () => {
    const pipeline = `image: ${BASE_IMAGE}\npipelines:\n  default:\n    - step:\n        name: Long\n        script: [sleep 5]\n`;
    const text = await cutDuring({ "bitbucket-pipelines.yml": pipeline }, async () => {
      const [step] = await shipway.containers({ "shipway.role": "step" });
      return step !== undefined && (await shipway.docker.getContainer(step).inspect()).State.Running;
    });
    expect(text).toContain("✗ pipeline #1 default failed");
    expect(text).toContain('Docker did not answer while trying to run step "Long"');
    expect(text).toContain("Then run it again: `shipway deploy --app cut --ref main`.");
    const [run] = await shipway.api<{ status: string }[]>(`/api/apps/${APP}/pipelines`);
    expect(run?.status).toBe("failed");
  });

  it("while an image is built", async () => {
    const text = await cutDuring(
      {
        "bitbucket-pipelines.yml": "pipelines: {}\n",
        Dockerfile: `FROM ${BASE_IMAGE}\nRUN sleep 5 && echo ${Date.now()}\n`,
      },
      await newEvent('"image.started"'),
    );
    expect(text).toContain("✗ stopped at images");
    expect(text).toContain("The Docker Engine does not answer");
    expect(text.replace(/\s+/g, " ")).toContain("Then run it again: `shipway deploy --app cut --ref main`.");
  });

  it("while a release proves itself", async () => {
    const files = {
      Dockerfile: DOCKERFILE,
      "server.js": 'setInterval(() => {}, 1000); process.on("SIGTERM", () => process.exit(0));',
    };
    const text = await cutDuring(files, await newEvent('"rollout.health"'));
    expect(text).toContain("Docker does not answer");
    expect(text).toMatch(/! r\d+ still serves; nothing changed for your users/);
    expect(text).toMatch(/`shipway deploy --app cut --env production --release r\d+`/);
  });

  it("while a release that has the traffic is watched", async () => {
    const files = { "shipway.yml": spec(APP).replace("bake: 500ms", "bake: 6s"), "server.js": server("watched") };
    const text = await cutDuring(files, await newEvent("watching r"));
    expect(text).toContain("Docker does not answer");
    expect(text).toMatch(/! r\d+ had the traffic for a moment; r\d+ serves again/);
    expect(text).toMatch(/`shipway deploy --app cut --env production --release r\d+`/);
  });
});

describe("starting Shipway where something is in the way", () => {
  let shipway: Installation;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
  });
  afterAll(() => shipway.remove());

  /** Routers made for a data directory of this test, and networks of routers that are not there: others start and stop beside it. */
  const abandoned = async () => {
    const filters = { label: ["shipway.role=router"] };
    const [networks, routers] = await Promise.all([
      shipway.docker.listNetworks({ filters }),
      shipway.docker.listContainers({ all: true, filters }),
    ]);
    const alive = new Set(routers.map(({ Labels }) => Labels["shipway.instance"]));
    const ours = routers.filter(({ Mounts }) => Mounts.some(({ Source }) => Source.startsWith(shipway.dir)));
    return [
      ...networks.filter(({ Labels }) => !alive.has(Labels?.["shipway.instance"])).map(({ Name }) => Name),
      ...ours.map(({ Names }) => Names[0]),
    ];
  };

  const up = (name: string, args: string[], env: Record<string, string> = {}) =>
    shipway.shipway(["up", "--data", join(shipway.dir, name), ...args], shipway.dir, { env });

  it("Docker does not run", async () => {
    const ran = await up(
      "no-docker",
      ["--port", String(await findFreePort()), "--http-port", String(await findFreePort())],
      {
        DOCKER_HOST: `unix://${shipway.dir}/nothing.sock`,
      },
    );
    expect(ran.code).toBe(75);
    expect(ran.stderr).toContain("Docker does not answer");
    expect(ran.stderr).toContain("→ Start Docker with `systemctl start docker`, then run `shipway doctor`.");
  });

  it("the port of the API is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const before = await abandoned();
    const ran = await up("api-port", ["--port", String(port), "--http-port", String(await findFreePort())]);
    taken.close();
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(`✗ Port ${port} of 127.0.0.1 is in use by another program.`);
    expect(ran.stderr).toContain("→ Choose another with `shipway up --port N`.");
    expect(await abandoned()).toEqual(before);
  });

  it("the port of the apps is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const before = await abandoned();
    const ran = await up("http-port", ["--port", String(await findFreePort()), "--http-port", String(port)]);
    taken.close();
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(
      `✗ The router cannot listen on 127.0.0.1:${port}: something else on this machine does.`,
    );
    expect(ran.stderr).toContain("or choose another port with `--http-port`.");
    expect((await abandoned()).filter((name) => !before.includes(name))).toEqual([]);
  });

  it("another Shipway uses the data directory", async () => {
    const ran = await up("data", ["--port", String(await findFreePort()), "--http-port", String(await findFreePort())]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(`✗ Another Shipway runs on ${join(shipway.dir, "data")}.`);
    expect(ran.stderr).toContain("shipway up --data DIR --port N --http-port N");
    expect((await shipway.api<{ instance: string }>("/api/status")).instance).not.toBe("");
  });
});
