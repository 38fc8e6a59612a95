import { describe, expect, it } from "vitest";
import type { StepSettings } from "../../../spec/ci-settings.ts";
import { taskSizeOf } from "../../step-size.ts";
import { type TaskInput, taskDefinitionOf } from "./task-definition.ts";

const settings: StepSettings = {
  region: "eu-central-1",
  cluster: "shop",
  subnets: ["subnet-0a1b2c3d"],
  securityGroups: ["sg-0a1b2c3d"],
  executionRole: "arn:aws:iam::123456789012:role/shop-exec",
  publicIp: false,
  workBucket: "shop-work",
  toolImage: "node:20-bookworm-slim",
  architecture: "x86_64",
  storageGiB: 20,
  logRetentionDays: 30,
};
const input = (rest: Partial<TaskInput> = {}): TaskInput => ({
  install: "i",
  app: "shop",
  settings,
  step: { image: "node:22", memoryMiB: 2_048 },
  services: [
    { name: "db", image: "mariadb:10.11", memoryMiB: 1_024, variables: { MARIADB_ROOT_PASSWORD: "x" } },
    { name: "other", image: "example/thing", memoryMiB: 1_024, variables: {} },
  ],
  sealed: {},
  mounts: [],
  ...rest,
});
const containerOf = (name: string, rest: Partial<TaskInput> = {}) =>
  taskDefinitionOf(input(rest)).containerDefinitions?.find((one) => one.name === name);

describe("the task of a step", () => {
  it("has Bitbucket's two processors with 4 GB, services included, and reserves no more than it has", () => {
    const definition = taskDefinitionOf(input());
    expect(definition).toMatchObject({ cpu: "2048", memory: "4096" });
    const reserved = (definition.containerDefinitions ?? []).map((one) => one.memoryReservation ?? one.memory ?? 0);
    expect(reserved.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(4_096);
  });

  it.each([
    [1_024, { cpu: 512, memoryMiB: 1_024 }],
    [8_192, { cpu: 4_096, memoryMiB: 8_192 }],
    [32_768, { cpu: 16_384, memoryMiB: 32_768 }],
    [65_536, { cpu: 16_384, memoryMiB: 65_536 }],
    [131_072, undefined],
  ])("of %i MiB has the size %j", (memoryMiB, size) => {
    expect(taskSizeOf({ memoryMiB, services: [] })).toEqual(size);
  });

  it("begins when it is set up and its services answer, or, where nobody knows what to ask, have begun", () => {
    expect(containerOf("step")?.dependsOn).toEqual([
      { containerName: "setup", condition: "SUCCESS" },
      { containerName: "service-db", condition: "HEALTHY" },
      { containerName: "service-other", condition: "START" },
    ]);
    expect(containerOf("service-db")?.healthCheck?.command?.slice(0, 3)).toEqual(["CMD", "/bin/sh", "-c"]);
    expect(containerOf("service-other")).not.toHaveProperty("healthCheck");
  });

  it("is over when what it leaves is kept: only the last container is essential", () => {
    const essential = taskDefinitionOf(input()).containerDefinitions?.filter((one) => one.essential);
    expect(essential?.map((one) => one.name)).toEqual(["collect"]);
  });

  it("loses no line: every log is written in blocking mode", () => {
    const modes = taskDefinitionOf(input()).containerDefinitions?.map((one) => one.logConfiguration?.options?.mode);
    expect(new Set(modes)).toEqual(new Set(["blocking"]));
  });

  it("gives scripts no rights in AWS unless a role is named", () => {
    expect(taskDefinitionOf(input())).not.toHaveProperty("taskRoleArn");
    const stepRole = "arn:aws:iam::123456789012:role/shop-step";
    expect(taskDefinitionOf(input({ settings: { ...settings, stepRole } })).taskRoleArn).toBe(stepRole);
  });

  it("is named by its content, so that equal steps of all runs share one", () => {
    const family = (rest: Partial<TaskInput> = {}) => taskDefinitionOf(input(rest)).family;
    expect(family()).toBe(family());
    expect(family({ step: { image: "node:24", memoryMiB: 2_048 } })).not.toBe(family());
    expect(family({ mounts: ["/root/.npm"] })).not.toBe(family());
    expect(family()).toMatch(/^shipway-i_shop__ci_[0-9a-f]{24}$/);
  });

  it("calls a service's container by a name that ECS takes, whatever the service is called", () => {
    const named = ["a b", "a_b", "a.b"].map((name) => ({ name, image: "redis:7", memoryMiB: 128, variables: {} }));
    const names = taskDefinitionOf(input({ services: named })).containerDefinitions?.map((one) => one.name ?? "");
    expect(new Set(names).size).toBe(6);
    for (const name of names ?? []) expect(name).toMatch(/^[A-Za-z0-9_-]{1,255}$/);
  });

  it("takes what is secret from Secrets Manager, and has it nowhere else", () => {
    const sealed = {
      "service-db": { variables: { arn: "arn:aws:secretsmanager:x", names: ["MARIADB_ROOT_PASSWORD"] } },
      step: { login: "arn:aws:secretsmanager:y" },
    };
    const db = containerOf("service-db", { sealed });
    expect(db?.environment).toEqual([]);
    expect(db?.secrets).toEqual([
      { name: "MARIADB_ROOT_PASSWORD", valueFrom: "arn:aws:secretsmanager:x:MARIADB_ROOT_PASSWORD::" },
    ]);
    expect(containerOf("step", { sealed })?.repositoryCredentials?.credentialsParameter).toBe(
      "arn:aws:secretsmanager:y",
    );
  });

  it("mounts kept caches where the step looks for them, and shows the step nothing of ours", () => {
    const mounts = ["/root/.npm", "/root/.m2"];
    expect(containerOf("step", { mounts })?.mountPoints?.map((one) => one.containerPath)).toEqual([
      "/opt/atlassian/pipelines/agent",
      ...mounts,
    ]);
    expect(containerOf("setup", { mounts })?.mountPoints?.map((one) => one.sourceVolume)).toEqual([
      "work",
      "own",
      "mount0",
      "mount1",
    ]);
  });
});
