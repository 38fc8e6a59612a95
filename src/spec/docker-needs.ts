import type { AppSpec } from "./app-spec.ts";

/**
 * What a Shipway without a Docker Engine cannot do of a push to these environments, one clause each; empty when it can do all of it. `hasPipeline`: the ref
 * selects a pipeline that is to be run.
 */
export function dockerNeeds(spec: AppSpec, environments: readonly string[], hasPipeline: boolean): string[] {
  const onDocker = environments.filter((name) => spec.environments[name]?.runtime === "docker");
  const { steps = "docker", images = "docker" } = spec.ci ?? {};
  const built = Object.keys(spec.services).filter((name) => spec.services[name]?.build !== undefined);
  return [
    ...onDocker.map((name) => `${name} has runtime: docker`),
    ...(hasPipeline && steps === "docker" ? ["the steps of its pipeline run on Docker"] : []),
    ...(images === "docker" && built.length > 0 && environments.length > 0
      ? [`${built.length === 1 ? "the image" : "the images"} of ${built.join(", ")} would be built on Docker`]
      : []),
  ];
}
