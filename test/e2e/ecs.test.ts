import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fetchPage, startTraffic, type Traffic } from "../../src/cli/demo-traffic.ts";
import { hasRegistry, newTestRegistry } from "../../src/image/registry/testing.ts";
import { type AwsStage, hasEngine, newAwsStage, TEST_CREDENTIALS } from "../../src/rollout/drivers/ecs/testing.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE, DOCKERFILE, server } from "../sample-app.ts";

/**
 * AWS is played by moto, a scheduler of ours that runs tasks as real containers, a load balancer of ours in front of them, and ECR by Debian's
 * docker-registry: what is proved is the path through Shipway, and that requests survive it; not AWS.
 */
let registry: Awaited<ReturnType<typeof newTestRegistry>>;
let stage: AwsStage;
let platform: Installation;
let port: number;
/** From the first release to the end, whatever happens. */
let traffic: Traffic | undefined;
const canRun = hasEngine && hasRegistry;
beforeAll(async () => {
  if (!canRun) return;
  registry = await newTestRegistry();
  stage = await newAwsStage({ registry: registry.endpoint, containers: "docker", pace: 10 });
  port = Number(new URL(await stage.balancer()).port);
  platform = await newInstallation({
    env: { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: stage.endpoint, SHIPWAY_REGISTRY: registry.endpoint },
  });
  await platform.start();
});
afterAll(async () => {
  await traffic?.stop();
  await platform?.remove();
  await stage?.cleanUp();
  await registry?.cleanUp();
});

const HOST = "shop.example.com";
const spec = (web: object) => {
  const { region, cluster, listener, subnets, securityGroups, executionRole } = stage.settings;
  const aws = { region, cluster, listener, subnets, securityGroups, executionRole, scheme: "http" };
  const health = { path: "/", grace: "60s" };
  return JSON.stringify({
    app: "shop",
    services: {
      web: { build: {}, port: 3000, domains: [HOST], count: 2, secrets: ["API_KEY"], health, ...web },
      worker: { build: { context: "worker" }, health: { grace: "1s" } },
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
const WORKER = 'FROM debian:bookworm-slim\nCMD ["sh", "-c", "while :; do echo works; sleep 1; done"]\n';
const files = (code: string, web: object = {}) => ({
  "shipway.yml": spec(web),
  "bitbucket-pipelines.yml": PIPELINES,
  Dockerfile: DOCKERFILE,
  "server.js": code,
  "worker/Dockerfile": WORKER,
});
/** What the load balancer's answer says, and who gave it. */
const page = async () => (await fetchPage({ port, host: HOST })).body.trim();

describe.skipIf(!canRun)("an environment on ECS", () => {
  let checkout: string;

  it("goes from a push through pipeline, image push, release command and tasks to traffic", async () => {
    const release = 'test "$API_KEY" = swordfish && echo migrated with $API_KEY';
    checkout = await platform.newApp("shop", files(server("one"), { release }));
    await platform.shipway(["secret", "set", "API_KEY", "--env", "production"], checkout, { stdin: "swordfish" });
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("pushing the image of web");
    expect(pushed.stderr).toContain(`http://${HOST}`);
    expect(await page()).toBe("one r1");
    traffic = startTraffic({ port, host: HOST });
    const [deployment] = await platform.deployments("shop");
    expect(deployment).toMatchObject({ status: "succeeded", addresses: [`http://${HOST}`] });
    const log = await platform.shipway(["logs", "--deployment", deployment?.id ?? ""], checkout);
    expect(log.stdout).toContain("migrated with");
    expect(log.stdout).not.toContain("swordfish");
    // Shipway itself runs nothing of it on this machine.
    expect(await platform.containers()).toEqual([]);
  });

  it("moves traffic to the next release and, by the same command as anywhere, back", async () => {
    await platform.commit(checkout, files(server("two")), "two");
    expect((await platform.push(checkout)).code).toBe(0);
    expect(await page()).toBe("two r2");
    const before = await stage.stats();
    const rolledBack = await platform.shipway(["rollback"], checkout);
    expect(rolledBack.code).toBe(0);
    expect(await page()).toBe("one r1");
    // The web tasks of r1 stood by; only its worker is started anew.
    expect((await stage.stats()).started - before.started).toBe(1);
    await platform.shipway(["resume"], checkout);
  });

  it("leaves the old release where it is when the new one is not healthy, and says why in plain words", async () => {
    const code = 'console.log("cannot start: no configuration"); process.exit(1);\n';
    await platform.commit(checkout, files(code), "three");
    const pushed = await platform.push(checkout);
    expect(pushed.stderr.replaceAll(/\s*\nremote:\s*/g, " ")).toContain("It exited with 1.");
    expect(pushed.stderr).toContain("cannot start: no configuration");
    expect(await page()).toBe("one r1");
  });

  it("serves on while Shipway is gone, and goes on where a killed deployment stopped", async () => {
    await platform.commit(checkout, files(server("four")), "four");
    const pushing = platform.push(checkout);
    await until(
      "tasks of r4 are started",
      async () => {
        const deployments = await platform.deployments("shop").catch(() => []);
        return deployments.some((one) => one.release === 4 && one.status === "running");
      },
      { withinMs: 90_000 },
    );
    await platform.kill("SIGKILL");
    await pushing;
    expect(await page()).toBe("one r1");
    await platform.start();
    await until("r4 answers", async () => (await page()) === "four r4", { withinMs: 120_000 });
  });

  it("loses no request in all of that", async () => {
    const counts = await traffic?.stop();
    expect(counts).toMatchObject({ failed: 0, reasons: {} });
    expect(counts?.total).toBeGreaterThan(500);
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
