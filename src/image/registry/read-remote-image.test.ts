import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../shared/errors.ts";
import { type Blob, newBlob } from "./blob.ts";
import { digestAt, pushImage } from "./push-image.ts";
import { readRemoteImage } from "./read-remote-image.ts";
import { resolveImage } from "./resolve-image.ts";
import { hasRegistry, newTestImage, newTestRegistry, newTokenServer } from "./testing.ts";

const OCI = "application/vnd.oci.image";
const INDEX = `${OCI}.index.v1+json`;
const MANIFEST = `${OCI}.manifest.v1+json`;

describe.skipIf(!hasRegistry)("an image in Debian's registry, read without an engine", () => {
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let host: string;
  const fronts: Server[] = [];
  beforeAll(async () => {
    registry = await newTestRegistry();
    host = new URL(registry.endpoint).host;
  });
  afterAll(() => registry?.cleanUp());
  afterEach(async () => {
    for (const front of fronts.splice(0)) {
      front.closeAllConnections();
      await new Promise((resolve) => front.close(resolve));
    }
  });

  /** An image of one platform, as BuildKit pushes it: OCI's media types, one layer. */
  async function pushOne(repository: string, tag: string, architecture: string) {
    const layer = newBlob(gzipSync(randomBytes(200_000)));
    const config = newBlob(Buffer.from(JSON.stringify({ os: "linux", architecture })));
    const manifest = newBlob(
      json({
        schemaVersion: 2,
        mediaType: MANIFEST,
        config: describeBlob(`${OCI}.config.v1+json`, config),
        layers: [describeBlob(`${OCI}.layer.v1.tar+gzip`, layer)],
      }),
    );
    const digest = await pushImage({ endpoint: registry.endpoint }, repository, tag, {
      manifest,
      mediaType: MANIFEST,
      blobs: [layer, config],
    });
    return { digest, manifest, layer, platform: { os: "linux", architecture } };
  }

  /** As `docker buildx build --platform … --push` leaves it, with an attestation beside the images. */
  async function pushIndex(repository: string, tag: string, architectures: string[]) {
    const images = await Promise.all(architectures.map((one) => pushOne(repository, one, one)));
    const attestation = {
      ...(await pushOne(repository, "attestation", "none")),
      platform: { os: "unknown", architecture: "unknown" },
    };
    const index = newBlob(
      json({
        schemaVersion: 2,
        mediaType: INDEX,
        manifests: [attestation, ...images].map(({ manifest, platform }) => ({
          ...describeBlob(MANIFEST, manifest),
          platform,
        })),
      }),
    );
    await pushImage({ endpoint: registry.endpoint }, repository, tag, { manifest: index, mediaType: INDEX, blobs: [] });
    return { index, images };
  }

  const at = (repository: string, name = ":1", address = host) => {
    const text = `${address}/${repository}${name}`;
    return {
      digest: async () => (await resolveImage(text)).digest,
      image: (architecture: string) => readRemoteImage(text, architecture),
    };
  };

  async function copied(repository: string, architecture: string, name?: string): Promise<string> {
    const image = await at(repository, name).image(architecture);
    return pushImage({ endpoint: registry.endpoint }, `copies/${repository}`, "1", image);
  }

  it("is copied byte for byte, its digest staying the same", async () => {
    const { digest, layer } = await pushOne("team/one", "1", "amd64");
    expect(await at("team/one").digest()).toBe(digest);
    expect(await copied("team/one", "amd64")).toBe(digest);
    const got = await fetch(`${registry.endpoint}/v2/copies/team/one/blobs/${layer.digest}`);
    expect(sha256(Buffer.from(await got.arrayBuffer()))).toBe(layer.digest);
  });

  it("that is there for several platforms is named as a whole, and copied for the one that tasks run on", async () => {
    const { index, images } = await pushIndex("team/many", "1", ["amd64", "arm64"]);
    expect(await at("team/many").digest()).toBe(index.digest);
    expect(await copied("team/many", "arm64", `@${index.digest}`)).toBe(images[1]?.digest);
    expect(
      await digestAt({ endpoint: registry.endpoint }, "copies/team/many", images[0]?.digest ?? ""),
    ).toBeUndefined();
  });

  it("that is not there for a platform is refused with those it is there for", async () => {
    await pushIndex("team/arm", "1", ["arm64"]);
    const refused = await at("team/arm")
      .image("amd64")
      .catch((error: unknown) => error);
    expect(hasCode(refused, "IMAGE_UNAVAILABLE")).toBe(true);
    expect(String(refused)).toContain("there is none for linux/amd64, only for linux/arm64");
  });

  it("that does not exist is refused by its full name", async () => {
    const refused = await at("team/gone")
      .image("amd64")
      .catch((error: unknown) => error);
    expect(String(refused)).toContain(
      `The image ${host}/team/gone:1 cannot be had from ${host}: the registry does not have it.`,
    );
  });

  it("is read, layers included, with a token where the registry asks for one", async () => {
    const tokens = await newTokenServer("team:swordfish");
    const locked = await newTestRegistry(tokens.auth);
    try {
      const authorization = `Basic ${Buffer.from("team:swordfish").toString("base64")}`;
      const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64" }));
      const pushed = newTestImage([gzipSync(randomBytes(1_000))], config);
      await pushImage({ endpoint: locked.endpoint, authorization }, "private/app", "1", pushed);
      const name = `${new URL(locked.endpoint).host}/private/app:1`;
      const image = await readRemoteImage(name, "amd64", authorization);
      expect(await bytesOf(image.blobs)).toEqual(pushed.blobs.map(({ digest }) => digest));
      const refused = await readRemoteImage(name, "amd64").catch((error: unknown) => error);
      expect(String(refused)).toContain("the registry does not have it, or wants a login for it");
    } finally {
      await locked.cleanUp();
      await tokens.cleanUp();
    }
  });

  it("whose manifest is not the one that was named is refused", async () => {
    const { digest } = await pushOne("team/forged", "1", "amd64");
    const other = await pushOne("team/forged", "2", "amd64");
    const front = await newFront(async (incoming, outgoing) =>
      pass(incoming, outgoing, incoming.url?.replace(digest, other.digest)),
    );
    const refused = await at("team/forged", `@${digest}`, front)
      .image("amd64")
      .catch((error: unknown) => error);
    expect(String(refused)).toContain(`the registry gave ${other.digest} for ${digest}`);
  });

  /** Something of the kind that stands before real registries. @returns its host */
  async function newFront(answer: (incoming: IncomingMessage, outgoing: ServerResponse, url: URL) => Promise<void>) {
    const server = createServer(
      (incoming, outgoing) => void answer(incoming, outgoing, new URL(incoming.url ?? "", "http://front")),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    fronts.push(server);
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  function pass(incoming: IncomingMessage, outgoing: ServerResponse, path = incoming.url): void {
    const onward = request(
      `${registry.endpoint}${path}`,
      { method: incoming.method, headers: incoming.headers },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    incoming.pipe(onward);
  }
});

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const sha256 = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const describeBlob = (mediaType: string, { digest, size }: Blob) => ({ mediaType, digest, size });

async function bytesOf(blobs: Blob[]): Promise<string[]> {
  return Promise.all(
    blobs.map(async (blob) => {
      const chunks: Buffer[] = [];
      for await (const chunk of blob.open()) chunks.push(Buffer.from(chunk as Uint8Array));
      return sha256(Buffer.concat(chunks));
    }),
  );
}
