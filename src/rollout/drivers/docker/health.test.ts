import { describe, expect, it } from "vitest";
import type { HealthCheck } from "../../../spec/app-spec.ts";
import { newService } from "../../testing.ts";
import { judgeNew, judgeProved, type TaskFacts } from "./health.ts";

const health: HealthCheck = { interval: 1_000, timeout: 2_000, healthy: 2, unhealthy: 3 };
const web = newService("web");
const worker = newService("worker", { port: undefined });
const withCommand = newService("worker", { port: undefined, health: { ...health, command: ["check"] } });

describe("judgeNew", () => {
  it.each([
    [
      "a service with a port by the router",
      web,
      facts({ server: { operational: "up", lastCheck: "HTTP 200" } }),
      "healthy",
    ],
    ["a service with a port never by its running alone", web, facts({ upMs: 60_000 }), "waiting"],
    ["a task that exited without waiting", web, facts({ container: "ended" }), "failed"],
    ["a worker that just started", worker, facts({ upMs: 100 }), "waiting"],
    ["a worker that stayed up", worker, facts({ upMs: 2_000 }), "healthy"],
    [
      "a worker with a HEALTHCHECK by that, however long it runs",
      worker,
      facts({ upMs: 60_000, imageHealth: "starting" }),
      "waiting",
    ],
    ["a worker whose HEALTHCHECK fails", worker, facts({ imageHealth: "unhealthy" }), "failed"],
    [
      "a command that passed once of twice",
      withCommand,
      facts({ command: { passed: 1, failed: 0, last: "" } }),
      "waiting",
    ],
    ["a command that passed twice", withCommand, facts({ command: { passed: 2, failed: 0, last: "" } }), "healthy"],
  ])("judges %s", (_, service, seen, expected) => {
    expect(judgeNew(service, seen).is).toBe(expected);
  });

  it("asks for both when a service with a port declares a command", () => {
    const service = newService("web", { health: { ...health, command: ["check"] } });
    const up = { operational: "up" as const, lastCheck: "" };
    expect(judgeNew(service, facts({ server: up, command: { passed: 0, failed: 1, last: "no" } }))).toEqual({
      is: "waiting",
      detail: "no",
    });
    expect(judgeNew(service, facts({ server: up, command: { passed: 2, failed: 0, last: "" } })).is).toBe("healthy");
  });
});

describe("judgeProved", () => {
  it.each([
    ["the router finds it down", web, facts({ server: { operational: "down", lastCheck: "HTTP 500" } }), "failed"],
    ["the router has not looked yet", web, facts({ server: { operational: "starting", lastCheck: "" } }), "healthy"],
    ["it restarted", worker, facts({ container: "ended" }), "failed"],
    [
      "its command failed twice of three",
      withCommand,
      facts({ command: { passed: 0, failed: 2, last: "" } }),
      "healthy",
    ],
    ["its command failed three times", withCommand, facts({ command: { passed: 0, failed: 3, last: "no" } }), "failed"],
  ])("when %s", (_, service, seen, expected) => {
    expect(judgeProved(service, seen).is).toBe(expected);
  });
});

function facts(changes: Partial<TaskFacts>): TaskFacts {
  return { container: "running", upMs: 500, imageHealth: "none", server: undefined, command: undefined, ...changes };
}
