import { Readable } from "node:stream";
import { fail } from "../../shared/errors.ts";
import { sleep } from "../../shared/until.ts";
import { type Blob, newBlob, type SavedImage } from "./saved-image.ts";

/** An OCI registry (distribution specification 1.1) as far as pushing goes. */
export type Registry = {
  /** `https://123456789012.dkr.ecr.eu-central-1.amazonaws.com`, without a path. */
  endpoint: string;
  /** The value of the header Authorization; undefined where none is needed. */
  authorization?: string | undefined;
};

const MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPE = "application/vnd.docker.container.image.v1+json";
const LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip";

const ATTEMPTS = 4;
const PAUSE_MS = 500;
/** Of a whole layer over a slow line. */
const TIMEOUT_MS = 15 * 60_000;

/** The manifest as its exact bytes: its digest is what the image is called from now on. */
export function manifestOf({ config, layers }: SavedImage): Blob {
  const describe = (mediaType: string, { digest, size }: Blob) => ({ mediaType, size, digest });
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: describe(CONFIG_TYPE, config),
    layers: layers.map((layer) => describe(LAYER_TYPE, layer)),
  };
  return newBlob(Buffer.from(JSON.stringify(manifest)));
}

/**
 * Pushes what the registry does not have yet, the manifest last, so that a name never leads to an image with holes, and reads it back.
 * @returns the image's digest
 * @throws IMAGE_PUSH_FAILED
 */
export async function pushImage(
  registry: Registry,
  repository: string,
  tag: string,
  image: SavedImage,
): Promise<string> {
  const manifest = manifestOf(image);
  const done = new Set<string>();
  for (const blob of [...image.layers, image.config]) {
    if (done.has(blob.digest)) continue;
    done.add(blob.digest);
    await repeating(registry, repository, () => pushBlob(registry, repository, blob));
  }
  await repeating(registry, repository, async () => {
    // A tag that leads there already, perhaps by a push whose answer was lost, is not written again: tags may be immutable.
    if ((await digestAt(registry, repository, tag)) === manifest.digest) return;
    await ask(registry, `/v2/${repository}/manifests/${tag}`, {
      method: "PUT",
      body: manifest,
      type: MANIFEST_TYPE,
      expect: [201],
    });
  });
  const found = await repeating(registry, repository, () => digestAt(registry, repository, manifest.digest));
  if (found !== manifest.digest) {
    throw pushFailed(registry, repository, `it took ${manifest.digest} and has ${found ?? "nothing"} under that name`);
  }
  return manifest.digest;
}

/** The digest that a tag or digest leads to. */
export async function digestAt(registry: Registry, repository: string, reference: string): Promise<string | undefined> {
  const { status, headers } = await ask(registry, `/v2/${repository}/manifests/${reference}`, {
    method: "HEAD",
    accept: MANIFEST_TYPE,
    expect: [200, 404],
  });
  return status === 200 ? (headers.get("docker-content-digest") ?? undefined) : undefined;
}

async function pushBlob(registry: Registry, repository: string, blob: Blob): Promise<void> {
  const path = `/v2/${repository}/blobs`;
  const known = await ask(registry, `${path}/${blob.digest}`, { method: "HEAD", expect: [200, 404] });
  if (known.status === 200) return;
  const begun = await ask(registry, `${path}/uploads/`, { method: "POST", expect: [202] });
  const location = new URL(begun.headers.get("location") ?? "", registry.endpoint);
  location.searchParams.set("digest", blob.digest);
  await ask(registry, location.toString(), {
    method: "PUT",
    body: blob,
    type: "application/octet-stream",
    expect: [201],
  });
}

type Asked = {
  method: "HEAD" | "POST" | "PUT";
  body?: Blob;
  type?: string;
  accept?: string;
  expect: number[];
};

class RegistryError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function ask(registry: Registry, path: string, { method, body, type, accept, expect }: Asked): Promise<Response> {
  const answer = await fetch(new URL(path, registry.endpoint), {
    method,
    headers: {
      ...(registry.authorization !== undefined && { authorization: registry.authorization }),
      ...(body !== undefined && { "content-length": String(body.size) }),
      ...(type !== undefined && { "content-type": type }),
      ...(accept !== undefined && { accept }),
    },
    ...(body !== undefined && { body: Readable.toWeb(body.open()) as ReadableStream, duplex: "half" }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  } as RequestInit);
  if (expect.includes(answer.status)) {
    await answer.body?.cancel();
    return answer;
  }
  throw new RegistryError(
    answer.status,
    `${method} ${path.split("?")[0]} → ${answer.status} ${(await answer.text()).slice(0, 300)}`,
  );
}

/** A push is safe to repeat at any point: each part looks first whether it is there. */
async function repeating<T>(registry: Registry, repository: string, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const isFinal = error instanceof RegistryError && error.status < 500 && error.status !== 429;
      if (isFinal || attempt >= ATTEMPTS) {
        const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
        throw pushFailed(registry, repository, cause instanceof Error ? cause.message : String(cause), error);
      }
      await sleep(Math.random() * PAUSE_MS * 2 ** attempt);
    }
  }
}

function pushFailed({ endpoint }: Registry, repository: string, why: string, cause?: unknown) {
  return fail("IMAGE_PUSH_FAILED", {
    message: `The image could not be pushed to ${repository} of ${new URL(endpoint).host}: ${why}`,
    hint: "Check that this server reaches the registry and may write to it, then try again: what was pushed is not pushed twice.",
    cause,
  });
}
