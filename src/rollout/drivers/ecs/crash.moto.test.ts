import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../shared/secret.ts";
import type { Place, Release } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type Fate, newFaultProxy } from "./fault-testing.ts";
import { runFamilyName, secretName, servicePrefix } from "./names.ts";
import { findRule } from "./read-account.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "./testing.ts";

/** Dozens of whole deployments on an emulator that answers one call at a time. */
const MINUTES = 400_000;

describe.skipIf(!hasMoto)("a driver that is killed after any write of its work", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await openEcsTarget(targetOptions(stage));
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `k${++places}` });

  it("deploys to the same end, with nothing done twice", { timeout: MINUTES }, async () => {
    await everyKill({
      arrange: (place) => deploy(target, place, 1),
      act: (on, place) => deploy(on, place, 2),
      atLeastWrites: 13,
    });
  });

  it("rolls back to the same end", { timeout: MINUTES }, async () => {
    await everyKill({
      arrange: async (place) => {
        await deploy(target, place, 1);
        await deploy(target, place, 2);
      },
      act: async (on, place) => {
        const before = newRelease(place, 1);
        const { missing } = await on.wake(place, before);
        expect(missing).toEqual([]);
        await on.shiftTraffic(place, before);
        await startWorkers(on, place, before);
        await on.park(place, newRelease(place, 2));
      },
      atLeastWrites: 4,
    });
  });

  it("destroys until nothing is left", { timeout: MINUTES }, async () => {
    const left = await everyKill({
      arrange: (place) => deploy(target, place, 1),
      act: async (on, place) => void (await on.destroy(place, "remove")),
      atLeastWrites: 10,
    });
    expect(left).toEqual({
      observed: [],
      rules: [],
      targetGroups: 0,
      services: [],
      definitions: 0,
      runs: 0,
      secrets: 0,
      logGroups: 0,
    });
  });

  it("ends the same when calls are throttled, fail or lose their answer, and it goes on by itself", async () => {
    const calm = newPlace();
    await deploy(target, calm, 1);
    const expected = await stateOf(calm);
    const seen = new Set<string>();
    const fates: Fate[] = ["lost", "throttled", "broken"];
    const place = newPlace();
    // The first attempt of each kind of call goes wrong, in turn in each way.
    const proxy = await newFaultProxy(stage.endpoint, ({ name }) => {
      if (seen.has(name)) return "pass";
      seen.add(name);
      return fates[seen.size % fates.length] ?? "pass";
    });
    const on = await openEcsTarget(
      targetOptions(stage, { aws: { endpoint: proxy.endpoint, attempts: 4, speed: 1_000 } }),
    );
    await deploy(on, place, 1);
    await proxy.close();
    expect(await stateOf(place)).toEqual(expected);
    expect(seen.size).toBeGreaterThan(20);
    await Promise.all([target.destroy(place, "remove"), target.destroy(calm, "remove")]);
  });

  /** Does the work undisturbed, then once for each of its writes with a driver whose answer is lost and which is gone then, and again with a new one. @returns the state it ends in */
  async function everyKill(work: {
    arrange(place: Place): Promise<void>;
    act(on: RolloutTarget, place: Place): Promise<void>;
    atLeastWrites: number;
  }) {
    const calm = newPlace();
    await work.arrange(calm);
    const counted = await through(
      () => "pass",
      (on) => work.act(on, calm),
    );
    const expected = await stateOf(calm);
    // What is killed behind a read is in the same position as behind the write before it: the driver keeps nothing that it needs.
    const writes = counted.calls.flatMap((name, index) => (isRead(name) ? [] : [index + 1]));
    expect(writes.length).toBeGreaterThanOrEqual(work.atLeastWrites);
    for (const kill of [1, ...writes]) {
      const place = newPlace();
      await work.arrange(place);
      const cut = await through(
        ({ n }) => (n < kill ? "pass" : n === kill ? "lost" : "refused"),
        (on) => work.act(on, place),
      );
      // How often it looks depends on the tasks: one that was done before the kill is no case.
      if (cut.error === undefined) continue;
      await work.act(target, place);
      expect(await stateOf(place), `killed after call ${kill}, ${cut.calls.at(kill - 1)}`).toEqual(expected);
      await target.destroy(place, "remove");
    }
    await target.destroy(calm, "remove");
    return expected;
  }

  async function through(fateOf: (call: { n: number }) => Fate, act: (on: RolloutTarget) => Promise<void>) {
    const proxy = await newFaultProxy(stage.endpoint, fateOf);
    const on = await openEcsTarget(
      targetOptions(stage, { aws: { endpoint: proxy.endpoint, attempts: 1, speed: 1_000 } }),
    );
    const error = await act(on).then(
      () => undefined,
      (thrown: unknown) => thrown ?? new Error("rejected with nothing"),
    );
    await proxy.close();
    return { calls: proxy.calls, error };
  }

  /** What somebody else sees in the account. */
  async function stateOf(place: Place) {
    const { aws, settings } = stage;
    const { cluster } = settings;
    const prefix = servicePrefix("test", place);
    const observed = (await target.observe(place)).map(
      ({ release, service, traffic, tasks }) => `r${release} ${service} ${traffic} ${tasks.length}`,
    );
    const { Rules } = await aws.elb.describeRules({ ListenerArn: settings.listener });
    const rule = findRule(Rules ?? [], "test", place, "web");
    const ofPlace = (Rules ?? []).filter((one) => findRule([one], "test", place, "web") !== undefined);
    const { TargetGroups } = await aws.elb.describeTargetGroups({});
    const groups = await Promise.all(
      (TargetGroups ?? []).map(async ({ TargetGroupArn = "" }) => {
        const { TagDescriptions } = await aws.elb.describeTags({ ResourceArns: [TargetGroupArn] });
        return TagDescriptions?.[0]?.Tags?.some(
          ({ Key, Value }) => Key === "shipway:environment" && Value === place.environment,
        );
      }),
    );
    const { serviceArns } = await aws.ecs.listServices({ cluster, maxResults: 100 });
    const names = (serviceArns ?? [])
      .map((arn) => arn.split("/").at(-1) ?? "")
      .filter((name) => name.startsWith(prefix));
    const { services } =
      names.length === 0 ? { services: [] } : await aws.ecs.describeServices({ cluster, services: names });
    const { taskDefinitionArns } = await aws.ecs.listTaskDefinitions({});
    const runs = await Promise.all(
      [1, 2].flatMap((number) =>
        (["RUNNING", "STOPPED"] as const).map((desiredStatus) =>
          aws.ecs.listTasks({ cluster, family: runFamilyName("test", place, "web", number), desiredStatus }),
        ),
      ),
    );
    const { SecretList } = await aws.secrets.listSecrets({});
    const { logGroups } = await aws.logs.describeLogGroups({
      logGroupNamePrefix: `/shipway/test/shop/${place.environment}`,
    });
    return {
      observed,
      rules: ofPlace.map(() => rule?.weights),
      targetGroups: groups.filter(Boolean).length,
      services: (services ?? [])
        .filter((one) => one.status === "ACTIVE")
        .map((one) => `${one.serviceName?.slice(prefix.length)} ${one.desiredCount}`)
        .sort(),
      definitions: (taskDefinitionArns ?? []).filter((arn) => arn.includes(`/${prefix}`)).length,
      runs: runs.flatMap((one) => one.taskArns ?? []).length,
      secrets: (SecretList ?? []).filter(
        (one) => one.Name === secretName("test", place, "web") && one.DeletedDate === undefined,
      ).length,
      logGroups: (logGroups ?? []).filter((one) => one.logGroupName === `/shipway/test/shop/${place.environment}`)
        .length,
    };
  }
});

