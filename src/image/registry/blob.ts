import { createHash } from "node:crypto";
import { Readable } from "node:stream";

/** One thing that a registry keeps: its digest is that of its bytes. */
export type Blob = {
  digest: string;
  size: number;
  /** Can be read as often as needed: an upload that broke off starts anew. */
  open(): Readable;
};

export function newBlob(bytes: Buffer): Blob {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return { digest, size: bytes.length, open: () => Readable.from([bytes]) };
}
