import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hasCode } from "../../shared/errors.ts";
import { digestAt, manifestOf, pushImage } from "./push-image.ts";
import { type KnownLayers, readSavedImage } from "./saved-image.ts";
import { hasRegistry, newTestRegistry } from "./testing.ts";

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
/** A small layer, and one that is larger than anything that is kept in memory. */
const layers = [Buffer.from("a small layer"), randomBytes(3 * 1024 * 1024)] as const;
const config = Buffer.from(JSON.stringify({ os: "linux", rootfs: { type: "layers", diff_ids: layers.map(sha256) } }));

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-registry-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

type File = { name: string; bytes?: Buffer; linkname?: string };

function newArchive(files: File[]): AsyncIterable<Buffer> {
  const tar = pack();
  for (const { name, bytes, linkname } of files) {
    if (linkname !== undefined) tar.entry({ name, type: "symlink", linkname });
    else tar.entry({ name }, bytes ?? Buffer.alloc(0));
  }
  tar.finalize();
  return tar as AsyncIterable<Buffer>;
}

/** As Docker Engine 20.10 saves: the manifest last, an equal layer as a link. */
function oldArchive() {
  const manifest = [{ Config: "c.json", RepoTags: [], Layers: ["l1/layer.tar", "l2/layer.tar", "l3/layer.tar"] }];
  return newArchive([
    { name: "l1/layer.tar", bytes: layers[0] },
    { name: "l2/layer.tar", bytes: layers[1] },
    { name: "l3/layer.tar", linkname: "../l1/layer.tar" },
    { name: "c.json", bytes: config },
    { name: "manifest.json", bytes: Buffer.from(JSON.stringify(manifest)) },
  ]);
}

async function bytesOf(blob: { open(): NodeJS.ReadableStream }): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of blob.open()) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe("a saved image", () => {
  it("is its configuration as it stands and its layers compressed, an equal one once more", async () => {
    const image = await readSavedImage(oldArchive(), dir);
    expect(image.config.digest).toBe(`sha256:${sha256(config)}`);
    const unpacked = await Promise.all(image.layers.map(async (layer) => gunzipSync(await bytesOf(layer))));
    expect(unpacked.map(sha256)).toEqual([layers[0], layers[1], layers[0]].map(sha256));
    for (const layer of image.layers) {
      const bytes = await bytesOf(layer);
      expect({ digest: layer.digest, size: layer.size }).toEqual({
        digest: `sha256:${sha256(bytes)}`,
        size: bytes.length,
      });
    }
  });

  it("has the same digests each time it is read", async () => {
    const [first, second] = [await readSavedImage(oldArchive(), dir), await readSavedImage(oldArchive(), dir)];
    expect(manifestOf(second).digest).toBe(manifestOf(first).digest);
  });

  it("is the same when its layers are known, which are compressed only if they are asked for", async () => {
    const known: KnownLayers = new Map();
    const first = await readSavedImage(oldArchive(), dir, known);
    expect(known.size).toBe(2);
    const second = await readSavedImage(oldArchive(), await mkdtemp(join(dir, "again-")), known);
    expect(manifestOf(second).digest).toBe(manifestOf(first).digest);
    for (const layer of second.layers) {
      const bytes = await bytesOf(layer);
      expect([`sha256:${sha256(bytes)}`, bytes.length]).toEqual([layer.digest, layer.size]);
    }
  });

  it("is read in the new format too, where layers may be compressed already", async () => {
    const packed = gzipSync(layers[1]);
    const names = { config: `blobs/sha256/${sha256(config)}`, layer: `blobs/sha256/${sha256(packed)}` };
    const manifest = [{ Config: names.config, Layers: [names.layer] }];
    const image = await readSavedImage(
      newArchive([
        { name: names.layer, bytes: packed },
        { name: names.config, bytes: config },
        { name: "manifest.json", bytes: Buffer.from(JSON.stringify(manifest)) },
        { name: "oci-layout", bytes: Buffer.from("{}") },
      ]),
      dir,
    );
    expect(image.layers.map((layer) => layer.digest)).toEqual([`sha256:${sha256(packed)}`]);
  });

  it("is refused when it lacks what it names", async () => {
    const manifest = Buffer.from(JSON.stringify([{ Config: "c.json", Layers: ["gone"] }]));
    const broken = newArchive([
      { name: "c.json", bytes: config },
      { name: "manifest.json", bytes: manifest },
    ]);
    await expect(readSavedImage(broken, dir)).rejects.toThrow("names gone and does not have it");
  });
});

describe.skipIf(!hasRegistry)("pushing to Debian's registry", () => {
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let endpoint: string;
  beforeAll(async () => {
    registry = await newTestRegistry();
    endpoint = registry.endpoint;
  });
  afterAll(() => registry?.cleanUp());

  it("leaves an image that the registry gives back byte for byte, by tag and by digest", async () => {
    const image = await readSavedImage(oldArchive(), dir);
    const digest = await pushImage({ endpoint }, "shipway/shop/web", "t1", image);
    expect(digest).toBe(manifestOf(image).digest);
    expect(await digestAt({ endpoint }, "shipway/shop/web", "t1")).toBe(digest);
    for (const blob of [image.config, ...image.layers]) {
      const got = await fetch(`${endpoint}/v2/shipway/shop/web/blobs/${blob.digest}`);
      expect(sha256(Buffer.from(await got.arrayBuffer()))).toBe(blob.digest.slice("sha256:".length));
    }
  });

  it("uploads nothing a second time", async () => {
    const image = await readSavedImage(oldArchive(), dir);
    await pushImage({ endpoint }, "shipway/shop/again", "t1", image);
    const through = await newCounter(endpoint);
    await pushImage({ endpoint: through.endpoint }, "shipway/shop/again", "t1", image);
    expect(through.methods).toEqual(Array.from({ length: 5 }, () => "HEAD"));
    await through.close();
  });

  it("goes on where a connection broke, at any request", async () => {
    const image = await readSavedImage(oldArchive(), dir);
    const calm = await newCounter(endpoint);
    await pushImage({ endpoint: calm.endpoint }, "shipway/shop/calm", "t1", image);
    await calm.close();
    for (let broken = 1; broken <= calm.methods.length; broken++) {
      const through = await newCounter(endpoint, broken);
      const digest = await pushImage({ endpoint: through.endpoint }, `shipway/shop/broken-${broken}`, "t1", image);
      expect(digest).toBe(manifestOf(image).digest);
      expect(through.methods.length).toBeGreaterThan(calm.methods.length);
      await through.close();
    }
  });

  it("says what the registry said when it refuses", async () => {
    const image = await readSavedImage(oldArchive(), dir);
    const refused = await pushImage({ endpoint }, "NOT/A/NAME", "t1", image).catch((error: unknown) => error);
    expect(hasCode(refused, "IMAGE_PUSH_FAILED")).toBe(true);
    expect(String(refused)).toMatch(/NOT\/A\/NAME.*40[04]/);
  });
});

/** Counts requests on their way to the registry; the answer of the `broken`th is lost. */
async function newCounter(upstream: string, broken?: number) {
  const methods: string[] = [];
  const server = createServer((incoming, outgoing) => {
    methods.push(incoming.method ?? "");
    const isLost = methods.length === broken;
    const { method, url, headers } = incoming;
    const onward = request(`${upstream}${url ?? ""}`, { method, headers }, (answer) => {
      if (isLost) {
        answer.resume();
        answer.once("end", () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.once("error", () => incoming.socket.destroy());
    incoming.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    methods,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
