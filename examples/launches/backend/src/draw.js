import { createHash, createHmac, randomBytes } from "node:crypto";

/** A new secret seed: 32 random bytes as hex. */
export const newSeed = () => randomBytes(32).toString("hex");

/** What is published before anybody enters: the seed cannot be changed later without changing this. */
export const commitmentOf = (seed) => createHash("sha256").update(Buffer.from(seed, "hex")).digest("hex");

/** The number a ticket draws: HMAC-SHA256 with the seed's bytes as key. Nobody can know it before the seed is shown. */
export const lotOf = (seed, ticket) => createHmac("sha256", Buffer.from(seed, "hex")).update(ticket).digest("hex");

/**
 * The order of all tickets, lowest lot first; the first `pieces` of them win. The same seed and tickets give the
 * same order whatever order they come in, so anyone can repeat it.
 * @param {string} seed
 * @param {string[]} tickets
 */
export function drawOrder(seed, tickets) {
  return tickets
    .map((ticket) => ({ ticket, lot: lotOf(seed, ticket) }))
    .sort((a, b) => (a.lot < b.lot ? -1 : a.lot > b.lot ? 1 : 0))
    .map(({ ticket }) => ticket);
}
