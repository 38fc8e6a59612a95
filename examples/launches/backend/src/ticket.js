import { randomInt } from "node:crypto";

/** Crockford's base 32: no I, L, O or U, so a ticket can be read aloud. */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** A random public ticket such as `4K7Q-M2XD-9PTB`: 60 bits, so guessing one is hopeless. */
export function newTicket() {
  const letters = Array.from({ length: 12 }, () => ALPHABET[randomInt(32)]);
  return [0, 4, 8].map((at) => letters.slice(at, at + 4).join("")).join("-");
}

export const isTicket = (text) => /^([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}$/.test(text);
