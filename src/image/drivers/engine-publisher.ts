import type Docker from "dockerode";
import { fail } from "../../shared/errors.ts";
import type { ImagePublisher } from "../publisher.ts";
import { endpointOf, parseImageReference } from "../registry/resolve-image.ts";
import { ecrLogins, isEcrHost, type LoginFor } from "./ecr-login.ts";
import { findImage, pullImage, toDockerError } from "./engine-images.ts";
import { loginOf } from "./engine-push.ts";

export type EnginePublisherOptions = {
  docker: Docker;
  /** Where what is named by ECR's address really is, of a registry beside it. */
  registryEndpoint?: string | undefined;
  loginFor?: LoginFor;
};

/** Images that were built elsewhere, in this machine's engine: pulled by their digest, so that they are the very bytes that run on AWS. */
export function enginePublisher({
  docker,
  registryEndpoint,
  loginFor = ecrLogins(),
}: EnginePublisherOptions): Pick<ImagePublisher, "publish"> {
  return {
    async publish({ digest, name }, log) {
      const address = addressOf(digest, registryEndpoint);
      if ((await findImage(docker, address)) === undefined) {
        const login = await findLogin(digest, loginFor);
        await pullImage(docker, address, { log, now: Date.now, ...(login && { login }) });
      }
      const image = await findImage(docker, address);
      if (image === undefined)
        throw fail("IMAGE_UNAVAILABLE", { message: `The engine pulled ${digest} and yet does not have it.` });
      // Under the name that releases keep, so that it is removed with the last of them.
      if (name !== undefined && !image.RepoTags?.includes(name)) await nameImage(docker, image.Id, name);
      return image.Id;
    },
  };
}

/** ECR's address of an image leads to AWS, also where images are kept elsewhere. */
function addressOf(reference: string, registryEndpoint: string | undefined): string {
  const { host } = parseImageReference(reference);
  if (registryEndpoint === undefined || !isEcrHost(host)) return reference;
  return `${new URL(registryEndpoint).host}${reference.slice(host.length)}`;
}

async function findLogin(reference: string, loginFor: LoginFor): Promise<Docker.AuthConfig | undefined> {
  const { host } = parseImageReference(reference);
  const authorization = await loginFor(host);
  if (authorization === undefined) return undefined;
  return loginOf({ endpoint: endpointOf(host), authorization });
}

async function nameImage(docker: Docker, id: string, name: string): Promise<void> {
  const colon = name.lastIndexOf(":");
  await docker
    .getImage(id)
    .tag({ repo: name.slice(0, colon), tag: name.slice(colon + 1) })
    .catch((error: unknown) => {
      throw toDockerError(error);
    });
}
