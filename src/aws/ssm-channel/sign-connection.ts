import { createHash, createHmac, type Hash, type Hmac } from "node:crypto";
import type { AwsCredentialIdentity } from "@smithy/types";

/** The part of the service that data channels belong to, as in policies: `ssmmessages:OpenDataChannel`. */
const SIGNED_FOR = "ssmmessages";

/**
 * Headers that prove who opens a data channel. The service asks clients for that since 2025 (release history of AWS's Session Manager plugin, 1.2.764.0);
 * an address that is signed already needs none.
 */
export async function signConnection(
  url: string,
  { region, credentials, now }: { region: string; credentials: () => Promise<AwsCredentialIdentity>; now?: Date },
): Promise<Record<string, string>> {
  const { host, hostname, pathname, searchParams } = new URL(url);
  if (searchParams.has("X-Amz-Signature")) return {};
  // Loaded with the SDK, and not before: see `aws-clients.ts`.
  const { SignatureV4 } = await import("@smithy/signature-v4");
  const signer = new SignatureV4({
    service: SIGNED_FOR,
    region,
    credentials,
    sha256: NodeSha256,
    applyChecksum: false,
  });
  const { headers } = await signer.sign(
    {
      method: "GET",
      protocol: "wss:",
      hostname,
      path: pathname,
      query: Object.fromEntries(searchParams),
      headers: { host },
    },
    now === undefined ? {} : { signingDate: now },
  );
  // The connection sets its own.
  const { host: _, ...signed } = headers;
  return signed;
}

/** As the signer wants it. */
class NodeSha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", toBytes(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(toBytes(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

function toBytes(data: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof data === "string") return Buffer.from(data, "utf8");
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
}
