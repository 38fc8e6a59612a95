import { execFileSync, spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../../shared/secret.ts";
import { until } from "../../../../shared/until.ts";
import type { Place, Release } from "../../../release.ts";
import type { DesiredState, RolloutTarget, TaskVariables } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { familyName, serviceName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, TEST_CREDENTIALS, targetOptions } from "../testing.ts";

const hasCli = spawnSync("aws", ["--version"], { stdio: "ignore" }).status === 0;
if (!hasCli) console.warn("SKIPPED: changes made by AWS's own command line. They need: pip install awscli");

const VARIABLES: TaskVariables = {
  env: { MODE: "calm" },
  secrets: { DB_URL: new Secret("DB_URL", "mysql://first") },
  references: { MAIL_TOKEN: "/shop/mail" },
};

describe.skipIf(!hasMoto || !hasCli)("what somebody changed with AWS's own command line", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await openEcsTarget(targetOptions(stage));
    aws("ssm", "put-parameter", "--name", "/shop/mail", "--value", "s3cret", "--type", "SecureString");
  });
  afterAll(async () => stage?.cleanUp());

  /** r1 of one service serves in a place of its own. */
  async function serve() {
    const place: Place = { app: "shop", environment: `c${++places}` };
    const release: Release = { app: "shop", number: 1, services: [ecsService(place, "web", "web")] };
    await target.prepare(place, release);
    for (const service of release.services) await target.startService(place, release, service, VARIABLES);
    const options = { deadlineMs: 20_000, onProgress: () => undefined };
    expect(await target.awaitHealthy(place, release, release.services, options)).toMatchObject({ status: "healthy" });
    await target.shiftTraffic(place, release);
    const desired = (variables = VARIABLES): DesiredState => ({
      live: { release, variables: { web: variables } },
      inProgress: [],
    });
    const service = serviceName("test", place, "web", "b");
    return { place, desired, service, family: familyName("test", place, "web", 1) };
  }
  /** Not awaited by the stage: the command line is a process that asks by itself. */
  const aws = (...args: string[]) =>
    JSON.parse(
      execFileSync("aws", [...args, "--endpoint-url", stage.endpoint, "--region", stage.settings.region], {
        encoding: "utf8",
        env: { ...process.env, ...TEST_CREDENTIALS },
      }) || "{}",
    );
  const summed = (drift: Awaited<ReturnType<RolloutTarget["findDrift"]>>) =>
    drift.map(({ name, kind, attributes, mendsItself }) => ({ name, kind, attributes, mendsItself }));

  it("in a task definition, by registering another and pointing the service at it, is seen with what differs", async () => {
    const { place, desired, service, family } = await serve();
    expect(await target.findDrift(place, desired())).toEqual([]);
    const { taskDefinition } = aws("ecs", "describe-task-definition", "--task-definition", family);
    const [container] = taskDefinition.containerDefinitions;
    const changed = {
      family,
      requiresCompatibilities: ["FARGATE"],
      networkMode: "awsvpc",
      cpu: "512",
      memory: "1024",
      executionRoleArn: taskDefinition.executionRoleArn,
      runtimePlatform: taskDefinition.runtimePlatform,
      containerDefinitions: [
        {
          ...container,
          image: "shop:by-hand",
          environment: [...container.environment, { name: "DEBUG", value: "s3cret" }],
        },
      ],
    };
    const made = aws("ecs", "register-task-definition", "--cli-input-json", JSON.stringify(changed));
    const arn = made.taskDefinition.taskDefinitionArn;
    aws("ecs", "update-service", "--cluster", stage.settings.cluster, "--service", service, "--task-definition", arn);
    const drift = await target.findDrift(place, desired());
    expect(summed(drift)).toEqual([
      {
        name: `shop.${place.environment}.web.r1-1`,
        kind: "changed",
        attributes: [
          { path: "image", before: "shop:1", after: "shop:by-hand" },
          { path: "cpu", before: "256", after: "512" },
          { path: "memory", before: "512", after: "1024" },
          { path: "env.DEBUG", before: "(not set)", after: "(hidden)" },
        ],
        mendsItself: false,
      },
    ]);
    expect(drift[0]?.remedy).toContain(`shipway deploy --app shop --env ${place.environment}`);
    expect(JSON.stringify(drift)).not.toContain("s3cret");
    // It is shown, not undone: somebody may have had a reason.
    expect(await target.reconcile(place, desired())).toEqual([]);
  });

  it("in the load balancer, by deleting the rule, is seen and put back", async () => {
    const { place, desired } = await serve();
    const [host = ""] = desired().live?.release.services[0]?.hosts ?? [];
    expect(await stage.answering(host)).toBe(1);
    const { Rules } = aws("elbv2", "describe-rules", "--listener-arn", stage.settings.listener);
    const rule = Rules.find((one: { Conditions: unknown }) => JSON.stringify(one.Conditions).includes(host));
    aws("elbv2", "delete-rule", "--rule-arn", rule.RuleArn);
    expect(summed(await target.findDrift(place, desired()))).toEqual([
      { name: `shop.${place.environment}.web.r1-1`, kind: "no-traffic", attributes: [], mendsItself: true },
    ]);
    const mended: string[] = [];
    await until("it is put back", async () => {
      mended.push(...(await target.reconcile(place, desired())));
      return mended.length > 0;
    });
    expect(mended).toEqual(["moved traffic back to r1"]);
    expect(await stage.answering(host)).toBe(1);
    expect(await target.findDrift(place, desired())).toEqual([]);
  });

  it("is told from variables that were declared anew since, whose secrets are not shown", async () => {
    const { place, desired } = await serve();
    const anew = {
      env: { MODE: "busy" },
      secrets: { DB_URL: new Secret("DB_URL", "mysql://second") },
      references: { MAIL_TOKEN: "/shop/mail-2" },
    };
    const drift = await target.findDrift(place, desired(anew));
    expect(summed(drift)).toEqual([
      {
        name: `shop.${place.environment}.web.r1-1`,
        kind: "outdated",
        attributes: [
          { path: "env.MODE", before: "busy", after: "calm" },
          { path: "secrets.DB_URL", before: "(hidden)", after: "(another value, hidden)" },
          { path: "secrets.MAIL_TOKEN", before: "/shop/mail-2", after: "/shop/mail" },
        ],
        mendsItself: false,
      },
    ]);
    expect(JSON.stringify(drift)).not.toMatch(/mysql/);
  });
});
