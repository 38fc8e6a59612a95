import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fail } from "../shared/errors.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts small values under a key that is not in the database. `context` is bound in: a sealed value copied to another row does not open. */
export type Sealer = {
  seal(plain: string, context: string): Buffer;
  /** @throws SECRET_KEY_WRONG when the value was sealed with another key or context, or changed since */
  open(sealed: Buffer, context: string): string;
};

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
      const body = sealed.subarray(NONCE_BYTES + TAG_BYTES);
      try {
        const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES })
          .setAAD(Buffer.from(context))
          .setAuthTag(tag);
        return Buffer.concat([decipher.update(body), decipher.final()]).toString("utf8");
      } catch (cause) {
        throw fail("SECRET_KEY_WRONG", {
          message: `The secret ${context} does not open: secret.key in the data directory is not the one it was stored with.`,
          hint: "Put that secret.key back from your back-up and restart Shipway. Without it, remove the secret (`shipway secret remove`) and set it anew.",
          cause,
        });
      }
    },
  };
}

const KEY_BYTES = 32;

/**
 * The key of this installation where it is kept elsewhere (`given`, SHIPWAY_SECRET_KEY: 32 bytes as base64); else that of the data directory.
 * @throws SECRET_KEY_WRONG for what is no key, and where the two differ: one of them would not open what is stored
 */
export async function installationKey(given: string | undefined, file: string): Promise<Buffer> {
  if (given === undefined) return readOrCreateKey(file);
  const key = Buffer.from(given.trim(), "base64");
  const kept = await readFile(file, "utf8").catch(() => undefined);
  const isOther = kept !== undefined && !Buffer.from(kept.trim(), "base64").equals(key);
  if (key.length === KEY_BYTES && !isOther) return key;
  throw fail("SECRET_KEY_WRONG", {
    message: isOther
      ? `SHIPWAY_SECRET_KEY is not the key in ${file}.`
      : `SHIPWAY_SECRET_KEY is no key: it has ${key.length} bytes, and a key has ${KEY_BYTES}.`,
    hint: isOther
      ? "Give the one that the stored secrets were sealed with: the content of that file. Then the file may be removed."
      : "Give the content of an installation's secret.key, or 32 random bytes as base64: `openssl rand -base64 32`.",
  });
}

/**
 * The key of this installation, made at the first start (0600). Back it up: without it the stored secrets are gone.
 * @throws SECRET_KEY_WRONG when the file holds no key: making a new one would lose every secret
 */
async function readOrCreateKey(file: string): Promise<Buffer> {
  const found = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    // A file that is there and cannot be read must not be replaced.
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return createKey(file);
  const key = Buffer.from(found.trim(), "base64");
  if (key.length === KEY_BYTES) return key;
  throw fail("SECRET_KEY_WRONG", {
    message: `${file} does not hold a key: it is damaged.`,
    hint: "Put it back from your back-up. Without one, remove the file; then remove every secret and set it anew.",
  });
}

async function createKey(file: string): Promise<Buffer> {
  const key = randomBytes(KEY_BYTES);
  await mkdir(dirname(file), { recursive: true, mode: 0o711 });
  await writeFile(`${file}.new`, key.toString("base64"), { mode: 0o600 });
  await rename(`${file}.new`, file);
  return key;
}
