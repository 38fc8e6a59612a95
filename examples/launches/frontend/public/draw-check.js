/**
 * Repeats a draw from what was published, in a browser or in Node, with nothing of the backend's code.
 * 1. SHA-256 of the seed's bytes is the commitment that was shown before the first entry.
 * 2. Each ticket draws HMAC-SHA256(seed, ticket). The lowest numbers win.
 * @param {{ seed: string, commitment: string, pieces: number, entries: number, winners: { ticket: string }[] }} draw
 * @param {string[]} tickets
 */
export async function checkDraw(draw, tickets) {
  const seed = bytesOf(draw.seed);
  const commitment = hexOf(await crypto.subtle.digest("SHA-256", seed));
  const key = await crypto.subtle.importKey("raw", seed, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const encoder = new TextEncoder();
  const lots = await Promise.all(
    tickets.map(async (ticket) => ({
      ticket,
      lot: hexOf(await crypto.subtle.sign("HMAC", key, encoder.encode(ticket))),
    })),
  );
  lots.sort((a, b) => (a.lot < b.lot ? -1 : 1));
  const expected = lots.slice(0, draw.pieces).map(({ ticket }) => ticket);
  const announced = draw.winners.map(({ ticket }) => ticket);
  return {
    commitmentHolds: commitment === draw.commitment,
    ticketsComplete: tickets.length === draw.entries && new Set(tickets).size === tickets.length,
    winnersHold: expected.length === announced.length && expected.every((ticket, index) => ticket === announced[index]),
    lots,
  };
}

function bytesOf(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function hexOf(buffer) {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
