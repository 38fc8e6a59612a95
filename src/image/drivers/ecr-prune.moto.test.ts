import { createHash } from "node:crypto";
import { ECR } from "@aws-sdk/client-ecr";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type AwsStage, hasMoto, newAwsStage } from "../../rollout/drivers/ecs/testing.ts";
import { errorCode } from "../../shared/errors.ts";
import { newKeyedLock } from "../../shared/keyed-lock.ts";
import { ecrPublisher } from "./ecr.ts";

const ACCOUNT = "123456789012";
const hash = (text: string) => createHash("sha256").update(text).digest("hex");
const contentOf = (text: string) => `sha256:${hash(text)}`;

let stage: AwsStage;
let ecr: ECR;
beforeAll(async () => {
  if (!hasMoto) return;
  stage = await newAwsStage();
  ecr = new ECR({ region: stage.settings.region, endpoint: stage.endpoint });
});
afterAll(() => stage?.cleanUp());

const publisher = (install = "test", account = ACCOUNT) =>
  ecrPublisher({
    docker: undefined,
    install,
    aws: { region: stage.settings.region, endpoint: stage.endpoint, attempts: 1, speed: 1_000 },
    architecture: "x86_64",
    account,
    alone: newKeyedLock(),
  });

async function newRepository(name: string, install: string | undefined, tags: string[]): Promise<void> {
  await ecr.createRepository({
    repositoryName: name,
    imageTagMutability: "IMMUTABLE",
    ...(install !== undefined && { tags: [{ Key: "shipway:install", Value: install }] }),
  });
  for (const imageTag of tags) {
    const layers = [
      {
        mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        size: 1,
        digest: contentOf(`${name}${imageTag}`),
      },
    ];
    const imageManifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.docker.distribution.manifest.v2+json",
      config: { mediaType: "application/vnd.docker.container.image.v1+json", size: 1, digest: contentOf(imageTag) },
      layers,
    });
    await ecr.putImage({ repositoryName: name, imageManifest, imageTag });
  }
}

const tagsOf = async (repositoryName: string) =>
  ((await ecr.describeImages({ repositoryName })).imageDetails ?? [])
    .flatMap(({ imageTags }) => imageTags ?? [])
    .sort();
const names = async () =>
  ((await ecr.describeRepositories({})).repositories ?? []).map((one) => one.repositoryName).sort();
const pushed = (content: string) => `sha256-${hash(content)}`;

describe.skipIf(!hasMoto)("images in ECR that nobody needs", () => {
  it("go, and nothing else: not what a kept release has, not what was built or tagged otherwise, not another app's or installation's", async () => {
    const own = [pushed("old"), pushed("kept"), `${pushed("base")}-amd64`, `${pushed("gone")}-arm64`];
    await newRepository("shipway/test/shop/web", "test", [...own, "0123456789abcdef0123", "v1"]);
    await newRepository("shipway/test/shop/api", "test", [pushed("old")]);
    await newRepository("shipway/test/shop-two/web", "test", [pushed("old")]);
    await newRepository("shipway/test/shop/foreign", undefined, [pushed("old")]);
    const kept = [contentOf("kept"), `registry.example.com/base@${contentOf("base")}`];
    expect(await publisher().prune("shop", kept)).toBe(3);
    expect(await tagsOf("shipway/test/shop/web")).toEqual(
      ["0123456789abcdef0123", pushed("kept"), `${pushed("base")}-amd64`, "v1"].sort(),
    );
    expect(await tagsOf("shipway/test/shop/api")).toEqual([]);
    for (const name of ["shop-two/web", "shop/foreign"])
      expect(await tagsOf(`shipway/test/${name}`)).toEqual([pushed("old")]);
    expect(await publisher().prune("shop", kept)).toBe(0);
  });

  it("expire by a policy of their repository only when no tag names them", async () => {
    const { lifecyclePolicyText = "" } = await ecr.getLifecyclePolicy({ repositoryName: "shipway/test/shop/web" });
    const { rules } = JSON.parse(lifecyclePolicyText) as { rules: { selection: object }[] };
    expect(rules).toMatchObject([{ selection: { tagStatus: "untagged", countNumber: 7 } }]);
    expect(rules).toHaveLength(1);
  });

  it("go with their app, with the repositories of its services and of its builds, and a repetition finds nothing", async () => {
    await newRepository("shipway/test/shop/web/cache", "test", ["cache"]);
    expect(await publisher("other").removeApp("shop")).toEqual([]);
    expect((await publisher().removeApp("shop")).sort()).toEqual([
      "shipway/test/shop/api",
      "shipway/test/shop/web",
      "shipway/test/shop/web/cache",
    ]);
    expect(await names()).toEqual(["shipway/test/shop-two/web", "shipway/test/shop/foreign"]);
    expect(await publisher().removeApp("shop")).toEqual([]);
  });

  it("are told with a public code when AWS does not take the call", async () => {
    const elsewhere = ecrPublisher({
      docker: undefined,
      install: "test",
      aws: { region: "eu-central-1", endpoint: "http://127.0.0.1:1", attempts: 1 },
      architecture: "x86_64",
      alone: newKeyedLock(),
    });
    const error = await elsewhere.prune("shop", []).catch((thrown: unknown) => thrown);
    expect(errorCode(error)).toBe("AWS_UNREACHABLE");
  });
});
