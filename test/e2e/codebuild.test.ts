import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type BuildStage, hasBuildStage, newBuildStage } from "../../src/image/drivers/codebuild/testing.ts";
import { TEST_CREDENTIALS } from "../../src/rollout/drivers/ecs/testing.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { DOCKERFILE, server } from "../sample-app.ts";

/** AWS is played by moto and stand-ins of ours (`test/aws`), ECR by Debian's docker-registry; builds are really made, by the stand-in for CodeBuild. */
let aws: BuildStage;
const installations: Installation[] = [];
beforeAll(async () => {
  if (hasBuildStage) aws = await newBuildStage();
});
afterAll(async () => {
  for (const one of installations) await one.remove();
  await aws?.cleanUp();
});

async function startPlatform(options: Parameters<typeof newInstallation>[0]): Promise<Installation> {
  const env = { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: aws.stage.endpoint, SHIPWAY_REGISTRY: aws.registryEndpoint };
  const platform = await newInstallation({ env, ...options });
  installations.push(platform);
  await platform.start();
  return platform;
}

const HOST = "shop.example.com";
const HEALTH = { path: "/healthz", grace: "20s" };
const onEcs = (branch: string) => {
  const { region, cluster, listener, subnets, securityGroups, executionRole } = aws.stage.settings;
  const { workBucket, buildProject } = aws.settings;
  const ground = { region, cluster, listener, subnets, securityGroups, executionRole, scheme: "http" };
  return { branch, runtime: "ecs", aws: { ...ground, workBucket, buildProject } };
};
const spec = (app: string, environments: object, service: object) =>
  JSON.stringify({
    app,
    services: { web: { build: {}, port: 3000, health: HEALTH, ...service } },
    environments,
    ci: { images: "codebuild", environment: "production" },
    bake: "1s",
  });
const unwrapped = (text: string) => text.replaceAll(/\s*\nremote:\s*/g, " ");
/** What the newest build of an app's service has printed so far. */
async function buildLog(platform: Installation, app: string): Promise<string> {
  const events = await platform.api<{ kind: string; deliveryId: string }[]>(`/api/events?app=${app}&limit=1000`);
  const id = events.filter(({ kind }) => kind === "image.started").at(-1)?.deliveryId ?? "";
  return (await platform.shipway(["logs", "--build", id, "--service", "web", "--app", app])).stdout;
}

describe.skipIf(!hasBuildStage)(
  "an app whose images are built in CodeBuild, on a Shipway without a Docker Engine",
  () => {
    let platform: Installation;
    let checkout: string;
    const files = (dockerfile = DOCKERFILE) => ({
      "shipway.yml": spec("shop", { production: onEcs("main") }, { domains: [HOST] }),
      Dockerfile: dockerfile,
      "server.js": `// ${aws.settings.workBucket}\n`,
    });

    it("goes live by a push, its build's steps in the push's output", async () => {
      platform = await startPlatform({ dockerSocket: join("/nonexistent", "docker.sock"), up: ["--no-docker"] });
      checkout = await platform.newApp("shop", files());
      expect((await platform.shipway(["check"], checkout)).code).toBe(0);
      const pushed = await platform.push(checkout);
      expect(pushed.stderr).toContain(`http://${HOST}`);
      expect(await aws.stage.answering(HOST)).toBe(1);
      expect(await aws.startedBuilds()).toHaveLength(1);
    });

    it("builds nothing for content that was built before", async () => {
      await platform.commit(checkout, { "shipway.yml": `${files()["shipway.yml"]}\n` }, "the same image");
      expect((await platform.push(checkout)).stderr).toContain(`http://${HOST}`);
      const builds = await aws.startedBuilds();
      await platform.commit(checkout, { ".dockerignore": "README.md\nshipway.yml\n" }, "another");
      expect((await platform.push(checkout)).stderr).toContain(`http://${HOST}`);
      expect((await aws.startedBuilds()).length).toBe(builds.length + 1);
    });

    it("says which line of its Dockerfile failed", async () => {
      await platform.commit(checkout, files(`${DOCKERFILE}RUN echo last words && exit 4\n`), "broken");
      const pushed = await platform.push(checkout);
      expect(unwrapped(pushed.stderr)).toContain("RUN echo last words && exit 4 ended with exit code 4");
      expect(pushed.stderr).toContain("last words");
    });

    it("follows the build that went on while Shipway was killed, and loses and doubles no line of it", async () => {
      const slow = `${DOCKERFILE}RUN for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 0.5; done\n`;
      await platform.commit(checkout, files(slow), "slow");
      const before = (await aws.startedBuilds()).length;
      const pushing = platform.push(checkout);
      await until("the build began", async () => (await aws.startedBuilds()).length > before, { withinMs: 60_000 });
      await until("its first lines are there", async () => (await logOf()).includes("line 2"), { withinMs: 60_000 });
      await platform.kill("SIGKILL");
      await pushing;
      await platform.start();
      const isOver = async () =>
        (await platform.deployments("shop")).some((one) => one.release === 4 && one.status === "succeeded");
      await until("it is live", isOver, { withinMs: 90_000 });
      expect((await logOf()).match(/line \d/g)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `line ${n}`));
      expect(await aws.startedBuilds()).toHaveLength(before + 1);
    });

    const logOf = () => buildLog(platform, "shop");
  },
);

describe.skipIf(!hasBuildStage)("an app whose images are built in CodeBuild, in an environment on Docker", () => {
  it("runs what was built there, pulled from the registry, and no build of this machine's engine", async () => {
    const platform = await startPlatform({});
    const environments = { production: onEcs("release"), staging: { branch: "main" } };
    const text = `built for ${aws.settings.workBucket}`;
    const before = (await aws.startedBuilds()).length;
    const checkout = await platform.newApp("mixed", {
      "shipway.yml": spec("mixed", environments, { health: { path: "/" } }),
      Dockerfile: DOCKERFILE,
      "server.js": server(text),
    });
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("pulling the image of web");
    expect((await platform.page("web.staging.mixed.localhost")).body).toContain(text);
    expect(await aws.startedBuilds()).toHaveLength(before + 1);
    const [container] = await platform.docker.listContainers({ filters: { label: ["shipway.app=mixed"] } });
    const image = await platform.docker.getImage(container?.ImageID ?? "").inspect();
    expect(image.RepoDigests).toEqual([
      expect.stringMatching(/^127\.0\.0\.1:\d+\/shipway\/[a-z0-9]+\/mixed\/web@sha256:/),
    ]);
  });
});
