import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gitCommand } from "../../source/git-command.ts";
import { digestAt } from "../registry/push-image.ts";
import { hasRegistry, newTestRegistry } from "../registry/testing.ts";
import { dockerBuilder } from "./docker.ts";
import { enginePublisher } from "./engine-publisher.ts";
import { findBase, Workshop } from "./testing.ts";

const docker = new Docker({ socketPath: "/var/run/docker.sock" });
const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const base = hasRegistry ? await findBase(docker) : undefined;
const ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

describe.skipIf(base === undefined)("an image that was built elsewhere, on the Docker Engine", () => {
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let host: string;
  let shop: Workshop;
  const builder = dockerBuilder({ docker, git });
  beforeAll(async () => {
    registry = await newTestRegistry();
    host = new URL(registry.endpoint).host;
    shop = new Workshop(git);
  });
  afterAll(async () => {
    await builder.prune(shop.app, []);
    await shop?.close();
    await registry?.cleanUp();
  });

  const isThere = async (name: string) =>
    docker
      .getImage(name)
      .inspect()
      .then(
        () => true,
        () => false,
      );

  /** In the registry, and gone from the engine: as built on another machine. */
  const builtElsewhere = async (service: string) => {
    const plan = await shop.plan(service, `FROM ${base}\nCOPY nonce.txt /\n`);
    const outcome = await builder.build(plan, () => undefined);
    if (outcome.status !== "built") throw new Error("the build failed");
    const repository = `shipway/test/${shop.app}/${service}`;
    const there = docker.getImage(plan.name);
    await there.tag({ repo: `${host}/${repository}`, tag: "1" });
    const pushing = await docker.getImage(`${host}/${repository}:1`).push({ authconfig: {} });
    await new Promise((resolve, reject) =>
      docker.modem.followProgress(pushing, (error) => (error ? reject(error) : resolve(undefined))),
    );
    await docker.getImage(outcome.image.digest).remove({ force: true });
    const digest = await digestAt({ endpoint: registry.endpoint }, repository, "1");
    return { name: plan.name, id: outcome.image.digest, reference: `${ECR}/${repository}@${digest}` };
  };
  const publisher = (asked: string[] = []) =>
    enginePublisher({
      docker,
      registryEndpoint: registry.endpoint,
      loginFor: async (host) => {
        asked.push(host);
        return `Basic ${Buffer.from("AWS:a:b").toString("base64")}`;
      },
    });

  it("is pulled once, signed in where it is kept, and is the very image that was pushed", async () => {
    const { name, id, reference } = await builtElsewhere("web");
    const asked: string[] = [];
    const image = { app: shop.app, service: "web", digest: reference, name };
    const said: string[] = [];
    const log = (lines: { text: string }[]) => void said.push(...lines.map(({ text }) => text));
    expect(await publisher(asked).publish(image, log)).toBe(id);
    expect(await publisher(asked).publish(image, log)).toBe(id);
    expect(asked).toEqual([ECR]);
    expect(said.filter((text) => text.includes("pulling"))).toHaveLength(1);
    expect((await docker.getImage(name).inspect()).Id).toBe(id);
  });

  it("goes with the last release that keeps its name, and stays while a container uses it", async () => {
    const { name, id, reference } = await builtElsewhere("worker");
    await publisher().publish({ app: shop.app, service: "worker", digest: reference, name }, () => undefined);
    await builder.prune(shop.app, [name]);
    expect(await isThere(id)).toBe(true);
    const container = await docker.createContainer({ Image: id, Cmd: ["true"] });
    try {
      await builder.prune(shop.app, []);
      expect(await isThere(id)).toBe(true);
    } finally {
      await container.remove();
    }
    await builder.prune(shop.app, []);
    expect(await isThere(id)).toBe(false);
  });

  it("says which image cannot be had", async () => {
    const digest = `${ECR}/shipway/test/${shop.app}/web@sha256:${"0".repeat(64)}`;
    await expect(publisher().publish({ app: shop.app, service: "web", digest }, () => undefined)).rejects.toMatchObject(
      { code: "IMAGE_UNAVAILABLE" },
    );
  });
});
