import { describe, expect, it } from "vitest";
import type { EcsSettings } from "../../../runtime.ts";
import { newService } from "../../../testing.ts";
import { readTags, SPEC_TAG } from "../tags.ts";
import { type TaskDefinitionInput, targetCheckOf, taskDefinitionOf } from "./task-definition.ts";

const settings: EcsSettings = {
  region: "eu-central-1",
  cluster: "prod",
  listener: "arn:aws:elasticloadbalancing:eu-central-1:1:listener/app/x/1/2",
  subnets: ["subnet-1"],
  securityGroups: ["sg-1"],
  executionRole: "arn:aws:iam::1:role/exec",
  publicIp: false,
  exec: false,
  scheme: "https",
  architecture: "x86_64",
  storageGiB: 20,
  logRetentionDays: 30,
};

const define = (changes: Partial<TaskDefinitionInput> = {}) =>
  taskDefinitionOf({
    install: "i1",
    place: { app: "shop", environment: "prod" },
    release: 7,
    service: newService("web", { env: { B: "2", A: "1" } }),
    settings,
    env: {},
    secret: undefined,
    ...changes,
  });
const specOf = (changes: Partial<TaskDefinitionInput> = {}) => readTags(define(changes).tags)[SPEC_TAG];
const container = (changes: Partial<TaskDefinitionInput> = {}) => define(changes).containerDefinitions?.[0];

describe("a task definition", () => {
  it("is for Fargate, in texts as AWS gives them back, with variables in order", () => {
    expect(define()).toMatchObject({
      family: "shipway-i1_shop_prod_web_r7",
      requiresCompatibilities: ["FARGATE"],
      networkMode: "awsvpc",
      cpu: "256",
      memory: "512",
      runtimePlatform: { cpuArchitecture: "X86_64", operatingSystemFamily: "LINUX" },
    });
    expect(container()).toMatchObject({
      memory: 512,
      environment: [
        { name: "A", value: "1" },
        { name: "B", value: "2" },
      ],
      portMappings: [{ containerPort: 3000, hostPort: 3000 }],
    });
    expect(define()).not.toHaveProperty("ephemeralStorage");
  });

  it("has the same hash for the same content in another order, and another for any difference", () => {
    const same = newService("web", { env: { A: "1", B: "2" } });
    expect(specOf({ service: same })).toBe(specOf());
    const others: Partial<TaskDefinitionInput>[] = [
      { release: 8 },
      { service: newService("web", { env: { A: "1" } }) },
      { service: newService("web", { env: { A: "1", B: "2" }, command: ["x"] }) },
      { settings: { ...settings, architecture: "arm64" } },
      { secret: { arn: "arn:s", versionId: "v1", keys: ["K"] } },
      { run: { command: ["sh", "-c", "migrate"] } },
    ];
    const hashes = others.map(specOf);
    expect(new Set([...hashes, specOf()]).size).toBe(others.length + 1);
  });

  it("names a secret's key and version, so that a rollback has the values of its time", () => {
    const secret = { arn: "arn:aws:secretsmanager:eu-central-1:1:secret:x-AbCdEf", versionId: "v1", keys: ["B", "A"] };
    expect(container({ secret })?.secrets).toEqual([
      { name: "A", valueFrom: `${secret.arn}:A::v1` },
      { name: "B", valueFrom: `${secret.arn}:B::v1` },
    ]);
  });

  it("names secrets of the account as they are, each in place of a variable of its name", () => {
    const secret = { arn: "arn:s", versionId: "v1", keys: ["B", "C"] };
    const references = { A: "/shop/mail", B: "arn:t:::v9" };
    expect(container({ secret, references })).toMatchObject({
      environment: [],
      secrets: [
        { name: "A", valueFrom: "/shop/mail" },
        { name: "B", valueFrom: "arn:t:::v9" },
        { name: "C", valueFrom: "arn:s:C::v1" },
      ],
    });
  });

  it("asks for a disk only above what Fargate gives for nothing", () => {
    expect(define({ settings: { ...settings, storageGiB: 21 } }).ephemeralStorage).toEqual({ sizeInGiB: 21 });
  });

  it("of a command that runs once has no port and no check, loses no line and gets all the time to end", () => {
    const service = newService("web", {
      health: { command: ["true"], interval: 1, timeout: 1, healthy: 1, unhealthy: 1 },
    });
    const once = container({ service, run: { command: ["sh", "-c", "migrate"] } });
    expect(once).toMatchObject({ command: ["sh", "-c", "migrate"], stopTimeout: 120 });
    expect(once?.logConfiguration?.options).toMatchObject({ mode: "blocking" });
    expect(once).not.toHaveProperty("portMappings");
    expect(once).not.toHaveProperty("healthCheck");
  });

  it.each([
    [500, 2],
    [10_000, 10],
    [10_001, 11],
    [120_000, 120],
    [500_000, 120],
  ])("gives %i ms between SIGTERM and SIGKILL as %i s, within Fargate's limits", (stopTimeoutMs, seconds) => {
    expect(container({ service: newService("web", { stopTimeoutMs }) })?.stopTimeout).toBe(seconds);
  });

  it("keeps a command's check within ECS's limits", () => {
    const health = { command: ["true"], interval: 100, timeout: 1, healthy: 1, unhealthy: 20, grace: 900_000 };
    expect(container({ service: newService("web", { health }) })?.healthCheck).toEqual({
      command: ["CMD", "true"],
      interval: 5,
      timeout: 2,
      retries: 10,
      startPeriod: 300,
    });
  });
});

describe("a load balancer's check", () => {
  it("takes any answer below 500 where nothing is declared, and below 400 for a declared path", () => {
    expect(targetCheckOf(newService("web"))).toMatchObject({ path: "/", matcher: "200-499" });
    const health = { path: "/up", interval: 1_000, timeout: 2_000, healthy: 2, unhealthy: 3 };
    expect(targetCheckOf(newService("web", { health }))).toMatchObject({ path: "/up", matcher: "200-399" });
  });

  it.each([
    [
      { interval: 1_000, timeout: 2_000 },
      { intervalS: 5, timeoutS: 2 },
    ],
    [
      { interval: 6_000, timeout: 10_000 },
      { intervalS: 11, timeoutS: 10 },
    ],
    [
      { interval: 900_000, timeout: 900_000 },
      { intervalS: 300, timeoutS: 120 },
    ],
  ])("keeps %j within its limits, the timeout below the interval", (health, expected) => {
    const check = targetCheckOf(newService("web", { health: { ...health, healthy: 1, unhealthy: 20 } }));
    expect(check).toMatchObject({ ...expected, healthy: 2, unhealthy: 10 });
    expect(check.timeoutS).toBeLessThan(check.intervalS);
  });
});
