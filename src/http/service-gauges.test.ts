import { Registry } from "prom-client";
import { expect, it } from "vitest";
import type { ServiceUse } from "../rollout/measurement.ts";
import { addServiceGauges } from "./service-gauges.ts";

const web: ServiceUse = {
  app: "shop",
  environment: "production",
  service: "web",
  release: 7,
  tasks: 2,
  cores: 0.5,
  memoryBytes: 100,
  memoryLimitBytes: 1_000,
  requestsPerSecond: 12.5,
  errorsPerSecond: 0,
};

it("gives Prometheus a line for each figure that is known, by release, and none for what is gone", async () => {
  const registry = new Registry();
  let use = [web, { ...web, service: "worker", cores: null, requestsPerSecond: null, errorsPerSecond: null }];
  addServiceGauges(registry, () => use);
  const lines = (await registry.metrics()).split("\n").filter((line) => line.startsWith("shipway_"));
  const labels = (service: string) => `app="shop",environment="production",service="${service}",release="r7"`;
  expect(lines).toContain(`shipway_service_cpu_cores{${labels("web")}} 0.5`);
  expect(lines).toContain(`shipway_service_requests_per_second{${labels("web")}} 12.5`);
  expect(lines).toContain(`shipway_service_errors_per_second{${labels("web")}} 0`);
  expect(lines.filter((line) => line.includes("worker")).map((line) => line.replace(/\{.*\}/, ""))).toEqual([
    "shipway_service_tasks 2",
    "shipway_service_memory_bytes 100",
    "shipway_service_memory_limit_bytes 1000",
  ]);
  use = [];
  expect(await registry.metrics()).not.toContain("shop");
});
