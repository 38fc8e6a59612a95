import { randomBytes } from "node:crypto";

// Without i, l, o and u: ids are read aloud and typed.
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/** `PREFIX_` and 12 random characters (60 bits). */
export function newId(prefix: string): string {
  return `${prefix}_${Array.from(randomBytes(12), (byte) => ALPHABET[byte % ALPHABET.length]).join("")}`;
}
