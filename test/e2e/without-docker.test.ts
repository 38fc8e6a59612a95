import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { SSM } from "@aws-sdk/client-ssm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pushImage } from "../../src/image/registry/push-image.ts";
import { hasRegistry, newTestImage, newTestRegistry } from "../../src/image/registry/testing.ts";
import { type AwsStage, hasMoto, newAwsStage, TEST_CREDENTIALS } from "../../src/rollout/drivers/ecs/testing.ts";
import { type Installation, newInstallation } from "../installation.ts";

/** A Shipway as it runs on Fargate: there is no Docker Engine for it, and everything of an app is on AWS (moto, a scheduler of ours, Debian's docker-registry). */
let registry: Awaited<ReturnType<typeof newTestRegistry>>;
let stage: AwsStage;
let platform: Installation;
/** In the team's own registry, made by whoever builds it. */
let image: string;

/** A secret of the account that Shipway never reads, and its versions so far. */
let password: string;
let versions: string[] = [];

const HOST = "hello.example.com";
const HELLO = "team/hello";

beforeAll(async () => {
  if (!hasMoto || !hasRegistry) return;
  registry = await newTestRegistry();
  stage = await newAwsStage({ registry: registry.endpoint });
  platform = await newInstallation({
    dockerSocket: join("/nonexistent", "docker.sock"),
    env: { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: stage.endpoint, SHIPWAY_REGISTRY: registry.endpoint },
    up: ["--no-docker"],
  });
  image = `${new URL(registry.endpoint).host}/${HELLO}:1`;
  await pushHello("1");
  await platform.start();
  const made = await stage.aws.secrets.createSecret({ Name: "hello/db", SecretString: '{"password":"first"}' });
  [password, versions] = [made.ARN ?? "", [made.VersionId ?? ""]];
  const ssm = new SSM({ region: stage.settings.region, endpoint: stage.endpoint });
  await ssm.putParameter({ Name: "/hello/mail", Value: "token", Type: "SecureString" });
});
afterAll(async () => {
  await platform?.remove();
  await stage?.cleanUp();
  await registry?.cleanUp();
});

const pushHello = (tag: string) => {
  const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64" }));
  const image = newTestImage([gzipSync(randomBytes(50_000))], config);
  return pushImage({ endpoint: registry.endpoint }, HELLO, tag, image);
};

const spec = (environments: object, services: object) =>
  JSON.stringify({ app: "hello", services, environments, bake: "1s" });
const onEcs = () => {
  const { region, cluster, listener, subnets, securityGroups, executionRole } = stage.settings;
  const aws = { region, cluster, listener, subnets, securityGroups, executionRole, scheme: "http" };
  const secrets = { DB_PASSWORD: `${password}:password`, MAIL_TOKEN: "ssm:/hello/mail" };
  return { branch: "main", runtime: "ecs", aws, secrets };
};
const ready = (reference = image) => ({
  web: {
    image: reference,
    port: 3000,
    domains: [HOST],
    health: { path: "/", grace: "20s" },
    secrets: ["DB_PASSWORD", "MAIL_TOKEN"],
  },
});
/** What ECS starts tasks of a release with. */
async function secretsOf(release: number) {
  const { ecs } = stage.aws;
  const { taskDefinitionArns } = await ecs.listTaskDefinitions({});
  const arn = taskDefinitionArns?.find((one) => one.includes(`_web_r${release}:`));
  if (arn === undefined) return "no task definition";
  const { taskDefinition } = await ecs.describeTaskDefinition({ taskDefinition: arn });
  return taskDefinition?.containerDefinitions?.[0]?.secrets;
}
const expected = (version: string | undefined) => [
  { name: "DB_PASSWORD", valueFrom: `${password}:password::${version}` },
  { name: "MAIL_TOKEN", valueFrom: "/hello/mail" },
];
const unwrapped = (text: string) => text.replaceAll(/\s*\nremote:\s*/g, " ");

