import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EnvironmentCost } from "../http/schemas.ts";
import { newTestCli, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const cost: EnvironmentCost = {
  app: "shop",
  environment: "production",
  runtime: "ecs",
  release: 7,
  prices: { region: "us-east-1", asOf: "2026-06", confirmed: true, architecture: "x86_64" },
  services: [
    { name: "web", cpu: 256, memoryMiB: 512, count: 2, hourUsd: 0.024685 },
    { name: "worker", cpu: 1024, memoryMiB: 2_048, count: 1, hourUsd: 0.04937 },
  ],
  hourUsd: 0.074055,
  monthUsd: 54.06015,
  standby: { release: 6, forMs: 1_800_000, hourUsd: 0.024685, deploymentUsd: 0.012343 },
  notes: ["On-demand list prices of us-east-1, 2026-06.", "Not included: the load balancer."],
};
const onDocker: EnvironmentCost = {
  ...cost,
  runtime: "docker",
  prices: null,
  services: cost.services.map((one) => ({ ...one, hourUsd: null })),
  hourUsd: null,
  monthUsd: null,
  standby: null,
  notes: ["production runs on this server's Docker Engine."],
};

describe("shipway env cost", () => {
  let server: TestServer;
  let cli: TestCli;
  beforeAll(async () => {
    server = await startTestServer((app) => {
      app.get("/api/apps/shop/environments/production/cost", async () => cost);
      app.get("/api/apps/shop/environments/staging/cost", async () => onDocker);
    });
    cli = await newTestCli(server.url);
  });
  afterAll(() => Promise.all([server.close(), cli.close()]));

  it("shows each service's tasks with dollars an hour and a month, and their sum", async () => {
    const { code, out, err } = await cli.run(["env", "cost", "--app", "shop", "--env", "production"]);
    expect(code).toBe(0);
    expect(out).toBe(
      [
        "SERVICE  TASKS  SIZE OF EACH        AN HOUR  A MONTH",
        "web          2  0.25 vCPU, 512 MiB  $0.0247   $18.02",
        "worker       1  1 vCPU, 2048 MiB    $0.0494   $36.04",
        "all          3                      $0.0741   $54.06",
        "",
      ].join("\n"),
    );
    expect(err).toContain("Standing by adds $0.0123 to each deployment; r6 does so now, at $0.0247 an hour.");
    expect(err).toContain("Not included: the load balancer.");
  });

  it("shows sizes and no dollars of what runs on Docker", async () => {
    const { out, err } = await cli.run(["env", "cost", "--app", "shop", "--env", "staging"]);
    expect(out).toMatch(/web +2 +0\.25 vCPU, 512 MiB +- +-/);
    expect(out).not.toContain("$");
    expect(err).toContain("Docker Engine");
  });

  it("hands on the release and the Region, and gives the data as they are with --json", async () => {
    const argv = ["env", "cost", "--app", "shop", "--env", "production", "--release", "r5", "--region", "eu-west-1"];
    const { out } = await cli.run([...argv, "--json"]);
    expect(JSON.parse(out)).toEqual(cost);
    expect(server.requests.at(-1)?.url).toBe("/api/apps/shop/environments/production/cost?release=5&region=eu-west-1");
  });
});
