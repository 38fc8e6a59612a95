import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { ImagePublisher } from "../publisher.ts";
import { digestAt, pushImage } from "../registry/push-image.ts";
import { readRemoteImage } from "../registry/read-remote-image.ts";
import { parseImageReference } from "../registry/resolve-image.ts";
import { type KnownLayers, readSavedImage } from "../registry/saved-image.ts";
import { ecrLogins } from "./ecr-login.ts";
import { type EcrOptions, ecrRegistry, hostOfUri, repositoryName } from "./ecr-registry.ts";

export type PublisherOptions = EcrOptions & {
  /** Where images were built; undefined where they all come from registries. */
  docker: Docker | undefined;
  /** Of the tasks: an image for several kinds of machines is copied for this one. */
  architecture: "x86_64" | "arm64";
};

/** Images of this machine's engine, and of registries elsewhere, in Amazon ECR: a repository a service, made on demand, with tags that cannot be moved. */
export function ecrPublisher(options: PublisherOptions): ImagePublisher {
  const { docker, install } = options;
  const ecr = ecrRegistry(options);
  const loginFor = ecrLogins();
  const knownLayers: KnownLayers = new Map();

  async function publish(image: { app: string; service: string; digest: string }, log: LogSink): Promise<string> {
    const name = repositoryName(install, image.app, image.service);
    const uri = await ecr.ensureRepository(name, image.app);
    const from = sourceOf(image, uri);
    if (from === undefined) return image.digest;
    const registry = await ecr.signIn(hostOfUri(uri));
    const known = await digestAt(registry, name, from.tag);
    if (known !== undefined) return `${uri}@${known}`;
    const dir = await mkdtemp(join(tmpdir(), "shipway-push-"));
    try {
      const startedAt = Date.now();
      const found = await from.read(dir);
      const digest = await pushImage(registry, name, from.tag, found);
      const blobs = "blobs" in found ? found.blobs : found.layers;
      const mib = Math.ceil(blobs.reduce((total, { size }) => total + size, 0) / 2 ** 20);
      log([{ at: Date.now(), stream: "meta", text: `pushed ${name} (${mib} MiB, ${Date.now() - startedAt} ms)` }]);
      return `${uri}@${digest}`;
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  /** The tag is the content it is pushed from: the same image is found again, and none is ever moved. Undefined for what is there already. */
  function sourceOf(image: { service: string; digest: string }, uri: string) {
    const tag = image.digest.slice(image.digest.indexOf("@") + 1).replace(":", "-");
    if (!image.digest.includes("@")) {
      return { tag, read: async (dir: string) => readSavedImage(await save(docker, image), dir, knownLayers) };
    }
    const source = parseImageReference(image.digest);
    const isOurs = uri.startsWith(`${source.host}/`) && source.repository.startsWith(`shipway/${install}/`);
    if (isOurs) return undefined;
    const platform = options.architecture === "arm64" ? "arm64" : "amd64";
    const read = async () => {
      const authorization = await loginFor(source.host);
      return readRemoteImage(image.digest, platform, authorization);
    };
    return { tag: `${tag}-${platform}`, read };
  }

  return {
    publish: (image, log) =>
      publish(image, log).catch((error: unknown) => {
        throw ecr.toError(error);
      }),
  };
}

async function save(docker: Docker | undefined, { service, digest }: { service: string; digest: string }) {
  const gone = (cause?: unknown) =>
    fail("IMAGE_UNAVAILABLE", {
      message: `The image of ${service} (${digest.slice(0, 19)}) is not on this server any more, and was never pushed.`,
      hint: "Build it again with a push, or with `shipway deploy --ref BRANCH`.",
      cause,
    });
  // It was built by an engine that this Shipway no longer has.
  if (docker === undefined) throw gone();
  const stream = await docker
    .getImage(digest)
    .get()
    .catch((cause: unknown) => {
      throw gone(cause);
    });
  return stream as unknown as AsyncIterable<Buffer>;
}
