import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { moveTo, recordRuntime } from "../release/runtimes.ts";
import type { RuntimeSettings } from "../rollout/runtime.ts";
import type { EnvironmentCost } from "./schemas.ts";
import { newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

const ON_ECS: RuntimeSettings = {
  kind: "ecs",
  settings: {
    region: "us-east-1",
    cluster: "shop",
    listener: "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/app/shop/0123456789abcdef/0123456789abcdef",
    subnets: ["subnet-0a1b2c3d"],
    securityGroups: ["sg-0a1b2c3d"],
    executionRole: "arn:aws:iam::123456789012:role/shop-exec",
    publicIp: true,
    exec: false,
    scheme: "https",
    architecture: "arm64",
    storageGiB: 20,
    logRetentionDays: 30,
  },
};

describe("the cost of an environment", () => {
  let test: TestPlatform;
  let token: string;
  beforeAll(async () => {
    test = await newTestPlatform();
    await newDeliveredApp(test, "shop");
    token = await test.tokenFor("viewer");
  });
  afterAll(() => test.close());

  const ask = async (query = "", environment = "production") => {
    const url = `/api/apps/shop/environments/${environment}/cost${query}`;
    const answer = await test.server.inject({ url, headers: { authorization: `Bearer ${token}` } });
    return { status: answer.statusCode, body: answer.json<EnvironmentCost>() };
  };

  it("has the sizes of the live release and no dollars while it runs on Docker", async () => {
    const { status, body } = await ask();
    expect(status).toBe(200);
    expect(body).toMatchObject({
      runtime: "docker",
      release: 2,
      services: [{ name: "web", cpu: 256, memoryMiB: 512, count: 1, hourUsd: null }],
      hourUsd: null,
    });
  });

  it("is priced by the Region and architecture it runs in, with its address and what stands by", async () => {
    const place = { app: "shop", environment: "production" };
    await recordRuntime(test.platform.store.db, place, ON_ECS);
    await moveTo(test.platform.store.db, place, ON_ECS);
    const { body } = await ask();
    expect(body).toMatchObject({
      runtime: "ecs",
      prices: { region: "us-east-1", architecture: "arm64" },
      // 0.25 × 0.03238 + 0.5 × 0.00356 + 0.005
      hourUsd: 0.014875,
      standby: { release: 1, forMs: 1_800_000, hourUsd: 0.014875 },
    });
    expect((await ask("?region=eu-central-1")).body.prices?.region).toBe("eu-central-1");
  });

  it("prices a release that is asked for by where that release runs", async () => {
    expect((await ask("?release=1")).body).toMatchObject({ runtime: "docker", release: 1 });
  });

  it.each([
    ["?release=99", "production", 404],
    ["?region=frankfurt", "production", 400],
    ["", "nowhere", 404],
  ])("refuses %s of %s with %i", async (query, environment, status) => {
    expect((await ask(query, environment)).status).toBe(status);
  });
});
