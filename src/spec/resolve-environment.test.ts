import { describe, expect, it } from "vitest";
import { AppSpec } from "./app-spec.ts";
import { environmentsFor, isFromOutside, resolveEnvironment, withEnvironments } from "./resolve-environment.ts";

const spec = AppSpec.parse({
  app: "shop",
  services: {
    web: {
      image: "a",
      port: 80,
      count: 2,
      env: { A: "service", B: "service", C: "service" },
      domains: ["old.example"],
    },
    job: { image: "b", cpu: 1024, memory: 4096 },
  },
  environments: {
    staging: { branch: "{main,release/*}" },
    production: {
      tag: "v*",
      env: { B: "environment", C: "environment" },
      services: { web: { count: 4, cpu: 512, env: { C: "both" }, domains: ["shop.example"] } },
    },
    preview: { branch: "**", tag: "v1.*" },
    byhand: {},
  },
  bake: "5s",
});

describe("resolveEnvironment", () => {
  it("leaves a service as it is where the environment says nothing, with the smallest memory", () => {
    expect(resolveEnvironment(spec, "staging")).toMatchObject({
      environment: "staging",
      bakeMs: 5_000,
      standbyMs: 1_800_000,
      services: {
        web: { count: 2, cpu: 256, memory: 512, domains: ["old.example"], env: { A: "service" } },
        job: { cpu: 1024, memory: 4096 },
      },
    });
  });

  it("lays the environment's entry over the service, and memory follows the cpu", () => {
    expect(resolveEnvironment(spec, "production").services.web).toMatchObject({
      count: 4,
      cpu: 512,
      memory: 1024,
      domains: ["shop.example"],
    });
  });

  it("merges variables: service, then environment, then the service in the environment", () => {
    const { web, job } = resolveEnvironment(spec, "production").services;
    expect(web?.env).toEqual({ A: "service", B: "environment", C: "both" });
    expect(job?.env).toEqual({ B: "environment", C: "environment" });
  });

  it.each(["prod", "constructor", "__proto__"])("refuses an environment that is not declared: %s", (name) => {
    expect(() => resolveEnvironment(spec, name)).toThrow(
      expect.objectContaining({
        code: "ENVIRONMENT_NOT_FOUND",
        message: `App shop has no environment ${name}: it has staging, production, preview, byhand.`,
      }),
    );
  });
});

describe("environmentsFor", () => {
  it.each([
    ["branch", "main", ["staging", "preview"]],
    ["branch", "release/2", ["staging", "preview"]],
    ["branch", "release/2/x", ["preview"]],
    ["branch", "v1.0", ["preview"]],
    ["tag", "v1.0", ["production", "preview"]],
    ["tag", "v2.0", ["production"]],
    ["tag", "main", []],
  ] as const)("%s %s deploys to %j", (refKind, refName, expected) => {
    expect(environmentsFor(spec, { refKind, refName })).toEqual(expected);
  });
});

describe("withEnvironments", () => {
  const declared = [
    { name: "demo", branch: "demo/*", tag: null },
    { name: "staging", branch: null, tag: "x*" },
  ];
  const merged = withEnvironments(spec, declared);

  it("adds what was declared elsewhere, and leaves the file's own rules alone where both name one", () => {
    const push = (refName: string) => environmentsFor(merged, { refKind: "branch", refName });
    expect([push("demo/a"), push("main")]).toEqual([
      ["preview", "demo"],
      ["staging", "preview"],
    ]);
    expect(environmentsFor(merged, { refKind: "tag", refName: "x1" })).toEqual([]);
    expect([isFromOutside(merged, "demo"), isFromOutside(merged, "staging")]).toEqual([true, false]);
    expect(withEnvironments(spec, [])).toBe(spec);
  });

  it("runs every service there as it stands, without the domains that lead elsewhere", () => {
    const { services, infra } = resolveEnvironment(merged, "demo");
    expect(services.web).toMatchObject({ count: 2, domains: [], env: { A: "service", B: "service", C: "service" } });
    expect(services.job).toMatchObject({ cpu: 1024, memory: 4096 });
    expect(infra).toBeUndefined();
  });

  it("is stored and read back as it is", () => {
    expect(JSON.parse(JSON.stringify(merged))).toEqual(merged);
  });
});
