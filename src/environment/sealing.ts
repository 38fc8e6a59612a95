import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts small values under a key that is not in the database. `context` is bound in: a sealed value copied to another row does not open. */
export type Sealer = { seal(plain: string, context: string): Buffer; open(sealed: Buffer, context: string): string };

/** AES-256-GCM with a random nonce per value (NIST SP 800-38D). */
export function newSealer(key: Buffer): Sealer {
  return {
    seal(plain, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(plain, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), body]);
    },
    open(sealed, context) {
      const nonce = sealed.subarray(0, NONCE_BYTES);
      const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
      const decipher = createDecipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(context)).setAuthTag(tag);
      return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString(
        "utf8",
      );
    },
  };
}

/** The key of this installation, made at the first start (0600). Back it up: without it the stored secrets are gone. */
export async function readOrCreateKey(file: string): Promise<Buffer> {
  const found = await readFile(file, "utf8").catch(() => "");
  if (found !== "") return Buffer.from(found.trim(), "base64");
  const key = randomBytes(32);
  await mkdir(dirname(file), { recursive: true, mode: 0o711 });
  await writeFile(`${file}.new`, key.toString("base64"), { mode: 0o600 });
  await rename(`${file}.new`, file);
  return key;
}
