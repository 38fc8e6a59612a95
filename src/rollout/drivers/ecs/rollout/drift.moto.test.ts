import { execFileSync, spawnSync } from "node:child_process";
import type { UpdateServiceCommandInput } from "@aws-sdk/client-ecs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../../shared/secret.ts";
import { until } from "../../../../shared/until.ts";
import type { Place, Release, ReleaseService } from "../../../release.ts";
import type { DesiredState, RolloutTarget, TaskDrift, TaskVariables } from "../../../target.ts";
import { findRule } from "../account/read-account.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { familyName, logGroupName, serviceName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, TEST_CREDENTIALS, targetOptions } from "../testing.ts";
import { repositoryOf } from "./image-drift.ts";
import { differing } from "./service-drift.ts";
import { groupSettings, MADE_WITH } from "./target-groups.ts";

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

  async function roll(place: Place, release: Release) {
    await target.prepare(place, release);
    for (const service of release.services) await target.startService(place, release, service, VARIABLES);
    const options = { deadlineMs: 20_000, onProgress: () => undefined };
    expect(await target.awaitHealthy(place, release, release.services, options)).toMatchObject({ status: "healthy" });
    await target.shiftTraffic(place, release);
  }

  /** r1 of one service serves in a place of its own. */
  async function serve(changes: Partial<ReleaseService> = {}) {
    const place: Place = { app: "shop", environment: `c${++places}` };
    const release: Release = { app: "shop", number: 1, services: [ecsService(place, "web", "web", changes)] };
    await roll(place, release);
    const desired = (variables = VARIABLES): DesiredState => ({
      live: { release, variables: { web: variables } },
      inProgress: [],
    });
    const service = serviceName("test", place, "web", "b");
    const { cluster, listener } = stage.settings;
    const { Rules = [] } = await stage.aws.elb.describeRules({ ListenerArn: listener });
    const rule = findRule(Rules, "test", place, "web") ?? { arn: "", groups: { a: "", b: "" } };
    const { services } = await stage.aws.ecs.describeServices({ cluster, services: [service] });
    const slot = services?.[0]?.serviceArn ?? "";
    return { place, desired, release, service, slot, rule, family: familyName("test", place, "web", 1) };
  }
  /** Each of its calls is a program that starts. */
  const SLOW = { timeout: 60_000 };
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

  it("in a task definition, by giving the service another, is seen with what differs", SLOW, async () => {
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

  it("in the load balancer, by deleting the rule, is seen and put back", SLOW, async () => {
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

  type Served = Awaited<ReturnType<typeof serve>>;
  type Case = {
    name: string;
    change(served: Served): Promise<unknown>;
    attributes: TaskDrift["attributes"] | ((served: Served) => TaskDrift["attributes"]);
    remedy?: RegExp;
  };
  const [elb, ecs, logs] = [() => stage.aws.elb, () => stage.aws.ecs, () => stage.aws.logs];
  const onService = (service: string, changes: Omit<UpdateServiceCommandInput, "service">) =>
    ecs().updateService({ cluster: stage.settings.cluster, service, ...changes });
  const breaker = (enable: boolean, rollback: boolean) => ({ deploymentCircuitBreaker: { enable, rollback } });
  const hostOf = ({ release }: Served) => ({
    Field: "host-header",
    HostHeaderConfig: { Values: release.services[0]?.hosts ?? [] },
  });

  it.each<Case>([
    {
      name: "conditions of the rule",
      change: (served) =>
        elb().modifyRule({
          RuleArn: served.rule.arn,
          Conditions: [
            hostOf(served),
            { Field: "path-pattern", PathPatternConfig: { Values: ["/admin/*", "/api/*"] } },
            { Field: "http-header", HttpHeaderConfig: { HttpHeaderName: "X-Beta", Values: ["yes"] } },
            { Field: "query-string", QueryStringConfig: { Values: [{ Key: "v", Value: "2" }] } },
          ],
        }),
      attributes: [
        {
          path: "rule.conditions",
          before: "(not set)",
          after: "path-pattern /admin/*, /api/*; http-header X-Beta yes; query-string v=2",
        },
      ],
    },
    {
      name: "where the rule leads, beside the two slots",
      change: async ({ rule }) => {
        const { TargetGroups } = await elb().createTargetGroup({
          Name: `foreign-${++places}`,
          Protocol: "HTTP",
          Port: 80,
          VpcId: (await elb().describeLoadBalancers({})).LoadBalancers?.[0]?.VpcId,
          TargetType: "ip",
        });
        const shares = [rule.groups.b, TargetGroups?.[0]?.TargetGroupArn ?? ""];
        const TargetGroupsOf = [
          { TargetGroupArn: rule.groups.a, Weight: 0 },
          ...shares.map((TargetGroupArn) => ({ TargetGroupArn, Weight: 100 })),
        ];
        const TargetGroupStickinessConfig = { Enabled: true, DurationSeconds: 60 };
        await elb().modifyRule({
          RuleArn: rule.arn,
          Actions: [{ Type: "forward", ForwardConfig: { TargetGroups: TargetGroupsOf, TargetGroupStickinessConfig } }],
        });
      },
      attributes: [
        { path: "rule.targetGroups", before: "(not set)", after: expect.stringContaining("targetgroup/foreign-") },
        { path: "rule.stickiness", before: "(not set)", after: "on" },
      ],
    },
  ])("$name: is seen, and put back by itself", async ({ change, attributes }) => {
    const served = await serve();
    await change(served);
    const [found, ...others] = await target.findDrift(served.place, served.desired());
    expect({ found, others }).toMatchObject({ found: { kind: "changed", attributes, mendsItself: true }, others: [] });
    const mended: string[] = [];
    await until("it is put back", async () => {
      mended.push(...(await target.reconcile(served.place, served.desired())));
      return mended.length > 0;
    });
    expect(await target.findDrift(served.place, served.desired())).toEqual([]);
  });

  it.each<Case>([
    {
      name: "the rule's number",
      change: ({ rule }) => elb().setRulePriorities({ RulePriorities: [{ RuleArn: rule.arn, Priority: 7 }] }),
      attributes: [{ path: "rule.priority", before: expect.stringMatching(/^1\d{3}$/), after: "7" }],
      remedy: /set-rule-priorities --rule-priorities RuleArn=.*,Priority=1\d{3}/,
    },
    {
      name: "the circuit breaker and how many tasks a deployment keeps",
      change: ({ service }) =>
        onService(service, {
          deploymentConfiguration: { minimumHealthyPercent: 50, maximumPercent: 150, ...breaker(true, true) },
        }),
      attributes: [
        { path: "deployment.minimumHealthyPercent", before: "100 %", after: "50 %" },
        { path: "deployment.maximumPercent", before: "200 %", after: "150 %" },
        { path: "deployment.circuitBreaker", before: "on", after: "on, and rolls back" },
      ],
      remedy: /The next release runs as declared again/,
    },
    {
      name: "the capacity it runs on",
      change: ({ service }) =>
        onService(service, {
          capacityProviderStrategy: [
            { capacityProvider: "FARGATE", base: 1, weight: 0 },
            { capacityProvider: "FARGATE_SPOT", weight: 1 },
          ],
        }),
      attributes: [{ path: "capacity", before: "FARGATE", after: "FARGATE the first 1, FARGATE_SPOT weight 1" }],
    },
    {
      name: "what its tasks are tagged with",
      change: ({ service }) => onService(service, { propagateTags: "NONE", enableECSManagedTags: false }),
      attributes: [
        { path: "propagateTags", before: "SERVICE", after: "NONE" },
        { path: "managedTags", before: "on", after: "off" },
      ],
    },
    {
      name: "how long checks are waited for, and in which zones it is kept even",
      change: ({ service }) =>
        onService(service, { healthCheckGracePeriodSeconds: 2_000, availabilityZoneRebalancing: "DISABLED" }),
      attributes: [
        { path: "healthCheckGracePeriod", before: expect.stringMatching(/^\d+ s$/), after: "2000 s" },
        { path: "zoneRebalancing", before: "ENABLED", after: "DISABLED" },
      ],
    },
    {
      name: "tags of the ECS service",
      change: async ({ slot }) => {
        await ecs().untagResource({ resourceArn: slot, tagKeys: ["shipway:app"] });
        await ecs().tagResource({
          resourceArn: slot,
          tags: [
            { key: "shipway:service", value: "api" },
            { key: "team", value: "a" },
          ],
        });
      },
      attributes: [
        { path: "tags.shipway:app", before: "shop", after: "(not set)" },
        { path: "tags.shipway:service", before: "web", after: "api" },
      ],
    },
    {
      name: "the target group's check",
      change: ({ rule }) =>
        elb().modifyTargetGroup({
          TargetGroupArn: rule.groups.b,
          HealthCheckPath: "/ping",
          HealthCheckIntervalSeconds: 60,
          HealthCheckTimeoutSeconds: 40,
          HealthyThresholdCount: 9,
          UnhealthyThresholdCount: 8,
          Matcher: { HttpCode: "204" },
        }),
      attributes: [
        { path: "health.path", before: "/", after: "/ping" },
        { path: "health.codes", before: "200-499", after: "204" },
        { path: "health.interval", before: "5 s", after: "60 s" },
        { path: "health.timeout", before: "2 s", after: "40 s" },
        { path: "health.healthy", before: "2", after: "9" },
        { path: "health.unhealthy", before: "2", after: "8" },
      ],
      remedy: /shipway deploy --app shop --env c\d+/,
    },
    {
      name: "attributes of the target group",
      change: ({ rule }) =>
        elb().modifyTargetGroupAttributes({
          TargetGroupArn: rule.groups.b,
          Attributes: [
            { Key: "deregistration_delay.timeout_seconds", Value: "600" },
            { Key: "stickiness.enabled", Value: "true" },
          ],
        }),
      attributes: [
        { path: "targetGroup.deregistrationDelay", before: "30 s", after: "600 s" },
        { path: "targetGroup.stickiness", before: "off", after: "on" },
      ],
      remedy: /shipway deploy --app shop --env c\d+/,
    },
    {
      name: "tags of the target group",
      change: ({ rule }) => elb().removeTags({ ResourceArns: [rule.groups.b], TagKeys: ["shipway:install"] }),
      attributes: [{ path: "targetGroup.tags.shipway:install", before: "test", after: "(not set)" }],
      remedy: /aws elbv2 add-tags --resource-arns .* --tags Key=shipway:install,Value=test/,
    },
    {
      name: "tags of the rule",
      change: ({ rule }) => elb().removeTags({ ResourceArns: [rule.arn], TagKeys: ["shipway:service"] }),
      attributes: [{ path: "rule.tags.shipway:service", before: "web", after: "(not set)" }],
      remedy: /add-tags .*Key=shipway:service,Value=web/,
    },
    {
      name: "how long lines are kept",
      change: ({ place }) =>
        logs().putRetentionPolicy({ logGroupName: logGroupName("test", place), retentionInDays: 1 }),
      attributes: [{ path: "logs.retention", before: "30 days", after: "1 days" }],
      remedy: /The next deployment sets it as declared/,
    },
    {
      name: "tags of the log group",
      change: async ({ place }) => {
        const { logGroups } = await logs().describeLogGroups({ logGroupNamePrefix: logGroupName("test", place) });
        const resourceArn = (logGroups?.[0]?.arn ?? "").replace(/:\*$/, "");
        await logs().untagResource({ resourceArn, tagKeys: ["shipway:environment"] });
      },
      attributes: ({ place }) => [
        { path: "logs.tags.shipway:environment", before: place.environment, after: "(not set)" },
      ],
      remedy: /aws logs tag-resource .* --tags shipway:environment=c\d+/,
    },
  ])("$name: is seen, and not undone", async ({ change, attributes, remedy = /as declared/ }) => {
    const served = await serve();
    await change(served);
    const drift = await target.findDrift(served.place, served.desired());
    const wanted = typeof attributes === "function" ? attributes(served) : attributes;
    expect(summed(drift)).toEqual([
      { name: `shop.${served.place.environment}.web.r1-1`, kind: "changed", attributes: wanted, mendsItself: false },
    ]);
    expect(drift[0]?.remedy).toMatch(remedy);
    expect(await target.reconcile(served.place, served.desired())).toEqual([]);
  });

  it("is gone with the next release, in the slot that it starts in, too", async () => {
    const served = await serve();
    const { place, release, rule, service } = served;
    const next: Release = { ...release, number: 2 };
    const after: Release = { ...release, number: 3 };
    await onService(service, {
      deploymentConfiguration: { minimumHealthyPercent: 0, ...breaker(false, false) },
      propagateTags: "NONE",
    });
    await ecs().untagResource({ resourceArn: served.slot, tagKeys: ["shipway:environment"] });
    await elb().modifyTargetGroup({ TargetGroupArn: rule.groups.b, HealthCheckPath: "/ping" });
    const Attributes = [{ Key: "stickiness.enabled", Value: "true" }];
    await elb().modifyTargetGroupAttributes({ TargetGroupArn: rule.groups.b, Attributes });
    await logs().putRetentionPolicy({ logGroupName: logGroupName("test", place), retentionInDays: 1 });
    for (const one of [next, after]) await roll(place, one);
    const live = { release: after, variables: { web: VARIABLES } };
    expect(await target.findDrift(place, { live, standby: next, inProgress: [] })).toEqual([]);
  });

  it("in the image's repository is seen, and told with the command that puts it back", async () => {
    const { region, executionRole } = stage.settings;
    const repositoryName = "shipway/test/shop/web";
    const image = `${executionRole.split(":")[4]}.dkr.ecr.${region}.amazonaws.com/${repositoryName}:1`;
    const { place, desired } = await serve({ image });
    const ecr = await stage.aws.ecr();
    // None is there: tasks that cannot fetch their image say so by themselves.
    expect(await target.findDrift(place, desired())).toEqual([]);
    const imageScanningConfiguration = { scanOnPush: true };
    await ecr.createRepository({ repositoryName, imageTagMutability: "IMMUTABLE", imageScanningConfiguration });
    expect(await target.findDrift(place, desired())).toEqual([]);
    await ecr.putImageTagMutability({ repositoryName, imageTagMutability: "MUTABLE" });
    await ecr.putImageScanningConfiguration({
      repositoryName,
      imageScanningConfiguration: { scanOnPush: false },
    });
    const [found] = await target.findDrift(place, desired());
    expect(found).toMatchObject({
      kind: "changed",
      mendsItself: false,
      attributes: [
        { path: "image.tags", before: "IMMUTABLE", after: "MUTABLE" },
        { path: "image.scanOnPush", before: "on", after: "off" },
      ],
    });
    expect(found?.remedy).toContain(
      "`aws ecr put-image-tag-mutability --image-tag-mutability IMMUTABLE --repository-name shipway/test/shop/web`",
    );
  });

  it("in target groups and logs is asked for by those who ask, in one call for all but their attributes", async () => {
    const asked: string[] = [];
    const own = await openEcsTarget(
      targetOptions(stage, {
        times: { ...targetOptions(stage).times, steadyMs: 60_000 },
        aws: { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall: ({ command }) => void asked.push(command) },
      }),
    );
    const { place, desired } = await serve();
    await own.findDrift(place, desired());
    const ASKED = /TargetGroup|Tags|LogGroup/;
    expect(asked.filter((command) => ASKED.test(command)).sort()).toEqual([
      "DescribeLogGroups",
      "DescribeTags",
      "DescribeTargetGroupAttributes",
      "DescribeTargetGroups",
      "ListTagsForResource",
    ]);
    asked.length = 0;
    expect(await own.findDrift(place, desired(), { mayBeOldMs: 60_000 })).toEqual([]);
    expect(asked.filter((command) => ASKED.test(command))).toEqual([]);
  });
});

it.each([
  ["123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway/own/shop/web@sha256:0123", "shipway/own/shop/web"],
  ["123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway/own/shop/web:3f", "shipway/own/shop/web"],
  ["123456789012.dkr.ecr.eu-central-1.amazonaws.com/shipway/other/shop/web:3f", undefined],
  ["123456789012.dkr.ecr.eu-west-1.amazonaws.com/shipway/own/shop/web:3f", undefined],
  ["999999999999.dkr.ecr.eu-central-1.amazonaws.com/shipway/own/shop/web:3f", undefined],
  ["127.0.0.1:5000/shipway/own/shop/web:3f", undefined],
  ["shop:1", undefined],
])("%s is an image of our repository %s", (image, name) => {
  const executionRole = "arn:aws:iam::123456789012:role/exec";
  expect(repositoryOf("own", { region: "eu-central-1", executionRole }, image)).toBe(name);
});

it("a target group that somebody made anew under its name says so by what AWS changes of none", () => {
  const anew = { Port: 8_080, Protocol: "HTTPS", TargetType: "ip", HealthCheckProtocol: "HTTPS" } as const;
  expect(differing(MADE_WITH, groupSettings(anew))).toEqual([
    { path: "targetGroup.protocol", before: "HTTP", after: "HTTPS" },
    { path: "targetGroup.port", before: "80", after: "8080" },
    { path: "targetGroup.checkProtocol", before: "HTTP", after: "HTTPS" },
  ]);
});
