import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gitCommand } from "../../source/git-command.ts";
import { digestAt } from "../registry/push-image.ts";
import { hasRegistry, newTestRegistry } from "../registry/testing.ts";
import { dockerBuilder } from "./docker.ts";
import { pushFromEngine, removeLeftNames } from "./engine-push.ts";
import { findBase, Workshop } from "./testing.ts";

const docker = new Docker({ socketPath: "/var/run/docker.sock" });
const git = gitCommand(process.env.PATH ?? "/usr/bin:/bin");
const base = hasRegistry ? await findBase(docker) : undefined;

describe.skipIf(base === undefined)("an image of the Docker Engine, pushed", () => {
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let shop: Workshop;
  const builder = dockerBuilder({ docker, git });
  beforeAll(async () => {
    registry = await newTestRegistry();
    shop = new Workshop(git);
  });
  afterAll(async () => {
    await builder.prune(shop.app, []);
    await shop?.close();
    await registry?.cleanUp();
  });

  const built = async (service: string) => {
    const plan = await shop.plan(service, `FROM ${base}\nCOPY nonce.txt /\n`);
    const outcome = await builder.build(plan, () => undefined);
    if (outcome.status !== "built") throw new Error("the build failed");
    return { name: plan.name, id: outcome.image.digest, repository: `shipway/test/${shop.app}/${service}` };
  };
  /** As Docker calls it. */
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const namesOf = async (image: string) => (await docker.getImage(image).inspect()).RepoTags;

  it("is the same image at the other end, and does not keep the name it was pushed under", async () => {
    const { name, id, repository } = await built("web");
    const push = { service: "web", image: id, architecture, repository, tag: "sha256-1" };
    const digest = await pushFromEngine(docker, { endpoint: registry.endpoint }, push, () => undefined);
    expect(await digestAt({ endpoint: registry.endpoint }, repository, "sha256-1")).toBe(digest);
    const headers = { accept: "application/vnd.docker.distribution.manifest.v2+json" };
    const manifest = await fetch(`${registry.endpoint}/v2/${repository}/manifests/${digest}`, { headers });
    expect(await manifest.json()).toMatchObject({ config: { digest: id } });
    expect(await namesOf(id)).toEqual([name]);
  });

  it("loses a name that a killed push left, and only that", async () => {
    const { name, id, repository } = await built("left");
    const host = new URL(registry.endpoint).host;
    for (const repo of [`${host}/${repository}`, `${host}/shipway/test/other-${shop.app}/left`])
      await docker.getImage(id).tag({ repo, tag: "sha256-2" });
    await removeLeftNames(docker, `shipway/test/${shop.app}/`);
    const other = `${host}/shipway/test/other-${shop.app}/left:sha256-2`;
    expect((await namesOf(id)).sort()).toEqual([other, name].sort());
    await docker.getImage(other).remove();
  });

  it("says what is not there, what is for other machines, and that the registry did not answer", async () => {
    const { id } = await built("refused");
    const push = (endpoint: string, image: string, wanted = architecture) => {
      const what = { service: "web", image, architecture: wanted, repository: "a/b", tag: "t" };
      return pushFromEngine(docker, { endpoint }, what, () => undefined).catch((error: unknown) => error);
    };
    expect(await push(registry.endpoint, `sha256:${"0".repeat(64)}`)).toMatchObject({ code: "IMAGE_UNAVAILABLE" });
    expect(await push(registry.endpoint, id, "s390x")).toMatchObject({
      code: "SPEC_INVALID",
      message: expect.stringContaining("run on s390x"),
    });
    expect(await push("http://127.0.0.1:1", id)).toMatchObject({
      code: "IMAGE_PUSH_FAILED",
      message: expect.stringContaining("127.0.0.1:1: "),
    });
  });
});
