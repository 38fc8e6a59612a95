import { describe, expect, it } from "vitest";
import { AppSpec } from "./app-spec.ts";
import { dockerNeeds } from "./docker-needs.ts";

const specWith = (ci?: AppSpec["ci"]) =>
  AppSpec.parse({
    app: "shop",
    services: { web: { build: {}, port: 3000 }, api: { build: {} }, cache: { image: "redis:7" } },
    environments: { production: { runtime: "ecs" }, staging: {} },
    ...(ci && { ci }),
  });

describe("what a push needs a Docker Engine for", () => {
  it("is environments on it, steps of a pipeline that is there, and images that are built", () => {
    expect(dockerNeeds(specWith(), ["production", "staging"], true)).toEqual([
      "staging has runtime: docker",
      "the steps of its pipeline run on Docker",
      "the images of web, api would be built on Docker",
    ]);
  });

  it("is nothing of what runs on AWS", () => {
    const away = specWith({ steps: "ecs", images: "codebuild", environment: "production" });
    expect(dockerNeeds(away, ["production"], true)).toEqual([]);
    expect(dockerNeeds(away, ["staging"], true)).toEqual(["staging has runtime: docker"]);
  });

  it("is no image of a push that deploys nowhere", () => {
    expect(dockerNeeds(specWith(), [], false)).toEqual([]);
  });
});