describe.skipIf(!hasMoto || !hasRegistry)("a Shipway without a Docker Engine", () => {
  let checkout: string;

  it("is up and healthy, and says how it runs", async () => {
    expect(platform.output()).toContain("Docker: none, as asked");
    expect((await fetch(`${platform.apiUrl}/api/ready`)).status).toBe(200);
    const status = await platform.shipway(["status"]);
    expect(status.code).toBe(0);
    expect(status.stdout).toContain("without Docker");
  });

  it("takes a push and brings an image that is ready to ECS, from one registry to the other", async () => {
    checkout = await platform.newApp("hello", { "shipway.yml": spec({ production: onEcs() }, ready()) });
    expect((await platform.shipway(["check"], checkout)).code).toBe(0);
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain(`http://${HOST}`);
    expect(await stage.answering(HOST)).toBe(1);
    const catalog = (await (await fetch(`${registry.endpoint}/v2/_catalog`)).json()) as { repositories: string[] };
    expect(catalog.repositories).toContainEqual(expect.stringMatching(/^shipway\/[a-z0-9]+\/hello\/web$/));
    expect((await platform.deployments("hello"))[0]).toMatchObject({ status: "succeeded" });
    expect(await secretsOf(1)).toEqual(expected(versions[0]));
  });

  it("ships the image's next version, and goes back to the first", async () => {
    const next = image.replace(/1$/, "2");
    await pushHello("2");
    const put = await stage.aws.secrets.putSecretValue({ SecretId: password, SecretString: '{"password":"second"}' });
    await platform.commit(checkout, { "shipway.yml": spec({ production: onEcs() }, ready(next)) }, "two");
    expect((await platform.push(checkout)).stderr).toContain(`http://${HOST}`);
    expect(await stage.answering(HOST)).toBe(2);
    expect(await secretsOf(2)).toEqual(expected(put.VersionId));
    expect((await platform.shipway(["rollback"], checkout)).code).toBe(0);
    expect(await stage.answering(HOST)).toBe(1);
    await platform.shipway(["resume"], checkout);
    const listed = await platform.shipway(["secret", "list", "--json"], checkout);
    expect(JSON.parse(listed.stdout)).toEqual([
      { name: "DB_PASSWORD", from: `${password}:password`, version: versions[0], isPinned: true },
      { name: "MAIL_TOKEN", from: "ssm:/hello/mail", version: "1", isPinned: false },
    ]);
  });

  it("starts nothing of a release whose secrets are not in the account, and shows their lines", async () => {
    const environment = { ...onEcs(), secrets: { DB_PASSWORD: `${password}::NONE`, MAIL_TOKEN: "ssm:/hello/none" } };
    await platform.commit(checkout, { "shipway.yml": spec({ production: environment }, ready()) }, "no secrets");
    const shown = unwrapped((await platform.push(checkout)).stderr);
    expect(shown).toContain(`DB_PASSWORD: it has no version NONE (${password}::NONE)`);
    expect(shown).toMatch(/shipway.yml at [0-9a-f]{7}:1:\d+ {2}MAIL_TOKEN: there is no such parameter/);
    expect(await secretsOf(3)).toBe("no task definition");
    expect(await stage.answering(HOST)).toBe(1);
  });

  it("refuses what needs an engine with all reasons at once, when checked and when pushed", async () => {
    const services = { ...ready(), api: { build: {}, port: 3000 } };
    const staging = { branch: "main", services: { web: { domains: [] } } };
    const environments = { production: onEcs(), staging };
    const pipelines = "image: any\npipelines:\n  default:\n    - step: { name: Test, script: [true] }\n";
    await platform.commit(
      checkout,
      {
        "shipway.yml": spec(environments, services),
        Dockerfile: "FROM scratch\n",
        "bitbucket-pipelines.yml": pipelines,
      },
      "needs Docker",
    );
    const reasons =
      "staging has runtime: docker; the steps of its pipeline run on Docker; the image of api would be built on Docker";
    const checked = await platform.shipway(["check"], checkout);
    expect(checked.code).toBe(2);
    expect(checked.stderr).toContain(reasons);
    const pushed = await platform.push(checkout);
    expect(unwrapped(pushed.stderr)).toContain(`hello cannot be shipped from here: ${reasons}`);
    expect(unwrapped(pushed.stderr)).toContain("docs/aws.md");
    expect(await stage.answering(HOST)).toBe(1);
    expect(await platform.containers()).toEqual([]);
  });

  it("refuses a backing service of its own, and declares nothing then", async () => {
    await platform.shipway(["env", "create", "dev"], checkout);
    const created = await platform.shipway(
      ["backing", "create", "cache", "--engine", "redis", "--env", "dev"],
      checkout,
    );
    expect(created.code).toBe(2);
    expect(created.stderr).toContain("shipway up --no-docker");
    expect((await platform.shipway(["backing", "list", "--env", "dev", "--json"], checkout)).stdout.trim()).toBe("[]");
  });

  it("goes on after a kill, and removes the app with all it made", async () => {
    await platform.kill("SIGKILL");
    await platform.start();
    expect((await platform.shipway(["app", "remove", "hello", "--yes"], platform.dir)).code).toBe(0);
    expect(await stage.answering(HOST)).toBeUndefined();
    expect((await stage.aws.elb.describeTargetGroups({})).TargetGroups).toEqual([]);
  });
});

describe("a machine whose Docker does not run", () => {
  it("is told so, and of the way without it", async () => {
    const machine = await newInstallation({ dockerSocket: join("/nonexistent", "docker.sock") });
    try {
      const ended = await machine.shipway([
        "up",
        "--data",
        join(machine.dir, "data"),
        "--port",
        new URL(machine.apiUrl).port,
        "--http-port",
        String(machine.httpPort),
      ]);
      expect(ended.code).toBe(75);
      expect(ended.stderr).toContain("Docker does not answer");
      expect(ended.stderr).toContain("shipway up --no-docker");
    } finally {
      await machine.remove();
    }
  });
});
