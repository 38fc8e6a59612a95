import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { commitmentOf, drawOrder, lotOf, newSeed } from "../src/draw.js";

const SEED = `${"00".repeat(31)}01`;
const TICKETS = Array.from({ length: 200 }, (_, index) => `AAAA-BBBB-${String(index).padStart(4, "0")}`);

test("the same seed and tickets give the same order, whatever order they come in", () => {
  assert.deepEqual(drawOrder(SEED, TICKETS), drawOrder(SEED, TICKETS.toReversed()));
});

test("every ticket appears exactly once", () => {
  assert.deepEqual(drawOrder(SEED, TICKETS).toSorted(), TICKETS);
});

test("another seed gives another order", () => {
  assert.notDeepEqual(drawOrder(SEED, TICKETS), drawOrder("11".repeat(32), TICKETS));
});

test("a lot is the HMAC-SHA256 that RFC 4231 describes (test case 2)", () => {
  const key = Buffer.from("Jefe").toString("hex");
  assert.equal(
    lotOf(key, "what do ya want for nothing?"),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  );
});

test("the commitment is the SHA-256 of the seed's bytes, not of its hex text", () => {
  assert.equal(
    commitmentOf(SEED),
    createHash("sha256")
      .update(Uint8Array.from([...Array(31).fill(0), 1]))
      .digest("hex"),
  );
  assert.notEqual(commitmentOf(SEED), createHash("sha256").update(SEED).digest("hex"));
});

test("seeds are 32 bytes and do not repeat", () => {
  const seeds = new Set(Array.from({ length: 100 }, newSeed));
  assert.equal(seeds.size, 100);
  for (const seed of seeds) assert.match(seed, /^[0-9a-f]{64}$/);
});

test("over many seeds each ticket wins about equally often", () => {
  const tickets = TICKETS.slice(0, 10);
  const wins = new Map(tickets.map((ticket) => [ticket, 0]));
  for (let round = 0; round < 2_000; round++) {
    const [first] = drawOrder(createHash("sha256").update(String(round)).digest("hex"), tickets);
    wins.set(first, (wins.get(first) ?? 0) + 1);
  }
  // 200 expected; the seeds are fixed, so this never flickers.
  for (const count of wins.values()) assert.ok(count > 150 && count < 250, `one ticket won ${count} of 2000`);
});
