import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Place, Release } from "../../../release.ts";
import { rollOut } from "../../../run.ts";
import type { RolloutTarget } from "../../../target.ts";
import { findRule } from "../account/read-account.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { type AwsStage, ecsService, hasMoto, hostOf, newAwsStage, targetOptions } from "../testing.ts";

const NOTHING = { env: {}, secrets: {} };

/** Counted is every call that the SDK is asked for, attempts included, from the rollback's start until it is told that new requests are answered. */
describe.skipIf(!hasMoto)("a rollback to a release on standby", () => {
  let stage: AwsStage;
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `b${++places}` });
  const open = async () => {
    const calls: string[] = [];
    const onCall = ({ service, command }: { service: string; command: string }) =>
      void calls.push(`${service}:${command}`);
    const aws = { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall };
    return { calls, target: await openEcsTarget(targetOptions(stage, { aws })) };
  };
  const newRelease = (place: Place, number: number, web = ["web"]): Release => ({
    app: place.app,
    number,
    services: [...web.map((name) => ecsService(place, name, "web")), ecsService(place, "worker", "worker")],
  });
  const serve = async (target: RolloutTarget, place: Place, release: Release) => {
    await target.prepare(place, release);
    for (const service of release.services) await target.startService(place, release, service, NOTHING);
    const options = { deadlineMs: 20_000, onProgress: () => undefined };
    expect(await target.awaitHealthy(place, release, release.services, options)).toMatchObject({ status: "healthy" });
    await target.shiftTraffic(place, release);
  };
  /** r2 serves and r1 stands by. */
  const standBy = async (place: Place, web?: string[]) => {
    const { target } = await open();
    await serve(target, place, newRelease(place, 1, web));
    await serve(target, place, newRelease(place, 2, web));
    await target.park(place, newRelease(place, 1, web));
    return target;
  };
  /** Goes back to r1 as a deployment does. @returns its outcome and the calls until traffic had moved */
  const goBack = async (place: Place, web?: string[]) => {
    const { calls, target } = await open();
    let untilLive: string[] = [];
    const outcome = await rollOut(
      {
        place,
        deploymentId: `d-${place.environment}`,
        kind: "rollback",
        release: newRelease(place, 1, web),
        previous: { release: newRelease(place, 2, web), variables: {} },
        verify: [],
        bakeMs: 0,
      },
      {
        target,
        variables: {},
        durable: (_name, fn) => fn(),
        // Events are told in order and awaited before the phase ends, so no call was made since.
        onEvent: (event) => {
          if (event.kind === "live") untilLive = [...calls];
        },
        log: () => () => undefined,
        now: Date.now,
      },
    );
    return { outcome, untilLive, target };
  };

  it("is three calls, one of them a write, also by a process that never looked there before", async () => {
    const place = newPlace();
    await standBy(place);
    const { outcome, untilLive } = await goBack(place);
    expect(outcome).toMatchObject({ status: "done", standby: 2 });
    expect(untilLive).toEqual([
      "ecs:DescribeServices",
      "elasticloadbalancing:ModifyRule",
      "elasticloadbalancing:DescribeRules",
    ]);
    expect(await stage.answering(hostOf(place, "web"))).toBe(1);
  });

  it("is one write more for each further web service, and the same two reads", async () => {
    const place = newPlace();
    const web = ["web", "api", "admin"];
    await standBy(place, web);
    const { outcome, untilLive } = await goBack(place, web);
    expect(outcome).toMatchObject({ status: "done" });
    expect(untilLive).toEqual([
      "ecs:DescribeServices",
      ...web.map(() => "elasticloadbalancing:ModifyRule"),
      "elasticloadbalancing:DescribeRules",
    ]);
    for (const name of web) expect(await stage.answering(hostOf(place, name))).toBe(1);
  });

  it("does not rest on what was known of the standby: one that was scaled away is started anew first", async () => {
    const place = newPlace();
    await standBy(place);
    const { ecs } = stage.aws;
    const { cluster } = stage.settings;
    const { serviceArns } = await ecs.listServices({ cluster, maxResults: 100 });
    const service = serviceArns?.find((arn) => arn.includes(`_${place.environment}_web_`) && arn.endsWith("_b"));
    await ecs.updateService({ cluster, service, desiredCount: 0 });
    const { outcome, untilLive } = await goBack(place);
    expect(outcome).toMatchObject({ status: "done" });
    expect(untilLive).toContain("ecs:UpdateService");
    expect(await stage.answering(hostOf(place, "web"))).toBe(1);
  });

  it("finds the rule that took the place of one somebody removed", async () => {
    const place = newPlace();
    const target = await standBy(place);
    const { elb } = stage.aws;
    const before = await ruleOf(place);
    await elb.deleteRule({ RuleArn: before?.arn });
    await target.prepare(place, newRelease(place, 2));
    await target.shiftTraffic(place, newRelease(place, 2));
    const { outcome } = await goBack(place);
    expect(outcome).toMatchObject({ status: "done" });
    expect((await ruleOf(place))?.arn).not.toBe(before?.arn);
    expect(await stage.answering(hostOf(place, "web"))).toBe(1);
  });

  it("writes nothing when it is asked for again", async () => {
    const place = newPlace();
    await standBy(place);
    const { calls, target } = await open();
    const first = newRelease(place, 1);
    await target.wake(place, first);
    await target.shiftTraffic(place, first);
    calls.length = 0;
    await target.shiftTraffic(place, first);
    expect(calls.filter((call) => !/:(Describe|List)/.test(call))).toEqual([]);
  });

  async function ruleOf(place: Place) {
    const { Rules } = await stage.aws.elb.describeRules({ ListenerArn: stage.settings.listener });
    return findRule(Rules ?? [], "test", place, "web");
  }
});