const newRelease = (place: Place, number: number): Release => ({
  app: place.app,
  number,
  services: [ecsService(place, "web", "web"), ecsService(place, "worker", "worker")],
});

const isRead = (name: string): boolean => /:(Describe|List|Get)/.test(name);

/** What a rollout does, phase by phase. */
async function deploy(on: RolloutTarget, place: Place, number: number): Promise<void> {
  const release = newRelease(place, number);
  const variables = { env: {}, secrets: { DB_URL: new Secret("DB_URL", "mysql://db") } };
  await on.prepare(place, release);
  const run = {
    key: `d${number}`,
    service: "web",
    command: ["sh", "-c", "echo migrated"],
    variables,
    deadlineMs: 10_000,
  };
  expect(await on.runOnce(place, release, run, () => undefined)).toMatchObject({ exitCode: 0 });
  for (const service of release.services) await on.startService(place, release, service, variables);
  await prove(on, place, release);
  await on.shiftTraffic(place, release);
  if (number > 1) await on.park(place, newRelease(place, number - 1));
}

async function startWorkers(on: RolloutTarget, place: Place, release: Release): Promise<void> {
  const workers = release.services.filter((service) => service.port === undefined);
  const variables = { env: {}, secrets: { DB_URL: new Secret("DB_URL", "mysql://db") } };
  for (const worker of workers) await on.startService(place, release, worker, variables);
  await prove(on, place, { ...release, services: workers });
}

async function prove(on: RolloutTarget, place: Place, release: Release): Promise<void> {
  const options = { deadlineMs: 10_000, onProgress: () => undefined };
  expect(await on.awaitHealthy(place, release, release.services, options)).toMatchObject({ status: "healthy" });
}
