import { fail } from "../../shared/errors.ts";
import { type Registry, RegistryError, reasonOf, withRepeats } from "./ask-registry.ts";
import { digestAt } from "./push-image.ts";

/** An image's name taken apart: `redis:7` is `{ host: "docker.io", repository: "library/redis", reference: "7" }`. */
export type ImageReference = {
  host: string;
  repository: string;
  /** A tag, or a digest, which always leads to the same bytes. */
  reference: string;
};

const DOCKER_HUB = "docker.io";
/** Docker Hub's images are named by one host and served by another. */
const DOCKER_HUB_REGISTRY = "registry-1.docker.io";

/** As Docker reads names: what stands before the first slash is a host only if it looks like one. */
export function parseImageReference(text: string): ImageReference {
  const [, name = text, digest] = /^([^@]+)@(sha256:[0-9a-f]{64})$/.exec(text) ?? [];
  const [, untagged = name, tag = "latest"] = /^(.+):([\w][\w.-]{0,127})$/.exec(name) ?? [];
  const reference = digest ?? tag;
  const slash = untagged.indexOf("/");
  const first = untagged.slice(0, Math.max(slash, 0));
  const isHost = first === "localhost" || /[.:]/.test(first);
  if (isHost && first !== "index.docker.io" && first !== DOCKER_HUB)
    return { host: first, repository: untagged.slice(slash + 1), reference };
  const repository = isHost ? untagged.slice(slash + 1) : untagged;
  return { host: DOCKER_HUB, repository: repository.includes("/") ? repository : `library/${repository}`, reference };
}

/** Where a host's registry answers: in the clear only on this machine, as Docker Engine has it. */
export function endpointOf(host: string): string {
  const isHere = /^(localhost|127\.\d+\.\d+\.\d+)(:\d+)?$/.test(host);
  return `${isHere ? "http" : "https"}://${host === DOCKER_HUB ? DOCKER_HUB_REGISTRY : host}`;
}

/**
 * The reference by digest that an image's name leads to now, which from then on leads nowhere else.
 * @throws IMAGE_UNAVAILABLE
 */
export async function resolveImage(text: string, registry?: Registry): Promise<{ digest: string; reference: string }> {
  const { host, repository, reference } = parseImageReference(text);
  const asked = registry ?? { endpoint: endpointOf(host) };
  const digest = await withRepeats(
    () => digestAt(asked, repository, reference),
    (error) => unavailable(text, host, whyNot(error), error),
  );
  if (digest === undefined) throw unavailable(text, host, "the registry does not have it");
  return { digest, reference: `${host}/${repository}@${digest}` };
}

/** Why a registry did not give something, in words. */
export function whyNot(error: unknown): string {
  const status = error instanceof RegistryError ? error.status : undefined;
  // Docker Hub and others answer so for what is not there, too: who may not look is not told.
  if (status === 401 || status === 403) return "the registry does not have it, or wants a login for it";
  if (status === 404) return "the registry does not have it";
  if (status === 429) return "the registry has answered too many requests from this address";
  return reasonOf(error);
}

export function unavailable(text: string, host: string, why: string, cause?: unknown) {
  return fail("IMAGE_UNAVAILABLE", {
    message: `The image ${text} cannot be had from ${host}: ${why}.`,
    hint: "Check the name and this server's way to that registry. An image that needs a login can be copied to Amazon ECR and named by its address there.",
    cause,
  });
}
