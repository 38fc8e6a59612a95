import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Release } from "../rollout/release.ts";
import { newService } from "../rollout/testing.ts";
import { fail } from "../shared/errors.ts";
import type { Metrics } from "./metrics-schemas.ts";
import { newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

describe("the figures of an environment", () => {
  let test: TestPlatform;
  let token: string;
  const place = { app: "shop", environment: "production" };
  const release = (number: number): Release => ({
    app: "shop",
    number,
    services: [newService("web", { memoryMiB: 512, port: 3000 })],
  });
  beforeAll(async () => {
    test = await newTestPlatform();
    await newDeliveredApp(test, "shop");
    token = await test.tokenFor("viewer");
    const { target } = test.platform;
    for (const number of [1, 2]) {
      const one = release(number);
      for (const service of one.services) await target.startService(place, one, service, { env: {}, secrets: {} });
      await target.shiftTraffic(place, one);
    }
    await target.park(place, release(1));
  });
  afterAll(() => test.close());

  const ask = async (query = "", environment = "production") => {
    const url = `/api/apps/shop/environments/${environment}/metrics${query}`;
    const answer = await test.server.inject({ url, headers: { authorization: `Bearer ${token}` } });
    return { status: answer.statusCode, body: answer.json<Metrics>() };
  };

  it("are rates and shares of the live release, and beside it of the one on standby", async () => {
    const { status, body } = await ask();
    expect(status).toBe(200);
    expect(body).toMatchObject({ app: "shop", environment: "production", runtime: "docker", everyMs: 60_000 });
    const [live, standby, ...rest] = body.services;
    expect(rest).toEqual([]);
    expect(live).toMatchObject({
      service: "web",
      release: 2,
      role: "live",
      traffic: "serving",
      servesTraffic: true,
      tasks: { wanted: 1, running: 1, healthy: 1 },
      given: { cpuUnits: 256, memoryMiB: 512 },
      now: {
        cpuPercent: 10,
        memoryUsedMiB: 51.2,
        memoryGivenMiB: 512,
        requestsPerSecond: 10 / 60,
        percent4xx: 10,
        percent5xx: 0,
        p95Ms: null,
      },
      total: { requests: 10, answers4xx: 1, answers5xx: 0, percent4xx: 10, unanswered: 0 },
    });
    expect(live?.points).toHaveLength(1);
    expect(live?.points[0]).toMatchObject({ requests: 10, requestsPerSecond: 10 / 60, spanMs: 60_000 });
    expect(standby).toMatchObject({
      release: 1,
      role: "standby",
      traffic: "standby",
      tasks: { running: 0, healthy: null },
      now: { requestsPerSecond: 0, percent5xx: null, memoryGivenMiB: 512 },
    });
  });

  it("leave out a release that stands by no more, and keep the live one whose tasks are gone", async () => {
    await test.platform.target.stop(place, 1);
    await test.platform.target.stop(place, 2);
    const { body } = await ask();
    expect(body.services).toMatchObject([
      { release: 2, role: "live", tasks: { wanted: 1, running: 0 }, now: null, points: [] },
    ]);
  });

  it("are of one service, and since when is asked for, at most 30 days", async () => {
    expect((await ask("?service=web")).body.services).toHaveLength(1);
    const { body } = await ask("?since=2020-01-01T00:00:00Z");
    expect(Date.now() - Date.parse(body.since)).toBeLessThan(31 * 86_400_000);
  });

  it.each([
    ["?service=wep", "production", 404],
    ["?since=yesterday", "production", 400],
    ["", "nowhere", 404],
  ])("refuses %s of %s with %i", async (query, environment, status) => {
    expect((await ask(query, environment)).status).toBe(status);
  });

  it("say what keeps them from being read", async () => {
    test.onTargetCall.current = (method) => {
      if (method === "measure") throw fail("AWS_DENIED", { message: "AWS refused it.", hint: "Add a statement." });
    };
    const { status, body } = await ask();
    expect(status).toBe(409);
    expect(body).toMatchObject({ error: { code: "AWS_DENIED", hint: "Add a statement." } });
  });
});
