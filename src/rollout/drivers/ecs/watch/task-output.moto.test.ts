import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../../../shared/errors.ts";
import { until } from "../../../../shared/until.ts";
import type { Place, Release } from "../../../release.ts";
import type { RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { newFaultProxy } from "../fault-testing.ts";
import { familyName, logGroupName, taskIdOf } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions } from "../testing.ts";

const NOTHING = { env: {}, secrets: {} };

describe.skipIf(!hasMoto)("what tasks on ECS print", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  let calls: string[] = [];
  let places = 0;
  beforeAll(async () => {
    stage = await newAwsStage();
    const onCall = ({ command }: { command: string }) => void calls.push(command);
    target = await openEcsTarget(
      targetOptions(stage, {
        aws: { endpoint: stage.endpoint, attempts: 1, speed: 1_000, onCall },
        times: { feed: { quickMs: 500, slowMs: 500, overlapMs: 15_000 }, goneMs: 600_000, logLagMs: 100, quietMs: 0 },
      }),
    );
  });
  afterAll(async () => stage?.cleanUp());

  const newPlace = (): Place => ({ app: "shop", environment: `o${++places}` });
  const start = async (place: Place, count = 1): Promise<Release> => {
    const release = { app: place.app, number: 1, services: [ecsService(place, "web", "web", { count })] };
    await target.prepare(place, release);
    for (const service of release.services) await target.startService(place, release, service, NOTHING);
    return release;
  };
  const tasksOf = async (place: Place) => {
    const family = familyName("test", place, "web", 1);
    return (await stage.aws.ecs.listTasks({ cluster: stage.settings.cluster, family })).taskArns ?? [];
  };
  const print = async (place: Place, task: string, message: string, timestamp = Date.now()) => {
    const stream = { logGroupName: logGroupName("test", place), logStreamName: `r1/web/${taskIdOf(task)}` };
    await stage.aws.logs.putLogEvents({ ...stream, logEvents: [{ timestamp, message }] });
  };
  const watch = (place: Place, from: RolloutTarget = target) => {
    const lines: { task: string; text: string; at: number }[] = [];
    const stop = new AbortController();
    const options = { sinceMs: 0, follow: true, signal: stop.signal };
    const ended = from.readLogs(place, { release: 1 }, options, (task, some) => {
      for (const { text, at } of some) lines.push({ task, text, at });
    });
    ended.catch(() => undefined);
    return { lines, texts: () => lines.map(({ text }) => text), stop: () => stop.abort(), ended };
  };

  it("is asked for as often for fifty who watch as for one", async () => {
    const place = newPlace();
    await start(place);
    const viewers = Array.from({ length: 50 }, () => watch(place));
    const all = (text: string) =>
      until(text, () => viewers.every((one) => one.texts().includes(text)), { withinMs: 60_000 });
    await all("web says hello");
    const [task = ""] = await tasksOf(place);
    calls = [];
    for (const text of ["one", "two", "three"]) {
      await print(place, task, text);
      await all(text);
    }
    // One of them alone would make at least one call for each line.
    expect(calls.filter((call) => call === "FilterLogEvents").length).toBeLessThan(50);
    expect(calls.filter((call) => /^(Describe|List)/.test(call))).toEqual([]);
    for (const viewer of viewers) {
      viewer.stop();
      await viewer.ended;
      expect(viewer.texts()).toEqual(["web says hello", "one", "two", "three"]);
    }
  });

  it("is shown of tasks that take the place of others, and of those that are gone, each by ECS's own id", async () => {
    const place = newPlace();
    await start(place, 2);
    const viewer = watch(place);
    await until("both say hello", () => viewer.lines.length === 2);
    const [first = ""] = await tasksOf(place);
    const name = (task: string) => `shop.${place.environment}.web.r1-${taskIdOf(task).slice(0, 8)}`;
    expect(viewer.lines.map(({ task }) => task)).toContain(name(first));
    await stage.aws.ecs.stopTask({ cluster: stage.settings.cluster, task: first, reason: "by hand" });
    await print(place, first, "last words");
    await until("its successor says hello, too", () => viewer.lines.length === 4);
    expect(new Set(viewer.lines.map(({ task }) => task)).size).toBe(3);
    expect(viewer.lines.filter(({ task }) => task === name(first)).map(({ text }) => text)).toEqual([
      "web says hello",
      "last words",
    ]);
    viewer.stop();
    await viewer.ended;
  });

  it("is given once, whatever arrives late, and to a late viewer with its past", async () => {
    const place = newPlace();
    await start(place);
    const early = watch(place);
    await until("a hello", () => early.texts().includes("web says hello"));
    const [task = ""] = await tasksOf(place);
    const now = Date.now();
    await print(place, task, "new", now);
    await until("the new one", () => early.texts().includes("new"));
    await print(place, task, "of ten seconds before", now - 10_000);
    await until("the late one", () => early.texts().includes("of ten seconds before"));
    const late = watch(place);
    await until("its past", () => late.lines.length === 3);
    await print(place, task, "end");
    await until("the end", () => [early, late].every((one) => one.texts().includes("end")));
    expect(early.texts()).toEqual(["web says hello", "new", "of ten seconds before", "end"]);
    expect(late.texts().toSorted()).toEqual(early.texts().toSorted());
    expect(late.lines).toEqual(late.lines.toSorted((a, b) => a.at - b.at));
    for (const viewer of [early, late]) viewer.stop();
    for (const viewer of [early, late]) await viewer.ended;
  });

  it("fails with a public error for everybody when AWS keeps throttling, and is there again afterwards", async () => {
    const place = newPlace();
    await start(place);
    let fate: "pass" | "throttled" = "pass";
    const proxy = await newFaultProxy(stage.endpoint, ({ name }) => (name === "logs:FilterLogEvents" ? fate : "pass"));
    const elsewhere = await openEcsTarget(
      targetOptions(stage, { aws: { endpoint: proxy.endpoint, attempts: 1, speed: 1_000 } }),
    );
    const viewers = [watch(place, elsewhere), watch(place, elsewhere)];
    await until("a hello", () => viewers.every((one) => one.texts().includes("web says hello")));
    fate = "throttled";
    for (const viewer of viewers) {
      const error = await viewer.ended.catch((thrown: unknown) => thrown);
      expect(errorCode(error)).toBe("AWS_THROTTLED");
    }
    fate = "pass";
    const next = watch(place, elsewhere);
    await until("a hello", () => next.texts().includes("web says hello"));
    next.stop();
    await next.ended;
    await proxy.close();
  });
});
