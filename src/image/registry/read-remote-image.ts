import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { z } from "zod";
import { errorCode } from "../../shared/errors.ts";
import { openAnswer, type Registry, withRepeats } from "./ask-registry.ts";
import { type Blob, newBlob } from "./blob.ts";
import { ANY_MANIFEST, type RemoteImage } from "./push-image.ts";
import { endpointOf, parseImageReference, unavailable, whyNot } from "./resolve-image.ts";

const Descriptor = z.object({ mediaType: z.string(), digest: z.string(), size: z.int() });
const ImageManifest = z.object({ config: Descriptor, layers: z.array(Descriptor) });
const Index = z.object({
  manifests: z.array(
    Descriptor.extend({ platform: z.object({ os: z.string(), architecture: z.string() }).optional() }),
  ),
});

const MOST_MANIFEST_BYTES = 4 * 1024 * 1024;

/**
 * An image as it lies in a registry, its manifest byte for byte; layers are read only when they are opened, and as often. Of one for several kinds of machines
 * it is the one for Linux on `architecture` (`amd64`, `arm64`).
 * @throws IMAGE_UNAVAILABLE
 */
export async function readRemoteImage(
  name: string,
  architecture: string,
  authorization?: string,
): Promise<RemoteImage> {
  const { host, repository, reference } = parseImageReference(name);
  const registry: Registry = { endpoint: endpointOf(host), authorization };
  const refuse = (why: string, cause?: unknown) => unavailable(name, host, why, cause);
  const get = (path: string, accept?: string): Promise<Response> =>
    withRepeats(
      () =>
        openAnswer(registry, `/v2/${repository}/${path}`, {
          method: "GET",
          expect: [200],
          ...(accept !== undefined && { accept }),
        }),
      (error) => (errorCode(error) === undefined ? refuse(whyNot(error), error) : error),
    );

  async function manifestAt(wanted: string): Promise<{ bytes: Buffer; mediaType: string }> {
    const answer = await get(`manifests/${wanted}`, ANY_MANIFEST);
    const bytes = Buffer.from(await answer.arrayBuffer());
    if (bytes.length > MOST_MANIFEST_BYTES) throw refuse("its manifest is too large");
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    if (wanted.startsWith("sha256:") && digest !== wanted) throw refuse(`the registry gave ${digest} for ${wanted}`);
    const said = answer.headers.get("content-type")?.split(";")[0] ?? "";
    const { mediaType } = z.object({ mediaType: z.string().default(said) }).parse(JSON.parse(bytes.toString()));
    return { bytes, mediaType };
  }

  function choosePlatform(bytes: Buffer): string {
    const { manifests } = Index.parse(JSON.parse(bytes.toString()));
    const found = manifests.find(({ platform }) => platform?.os === "linux" && platform.architecture === architecture);
    if (found) return found.digest;
    const there = manifests.flatMap(({ platform }) =>
      platform && platform.os !== "unknown" ? [`${platform.os}/${platform.architecture}`] : [],
    );
    throw refuse(`there is none for linux/${architecture}, only for ${[...new Set(there)].join(", ")}`);
  }

  const open = (digest: string): Readable =>
    Readable.from(
      (async function* () {
        const { body } = await get(`blobs/${digest}`);
        if (body !== null) yield* Readable.fromWeb(body as ReadableStream);
      })(),
    );

  const first = await manifestAt(reference);
  const isIndex = /image\.index|manifest\.list/.test(first.mediaType);
  const { bytes, mediaType } = isIndex ? await manifestAt(choosePlatform(first.bytes)) : first;
  const parsed = ImageManifest.safeParse(JSON.parse(bytes.toString()));
  if (!parsed.success) throw refuse(`it is of a form that is not known (${mediaType})`);
  const { config, layers } = parsed.data;
  const blobs = [...layers, config].map(({ digest, size }): Blob => ({ digest, size, open: () => open(digest) }));
  return { manifest: newBlob(bytes), mediaType, blobs };
}
