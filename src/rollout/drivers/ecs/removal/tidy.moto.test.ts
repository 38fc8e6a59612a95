import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Secret } from "../../../../shared/secret.ts";
import { until } from "../../../../shared/until.ts";
import type { Place, Release } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { logGroupName, readFamily, secretName, targetGroupName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, hostOf, newAwsStage, targetOptions } from "../testing.ts";

describe.skipIf(!hasMoto)("what no kept release needs", { timeout: 120_000 }, () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await openEcsTarget(targetOptions(stage));
  });
  afterAll(() => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `t${++places}` });
  const releaseOf = (place: Place, number: number, also: string[] = []): Release => ({
    app: place.app,
    number,
    services: [
      ecsService(place, "web", "web"),
      ecsService(place, "worker", "worker"),
      ...also.map((name) => ecsService(place, name, "web")),
    ],
  });
  const variablesOf = (value: string) => ({ env: {}, secrets: { KEY: new Secret("KEY", value) } });
  /** A rollout's calls; `value` is a secret's. */
  async function deploy(place: Place, release: Release, previous?: Release, value = "one"): Promise<void> {
    const variables = variablesOf(value);
    await target.prepare(place, release);
    const run = {
      key: `d${release.number}${value}`,
      service: "web",
      command: ["sh", "-c", "echo $KEY"],
      variables,
      deadlineMs: 10_000,
    };
    await target.runOnce(place, release, run, () => undefined);
    for (const service of release.services) await target.startService(place, release, service, variables);
    const options = { deadlineMs: 30_000, onProgress: () => undefined };
    expect((await target.awaitHealthy(place, release, release.services, options)).status).toBe("healthy");
    await target.shiftTraffic(place, release);
    // The slot's tasks of before are ended a moment after ECS calls the new ones complete.
    await until("it answers", async () => (await stage.answering(hostOf(place, "web"))) === release.number);
    if (previous !== undefined) await target.park(place, previous);
  }
  const tidy = (place: Place, kept: Release[]) => target.tidy(place, kept, new AbortController().signal);
  /** Tidies as the loop does, again and again: what a task that is just ending still uses goes in a later round. */
  const tidyUntil = (place: Place, kept: Release[], isDone: (definitions: string[]) => boolean) =>
    until(
      "it is tidied",
      async () => {
        await tidy(place, kept);
        return isDone(await definitions(place));
      },
      { withinMs: 60_000 },
    );
  /** Releases and how many revisions of each are there: `web r3: 1`. */
  async function definitions(place: Place): Promise<string[]> {
    const { taskDefinitionArns } = await stage.aws.ecs.listTaskDefinitions({});
    const counts = new Map<string, number>();
    for (const arn of taskDefinitionArns ?? []) {
      const found = readFamily("test", place, arn.split("/")[1]?.split(":")[0] ?? "");
      const key = found && `${found.service} r${found.release}${arn.includes("_run:") ? " run" : ""}`;
      if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return [...counts].map(([key, count]) => `${key}: ${count}`).sort();
  }

  it("goes: task definitions of other releases; and every kept release is gone back to as before", async () => {
    const place = newPlace();
    const [r1, r2, r3, r4] = [1, 2, 3, 4].map((number) => releaseOf(place, number)) as [
      Release,
      Release,
      Release,
      Release,
    ];
    await deploy(place, r1);
    await deploy(place, r2, r1);
    await deploy(place, r3, r2);
    await deploy(place, r4, r3);
    await tidyUntil(place, [r2, r3, r4], (there) => there.every((one) => !one.includes(" r1")));
    expect(await definitions(place)).toEqual(
      [2, 3, 4].flatMap((n) => [`web r${n} run: 1`, `web r${n}: 1`, `worker r${n}: 1`]).sort(),
    );
    const inactive = await stage.aws.ecs.listTaskDefinitions({ status: "INACTIVE" });
    expect(inactive.taskDefinitionArns).toEqual([]);
    let live = r4;
    for (const release of [r3, r2, r4]) {
      await deploy(place, release, live);
      expect(await stage.answering(hostOf(place, "web"))).toBe(release.number);
      live = release;
    }
    await tidyUntil(place, [r4], (there) => there.every((one) => !one.includes(" r3")));
    // What runs and what stands by is used, whether or not anybody keeps it.
    expect((await definitions(place)).filter((one) => !one.startsWith("worker"))).toEqual([
      "web r2: 1",
      "web r4 run: 1",
      "web r4: 1",
    ]);
    expect(await stage.answering(hostOf(place, "web"))).toBe(4);
    await target.destroy(place, "remove");
  });

  it("goes: revisions of a kept release with variables of earlier times, and the slot that stands by keeps its own", async () => {
    const place = newPlace();
    const [r1, r2] = [releaseOf(place, 1), releaseOf(place, 2)];
    for (const value of ["a", "b", "c", "d"]) {
      await deploy(place, r1, undefined, value);
      await deploy(place, r2, r1, value);
    }
    expect(await definitions(place)).toContain("web r1: 4");
    await tidyUntil(place, [r1, r2], (there) => there.includes("web r1: 2") && there.includes("web r2: 2"));
    expect(await definitions(place)).toEqual(expect.arrayContaining(["worker r1: 2", "worker r2: 2"]));
    const waked = await target.observe(place);
    expect(waked.map(({ release, service, traffic }) => `r${release} ${service} ${traffic}`)).toContain(
      "r1 web standby",
    );
    await deploy(place, r1, r2, "a");
    expect(await stage.answering(hostOf(place, "web"))).toBe(1);
    await target.destroy(place, "remove");
  });

  it("goes: a service that no kept release has, with its rule, target groups and secret; not while it runs", async () => {
    const place = newPlace();
    const [r1, r2] = [releaseOf(place, 1, ["api"]), releaseOf(place, 2)];
    await deploy(place, r1);
    await deploy(place, r2, r1);
    const there = async () => {
      const { TargetGroups } = await stage.aws.elb.describeTargetGroups({});
      const found = await stage.aws.secrets.describeSecret({ SecretId: secretName("test", place, "api") });
      const group = targetGroupName("test", place, "api", "a");
      return [TargetGroups?.some((one) => one.TargetGroupName === group), found.DeletedDate === undefined];
    };
    await tidy(place, [r2]);
    expect(await there()).toEqual([true, true]);
    await target.stop(place, 1);
    await tidy(place, [r2]);
    expect(await there()).toEqual([false, false]);
    expect(await stage.answering(hostOf(place, "web"))).toBe(2);
    const variables = { web: variablesOf("one"), worker: variablesOf("one") };
    expect(await target.findDrift(place, { live: { release: r2, variables }, inProgress: [] })).toEqual([]);
    // Going back to a release that had it makes it again.
    await deploy(place, r1, r2);
    expect(await stage.answering(hostOf(place, "api"))).toBe(1);
    await target.destroy(place, "remove");
  });

  it("goes: log streams whose lines have expired, a run's journal among them; and stops when somebody deploys", async () => {
    const place = newPlace();
    const [r1, r2] = [releaseOf(place, 1), releaseOf(place, 2)];
    await deploy(place, r1);
    const logGroupNameOf = logGroupName("test", place);
    const streams = async () =>
      (await stage.aws.logs.describeLogStreams({ logGroupName: logGroupNameOf })).logStreams?.length ?? 0;
    const before = await streams();
    expect(before).toBeGreaterThanOrEqual(4);
    await tidy(place, [r1]);
    expect(await streams()).toBe(before);
    // As if the lines were kept for no day: streams of today are a day too old.
    const short = await openEcsTarget(targetOptions(stage, { settings: { ...stage.settings, logRetentionDays: -2 } }));
    const stopped = AbortSignal.abort();
    await short.tidy(place, [r1], stopped);
    expect(await streams()).toBe(before);
    await short.tidy(place, [r1], new AbortController().signal);
    expect(await streams()).toBe(0);

    const slow = await openEcsTarget(
      targetOptions(stage, { times: { ...targetOptions(stage).times, tidyGapMs: 300 } }),
    );
    await deploy(place, r2, r1);
    await target.stop(place, 1);
    const tidying = slow.tidy(place, [r2], new AbortController().signal);
    await slow.prepare(place, r2);
    const variables = { env: {}, secrets: {} };
    for (const service of r1.services) await slow.startService(place, r1, service, variables);
    await tidying;
    expect((await definitions(place)).some((one) => one.includes(" r1"))).toBe(true);
    await target.destroy(place, "remove");
  });
});
