import { fail } from "../../shared/errors.ts";
import { askRegistry, type Registry, reasonOf, withRepeats } from "./ask-registry.ts";
import type { Blob } from "./blob.ts";

const MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json";
/** Of one image and of several for different machines, as Docker and as OCI name them. */
export const ANY_MANIFEST = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  MANIFEST_TYPE,
].join(", ");

/** An image as a registry keeps it: what its manifest names, and the manifest as exact bytes. */
export type RemoteImage = { manifest: Blob; mediaType: string; blobs: Blob[] };

/**
 * Pushes what the registry does not have yet, the manifest last, so that a name never leads to an image with holes, and reads it back.
 * @returns the image's digest
 * @throws IMAGE_PUSH_FAILED
 */
export async function pushImage(
  registry: Registry,
  repository: string,
  tag: string,
  { manifest, mediaType, blobs }: RemoteImage,
): Promise<string> {
  const repeating = <T>(work: () => Promise<T>) =>
    withRepeats(work, (error) => pushFailed(registry, repository, reasonOf(error), error));
  const done = new Set<string>();
  for (const blob of blobs) {
    if (done.has(blob.digest)) continue;
    done.add(blob.digest);
    await repeating(() => pushBlob(registry, repository, blob));
  }
  await repeating(async () => {
    // A tag that leads there already, perhaps by a push whose answer was lost, is not written again: tags may be immutable.
    if ((await digestAt(registry, repository, tag)) === manifest.digest) return;
    await askRegistry(registry, `/v2/${repository}/manifests/${tag}`, {
      method: "PUT",
      body: manifest,
      type: mediaType,
      expect: [201],
    });
  });
  const found = await repeating(() => digestAt(registry, repository, manifest.digest));
  if (found !== manifest.digest) {
    throw pushFailed(registry, repository, `it took ${manifest.digest} and has ${found ?? "nothing"} under that name`);
  }
  return manifest.digest;
}

/** The digest that a tag or digest leads to. */
export async function digestAt(registry: Registry, repository: string, reference: string): Promise<string | undefined> {
  const { status, headers } = await askRegistry(registry, `/v2/${repository}/manifests/${reference}`, {
    method: "HEAD",
    accept: ANY_MANIFEST,
    expect: [200, 404],
  });
  return status === 200 ? (headers.get("docker-content-digest") ?? undefined) : undefined;
}

async function pushBlob(registry: Registry, repository: string, blob: Blob): Promise<void> {
  const path = `/v2/${repository}/blobs`;
  const known = await askRegistry(registry, `${path}/${blob.digest}`, { method: "HEAD", expect: [200, 404] });
  if (known.status === 200) return;
  const begun = await askRegistry(registry, `${path}/uploads/`, { method: "POST", expect: [202] });
  const location = new URL(begun.headers.get("location") ?? "", registry.endpoint);
  location.searchParams.set("digest", blob.digest);
  await askRegistry(registry, location.toString(), {
    method: "PUT",
    body: blob,
    type: "application/octet-stream",
    expect: [201],
  });
}

export function pushFailed({ endpoint }: Registry, repository: string, why: string, cause?: unknown) {
  return fail("IMAGE_PUSH_FAILED", {
    message: `The image could not be pushed to ${repository} of ${new URL(endpoint).host}: ${why}`,
    hint: "Check that this server reaches the registry and may write to it, then try again: what was pushed is not pushed twice.",
    cause,
  });
}
