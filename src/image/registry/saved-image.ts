import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { join, posix } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { extract } from "tar-stream";
import { z } from "zod";

/** One thing that a registry keeps: its digest is that of its bytes. */
export type Blob = {
  digest: string;
  size: number;
  /** Can be read as often as needed: an upload that broke off starts anew. */
  open(): Readable;
};

/** Layers that were compressed before, by the digest of what was compressed: most layers of an image are those of the image before it. */
export type KnownLayers = Map<string, { digest: string; size: number }>;

export type SavedImage = { config: Blob; layers: Blob[] };

/** What `docker save` writes beside the layers, in its old and its new format (Docker Engine 20.10 to 28). */
const Manifest = z.array(z.object({ Config: z.string(), Layers: z.array(z.string()) })).min(1);

/** Configurations have some kilobytes; whatever is larger than this is a layer. */
const MOST_JSON_BYTES = 1024 * 1024;
/** Within a few per cent of the best, at a fraction of its time; tasks on Fargate fetch the whole image at each start. */
const GZIP_LEVEL = 6;
/** The first bytes of what is compressed already, as the containerd image store saves it. */
const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);

/** A small file may be a configuration or a layer: only the manifest, which comes last, says which. */
type Saved = { kind: "small"; bytes: Buffer } | { kind: "layer"; blob: Blob };

/**
 * Reads what `docker save` gives, compresses each layer into a file of `dir`, and says how a registry names them. Memory stays the same however
 * large the image is. The same image gives the same bytes each time, since the compression has no time in it.
 */
export async function readSavedImage(
  saved: AsyncIterable<Buffer>,
  dir: string,
  known: KnownLayers = new Map(),
): Promise<SavedImage> {
  const files = new Map<string, Saved>();
  const links = new Map<string, string>();
  let count = 0;
  const nextFile = () => join(dir, `layer-${count++}`);
  const tar = extract();
  const reading = pipeline(saved, tar);
  // What went wrong with the stream is thrown where it is read.
  reading.catch(() => undefined);
  for await (const entry of tar) {
    const { name, type, linkname, size = 0 } = entry.header;
    // Equal layers are saved once; the others are links to them.
    if (type === "symlink" && linkname) links.set(name, posix.join(posix.dirname(name), linkname));
    else if (type === "link" && linkname) links.set(name, linkname);
    if (type !== "file") entry.resume();
    else if (size <= MOST_JSON_BYTES)
      files.set(name, { kind: "small", bytes: await readAll(entry as AsyncIterable<Buffer>) });
    else files.set(name, { kind: "layer", blob: await keepLayer(entry as AsyncIterable<Buffer>, nextFile(), known) });
  }
  await reading;
  const find = (name: string): Saved => {
    const found = files.get(name) ?? files.get(links.get(name) ?? "");
    if (found === undefined) throw new Error(`the saved image names ${name} and does not have it`);
    return found;
  };
  const [manifest] = Manifest.parse(JSON.parse(bytesOf(find("manifest.json")).toString()));
  if (manifest === undefined) throw new Error("the saved image has no manifest");
  const layers: Blob[] = [];
  for (const name of manifest.Layers) {
    const layer = find(name);
    layers.push(layer.kind === "layer" ? layer.blob : await keepLayer(Readable.from([layer.bytes]), nextFile(), known));
  }
  return { config: newBlob(bytesOf(find(manifest.Config))), layers };
}

function bytesOf(saved: Saved): Buffer {
  if (saved.kind === "small") return saved.bytes;
  throw new Error("the saved image's configuration is larger than any configuration is");
}

export function newBlob(bytes: Buffer): Blob {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return { digest, size: bytes.length, open: () => Readable.from([bytes]) };
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A layer as it is pushed. One that is known is compressed only should the registry turn out not to have it. */
async function keepLayer(layer: AsyncIterable<Buffer>, file: string, known: KnownLayers): Promise<Blob> {
  const [first, whole] = await peek(layer);
  const seen = await write(whole, file);
  if (first.subarray(0, GZIP_MAGIC.length).equals(GZIP_MAGIC)) return { ...seen, open: () => createReadStream(file) };
  const before = known.get(seen.digest);
  if (before !== undefined) return { ...before, open: () => createReadStream(file).pipe(newGzip()) };
  const packed = `${file}.gz`;
  const compressed = await write(createReadStream(file).pipe(newGzip()), packed);
  await rm(file);
  known.set(seen.digest, compressed);
  return { ...compressed, open: () => createReadStream(packed) };
}

const newGzip = () => createGzip({ level: GZIP_LEVEL });

async function write(stream: Readable, file: string): Promise<{ digest: string; size: number }> {
  const hash = createHash("sha256");
  const hashed = new PassThrough().on("data", (chunk: Buffer) => hash.update(chunk));
  await pipeline(stream, hashed, createWriteStream(file));
  return { digest: `sha256:${hash.digest("hex")}`, size: (await stat(file)).size };
}

/** The first chunk of a stream, and the stream with it. */
async function peek(stream: AsyncIterable<Buffer>): Promise<[Buffer, Readable]> {
  const chunks = stream[Symbol.asyncIterator]();
  const first = await chunks.next();
  const rest = async function* () {
    if (!first.done) yield first.value;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
  };
  return [first.done ? Buffer.alloc(0) : first.value, Readable.from(rest())];
}
