import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { fail } from "../../shared/errors.ts";
import type { LogSink } from "../../shared/log-line.ts";
import type { ImagePublisher } from "../publisher.ts";
import { digestAt, pushImage } from "../registry/push-image.ts";
import { type KnownLayers, readSavedImage } from "../registry/saved-image.ts";
import { type EcrOptions, ecrRegistry, hostOfUri, repositoryName } from "./ecr-registry.ts";

/** Images of this machine's engine in Amazon ECR: a repository a service, made on demand, with tags that cannot be moved. */
export function ecrPublisher(options: EcrOptions & { docker: Docker }): ImagePublisher {
  const ecr = ecrRegistry(options);
  const knownLayers: KnownLayers = new Map();

  async function publish(image: { app: string; service: string; digest: string }, log: LogSink): Promise<string> {
    const name = repositoryName(options.install, image.app, image.service);
    const uri = await ecr.ensureRepository(name, image.app);
    const registry = await ecr.signIn(hostOfUri(uri));
    // The tag is the content it was pushed from: the same image is found again, and none is ever moved.
    const tag = image.digest.replace(":", "-");
    const known = await digestAt(registry, name, tag);
    if (known !== undefined) return `${uri}@${known}`;
    const dir = await mkdtemp(join(tmpdir(), "shipway-push-"));
    try {
      const startedAt = Date.now();
      const saved = await readSavedImage(await save(options.docker, image), dir, knownLayers);
      const digest = await pushImage(registry, name, tag, saved);
      const mib = Math.ceil(saved.layers.reduce((total, layer) => total + layer.size, 0) / 2 ** 20);
      log([{ at: Date.now(), stream: "meta", text: `pushed ${name} (${mib} MiB, ${Date.now() - startedAt} ms)` }]);
      return `${uri}@${digest}`;
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  return {
    publish: (image, log) =>
      publish(image, log).catch((error: unknown) => {
        throw ecr.toError(error);
      }),
  };
}

async function save(docker: Docker, { service, digest }: { service: string; digest: string }) {
  const stream = await docker
    .getImage(digest)
    .get()
    .catch((cause: unknown) => {
      throw fail("IMAGE_UNAVAILABLE", {
        message: `The image of ${service} (${digest.slice(0, 19)}) is not on this server any more, and was never pushed.`,
        hint: "Build it again with a push, or with `shipway deploy --ref BRANCH`.",
        cause,
      });
    });
  return stream as unknown as AsyncIterable<Buffer>;
}
