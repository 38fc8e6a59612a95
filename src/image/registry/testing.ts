import { execFile, spawnSync } from "node:child_process";
import { createSign, randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Blob, newBlob } from "./blob.ts";
import { startLocalRegistry } from "./local-registry.ts";
import type { RemoteImage } from "./push-image.ts";

/** Where the program is missing its tests are skipped, and say so. */
export const hasRegistry = spawnSync("docker-registry", ["--version"], { stdio: "ignore" }).status === 0;
if (!hasRegistry) console.warn("SKIPPED: pushing to a real registry. It needs: apt-get install docker-registry");

/** Debian's docker-registry on an empty directory; with `auth`, for who signs in as it says. */
export async function newTestRegistry(auth?: object): Promise<{ endpoint: string; cleanUp(): Promise<void> }> {
  const { endpoint, close } = await startLocalRegistry({ environment: process.env, ...(auth && { auth }) });
  return { endpoint, cleanUp: close };
}

const DOCKER = "application/vnd.docker";

/** An image of these layers (compressed ones), as Docker pushes it. */
export function newTestImage(layers: Buffer[], config = Buffer.from("{}")): RemoteImage {
  const blobs = [...layers.map(newBlob), newBlob(config)];
  const describe = (mediaType: string, { digest, size }: Blob) => ({ mediaType, size, digest });
  const mediaType = `${DOCKER}.distribution.manifest.v2+json`;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: describe(`${DOCKER}.container.image.v1+json`, newBlob(config)),
    layers: layers.map((layer) => describe(`${DOCKER}.image.rootfs.diff.tar.gzip`, newBlob(layer))),
  };
  return { manifest: newBlob(Buffer.from(JSON.stringify(manifest))), mediaType, blobs };
}

/**
 * A token server as Docker Hub has one: whoever is `known` may push and pull, anybody else may pull from below `public/`. `asked` has the scopes it was asked for.
 * What the registry is to be configured with is `auth`.
 */
export async function newTokenServer(known: string) {
  const dir = await mkdtemp(join(tmpdir(), "shipway-tokens-"));
  const [keyFile, certificateFile] = [join(dir, "key.pem"), join(dir, "certificate.pem")];
  const subject = ["-subj", "/CN=tokens", "-days", "1", "-nodes", "-newkey", "rsa:2048"];
  await promisify(execFile)("openssl", ["req", "-x509", ...subject, "-keyout", keyFile, "-out", certificateFile]);
  const [key, certificate] = await Promise.all([keyFile, certificateFile].map((file) => readFile(file, "utf8")));
  const x5c = [(certificate ?? "").replace(/-----[^-]+-----|\s/g, "")];
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? "", "http://tokens");
    const scope = searchParams.get("scope") ?? "";
    asked.push(scope);
    const [, name = "", actions = ""] = /^repository:([^:]+):(.+)$/.exec(scope) ?? [];
    const isKnown = request.headers.authorization === `Basic ${Buffer.from(known).toString("base64")}`;
    const allowed = isKnown ? actions.split(",") : name.startsWith("public/") ? ["pull"] : [];
    const now = Math.floor(Date.now() / 1_000);
    const access = allowed.length > 0 ? [{ type: "repository", name, actions: allowed }] : [];
    const times = { iat: now, nbf: now - 10, exp: now + 300 };
    const claims = { iss: "tokens", sub: "", aud: searchParams.get("service"), jti: randomUUID(), ...times, access };
    const text = [{ typ: "JWT", alg: "RS256", x5c }, claims].map((one) => toBase64Url(JSON.stringify(one))).join(".");
    const signature = createSign("RSA-SHA256")
      .update(text)
      .sign(key ?? "", "base64url");
    response.end(JSON.stringify({ token: `${text}.${signature}` }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`;
  return {
    asked,
    auth: { token: { realm, service: "registry.test", issuer: "tokens", rootcertbundle: certificateFile } },
    async cleanUp() {
      await new Promise((resolve) => server.close(resolve));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

const toBase64Url = (text: string) => Buffer.from(text).toString("base64url");
