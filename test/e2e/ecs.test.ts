import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasRegistry, newTestRegistry } from "../../src/image/registry/testing.ts";
import { type AwsStage, hasMoto, newAwsStage, TEST_CREDENTIALS } from "../../src/rollout/drivers/ecs/testing.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE } from "../sample-app.ts";

/** AWS is played by moto and a scheduler of ours, ECR by Debian's docker-registry: what is proved is the path through Shipway, not AWS. */
let registry: Awaited<ReturnType<typeof newTestRegistry>>;
let stage: AwsStage;
let platform: Installation;
beforeAll(async () => {
  if (!hasMoto || !hasRegistry) return;
  registry = await newTestRegistry();
  stage = await newAwsStage({ registry: registry.endpoint });
  platform = await newInstallation({
    env: { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: stage.endpoint, SHIPWAY_REGISTRY: registry.endpoint },
  });
  await platform.start();
});
afterAll(async () => {
  await platform?.remove();
  await stage?.cleanUp();
  await registry?.cleanUp();
});

const HOST = "shop.example.com";
const spec = (env: Record<string, string> = {}) => {
  const { region, cluster, listener, subnets, securityGroups, executionRole } = stage.settings;
  const aws = { region, cluster, listener, subnets, securityGroups, executionRole, scheme: "http" };
  return JSON.stringify({
    app: "shop",
    services: {
      web: {
        build: {},
        port: 3000,
        domains: [HOST],
        count: 2,
        secrets: ["API_KEY"],
        release: "echo migrated with $API_KEY",
        health: { path: "/healthz", grace: "20s" },
        env,
      },
      worker: { build: {}, command: ["node", "worker.js"] },
    },
    environments: { production: { branch: "main", runtime: "ecs", aws } },
    bake: "1s",
  });
};
const PIPELINES = `
image: ${BASE_IMAGE}
pipelines:
  default:
    - step: { name: Test, script: ["node -e 'process.exit(0)'"] }
`;
const files = (version: string, env?: Record<string, string>) => ({
  "shipway.yml": spec(env),
  "bitbucket-pipelines.yml": PIPELINES,
  Dockerfile: DOCKERFILE,
  "server.js": `// ${version}\n`,
});
const answers = () => stage.answering(HOST);

describe.skipIf(!hasMoto || !hasRegistry)("an environment on ECS", () => {
  let checkout: string;

  it("goes from a push through pipeline, image push, release command and tasks to traffic", async () => {
    checkout = await platform.newApp("shop", files("one"));
    await platform.shipway(["secret", "set", "API_KEY", "--env", "production"], checkout, { stdin: "swordfish" });
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("pushing the image of web");
    expect(pushed.stderr).toContain(`http://${HOST}`);
    expect(await answers()).toBe(1);
    const [deployment] = await platform.deployments("shop");
    expect(deployment).toMatchObject({ status: "succeeded", addresses: [`http://${HOST}`] });
    const log = await platform.shipway(["logs", "--deployment", deployment?.id ?? ""], checkout);
    expect(log.stdout).not.toContain("swordfish");
    // Nothing of it runs on this machine.
    expect(await platform.containers()).toEqual([]);
  });

  it("moves traffic to the next release and, by the same command as anywhere, back", async () => {
    await platform.commit(checkout, files("two"), "two");
    expect((await platform.push(checkout)).code).toBe(0);
    expect(await answers()).toBe(2);
    const before = await stage.stats();
    const rolledBack = await platform.shipway(["rollback"], checkout);
    expect(rolledBack.code).toBe(0);
    expect(await answers()).toBe(1);
    // The web tasks of r1 stood by; only its worker is started anew.
    expect((await stage.stats()).started - before.started).toBe(1);
    await platform.shipway(["resume"], checkout);
  });

  it("leaves the old release where it is when the new one is not healthy, and says why in plain words", async () => {
    await platform.commit(checkout, files("three", { BEHAVE: "exits" }), "three");
    const pushed = await platform.push(checkout);
    expect(pushed.stderr.replaceAll(/\s*\nremote:\s*/g, " ")).toContain("It exited with 1.");
    expect(pushed.stderr).toContain("cannot start: no configuration");
    expect(await answers()).toBe(1);
  });

  it("serves on while Shipway is gone, and goes on where a killed deployment stopped", async () => {
    await platform.commit(checkout, files("four"), "four");
    const pushing = platform.push(checkout);
    const starting = () =>
      until(
        "tasks of r4 are started",
        async () => {
          const deployments = await platform.deployments("shop").catch(() => []);
          return deployments.some((one) => one.release === 4 && one.status === "running");
        },
        { withinMs: 60_000 },
      );
    await starting();
    await platform.kill("SIGKILL");
    await pushing;
    expect(await answers()).toBe(1);
    await platform.start();
    await until("r4 answers", async () => (await answers()) === 4, { withinMs: 90_000 });
  });

  it("takes everything away with the app", async () => {
    await until(
      "nothing is under way",
      async () => (await platform.deployments("shop")).every((one) => one.status !== "running"),
      { withinMs: 60_000 },
    );
    const removed = await platform.shipway(["app", "remove", "shop", "--yes"], join(platform.dir));
    expect(removed.code).toBe(0);
    const { aws, settings } = stage;
    const { serviceArns } = await aws.ecs.listServices({ cluster: settings.cluster, maxResults: 100 });
    const { services } = await aws.ecs.describeServices({ cluster: settings.cluster, services: serviceArns ?? [] });
    await until("the services are gone", async () => {
      const seen = await aws.ecs.describeServices({ cluster: settings.cluster, services: serviceArns ?? [] });
      return seen.services?.every((one) => one.status === "INACTIVE");
    });
    expect(services?.length).toBe(4);
    expect((await aws.elb.describeTargetGroups({})).TargetGroups).toEqual([]);
    expect((await aws.elb.describeRules({ ListenerArn: settings.listener })).Rules).toHaveLength(1);
    expect((await aws.ecs.listTaskDefinitions({})).taskDefinitionArns).toEqual([]);
    expect((await aws.logs.describeLogGroups({})).logGroups).toEqual([]);
  });
});
