import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openBucket } from "../../src/aws/bucket.ts";
import { fetchPage } from "../../src/cli/demo-traffic.ts";
import { hasRegistry, newTestRegistry } from "../../src/image/registry/testing.ts";
import { type AwsStage, hasEngine, newAwsStage, TEST_CREDENTIALS } from "../../src/rollout/drivers/ecs/testing.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE, server } from "../sample-app.ts";

/** AWS is played by moto and a scheduler of ours that starts tasks as real containers; ECR by Debian's docker-registry. What is proved is the path through Shipway. */
let registry: Awaited<ReturnType<typeof newTestRegistry>>;
let stage: AwsStage;
let platform: Installation;
const BUCKET = "shop-work";
beforeAll(async () => {
  if (!hasEngine || !hasRegistry) return;
  registry = await newTestRegistry();
  stage = await newAwsStage({ registry: registry.endpoint, containers: "docker" });
  const made = await fetch(`${stage.endpoint}/${BUCKET}`, { method: "PUT" });
  if (!made.ok) throw new Error(`no bucket: ${await made.text()}`);
  // Addresses that Shipway signs are used by tasks, so both must find the emulator at the same place.
  const endpoint = stage.endpointOfTasks ?? "";
  platform = await newInstallation({
    env: { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: endpoint, SHIPWAY_REGISTRY: registry.endpoint },
  });
  await platform.start();
});
afterAll(async () => {
  await platform?.remove();
  await stage?.cleanUp();
  await registry?.cleanUp();
});

const HOST = "shop.example.com";
const PING = `require("net").connect(6379).on("data", (said) => { console.log("redis said " + said); process.exit() }).write("PING\\r\\n")`;
const PIPELINES = `
image: ${BASE_IMAGE}
definitions:
  services:
    cache: { image: "redis:7" }
pipelines:
  default:
    - step:
        name: Test
        services: [cache]
        artifacts: ["report/**"]
        script:
          - node -e '${PING}'
          - mkdir report && echo "all is well" > report/result.txt
    - step: { name: Report, script: [cat report/result.txt] }
`;
const spec = () => {
  const { region, cluster, listener, subnets, securityGroups, executionRole } = stage.settings;
  const aws = { region, cluster, listener, subnets, securityGroups, executionRole, scheme: "http", workBucket: BUCKET };
  return JSON.stringify({
    app: "shop",
    services: { web: { build: {}, port: 3000, domains: [HOST], health: { path: "/", grace: "60s" } } },
    environments: { production: { branch: "main", runtime: "ecs", aws } },
    ci: { steps: "ecs", environment: "production" },
    bake: "1s",
  });
};
const files = (pipelines = PIPELINES) => ({
  "shipway.yml": spec(),
  "bitbucket-pipelines.yml": pipelines,
  Dockerfile: DOCKERFILE,
  "server.js": server("hello"),
});
const objectsLeft = async () => {
  const bucket = await openBucket({ region: stage.settings.region, endpoint: stage.endpoint, bucket: BUCKET });
  return (await bucket.list("")).map(({ key }) => key);
};

describe.skipIf(!hasEngine || !hasRegistry)("an app whose pipeline steps run on Fargate", () => {
  let checkout: string;

  it("goes from a push through a step with redis beside it, and a second with what the first left, to live", async () => {
    checkout = await platform.newApp("shop", files());
    const pushed = await platform.push(checkout);
    expect(pushed).toMatchObject({ code: 0 });
    const log = await platform.shipway(["logs", "--pipeline", "1"], checkout);
    expect(log.stdout).toContain("redis said +PONG");
    expect(log.stdout).toContain("all is well");
    const port = Number(new URL(await stage.balancer()).port);
    expect((await fetchPage({ port, host: HOST })).body.trim()).toBe("hello r1");
    expect(await objectsLeft()).toEqual([expect.stringMatching(/\/ci\/agent\/\w+\.mjs$/)]);
  });

  it("stops at a step that fails, with its command and its lines", async () => {
    const broken = PIPELINES.replace(/node -e .*/, "echo about to fail && exit 3");
    await platform.commit(checkout, files(broken), "broken");
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("about to fail");
    expect(pushed.stderr).toContain("exited with 3");
    expect(await platform.deployments("shop")).toHaveLength(1);
  });

  it("takes everything away with the app", async () => {
    const removed = await platform.shipway(["app", "remove", "shop", "--yes"], join(platform.dir));
    expect(removed.code).toBe(0);
    expect((await stage.aws.ecs.listTaskDefinitions({})).taskDefinitionArns).toEqual([]);
    expect((await stage.aws.logs.describeLogGroups({})).logGroups).toEqual([]);
    expect((await stage.aws.secrets.listSecrets({})).SecretList).toEqual([]);
  });
});
