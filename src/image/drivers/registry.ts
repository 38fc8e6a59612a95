import { dockerMissing } from "../../shared/docker-missing.ts";
import type { ImageBuilder } from "../builder.ts";
import { endpointOf, parseImageReference, resolveImage } from "../registry/resolve-image.ts";
import { ecrLogins, type LoginFor } from "./ecr-login.ts";

/**
 * Images of a Shipway without an engine: none is built, and one that is there already stays in its registry. What is recorded of it is its reference by
 * digest; a runtime's publisher copies those very bytes to where its tasks fetch them.
 * @throws DOCKER_MISSING for what has to be built
 */
export function registryBuilder(loginFor: LoginFor = ecrLogins()): ImageBuilder {
  return {
    async build({ app, service }) {
      throw dockerMissing(`The image of ${service} of ${app} would be built on Docker`);
    },
    async fetch(name) {
      const { host } = parseImageReference(name);
      return resolveImage(name, { endpoint: endpointOf(host), authorization: await loginFor(host) });
    },
    prune: async () => [],
  };
}
