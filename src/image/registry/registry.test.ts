import { createHash, randomBytes } from "node:crypto";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../shared/errors.ts";
import { digestAt, pushImage } from "./push-image.ts";
import { hasRegistry, newTestImage, newTestRegistry } from "./testing.ts";

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const image = newTestImage([Buffer.from("a small layer"), randomBytes(3 * 1024 * 1024), Buffer.from("a small layer")]);

describe.skipIf(!hasRegistry)("pushing to Debian's registry", () => {
  let registry: Awaited<ReturnType<typeof newTestRegistry>>;
  let endpoint: string;
  beforeAll(async () => {
    registry = await newTestRegistry();
    endpoint = registry.endpoint;
  });
  afterAll(() => registry?.cleanUp());

  it("leaves an image that the registry gives back byte for byte, by tag and by digest", async () => {
    const digest = await pushImage({ endpoint }, "shipway/shop/web", "t1", image);
    expect(digest).toBe(image.manifest.digest);
    expect(await digestAt({ endpoint }, "shipway/shop/web", "t1")).toBe(digest);
    for (const blob of image.blobs) {
      const got = await fetch(`${endpoint}/v2/shipway/shop/web/blobs/${blob.digest}`);
      expect(sha256(Buffer.from(await got.arrayBuffer()))).toBe(blob.digest.slice("sha256:".length));
    }
  });

  it("uploads nothing a second time", async () => {
    await pushImage({ endpoint }, "shipway/shop/again", "t1", image);
    const through = await newCounter(endpoint);
    await pushImage({ endpoint: through.endpoint }, "shipway/shop/again", "t1", image);
    expect(through.methods).toEqual(Array.from({ length: 5 }, () => "HEAD"));
    await through.close();
  });

  it("goes on where a connection broke, at any request", async () => {
    const calm = await newCounter(endpoint);
    await pushImage({ endpoint: calm.endpoint }, "shipway/shop/calm", "t1", image);
    await calm.close();
    for (let broken = 1; broken <= calm.methods.length; broken++) {
      const through = await newCounter(endpoint, broken);
      const digest = await pushImage({ endpoint: through.endpoint }, `shipway/shop/broken-${broken}`, "t1", image);
      expect(digest).toBe(image.manifest.digest);
      expect(through.methods.length).toBeGreaterThan(calm.methods.length);
      await through.close();
    }
  });

  it("says what the registry said when it refuses", async () => {
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
