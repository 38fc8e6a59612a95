import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { test } from "node:test";
import { checkDraw } from "../public/draw-check.js";

const seed = "ab".repeat(32);
const tickets = Array.from({ length: 30 }, (_, index) => `AAAA-BBBB-${String(index).padStart(4, "0")}`);
const order = tickets
  .map((ticket) => [createHmac("sha256", Buffer.from(seed, "hex")).update(ticket).digest("hex"), ticket])
  .sort()
  .map(([, ticket]) => ({ ticket }));
const draw = {
  seed,
  commitment: createHash("sha256").update(Buffer.from(seed, "hex")).digest("hex"),
  pieces: 4,
  entries: 30,
  winners: order.slice(0, 4),
};
const verdict = async (changed, list = tickets) => {
  const { commitmentHolds, ticketsComplete, winnersHold } = await checkDraw({ ...draw, ...changed }, list);
  return [commitmentHolds, ticketsComplete, winnersHold];
};

test("an honest draw holds", async () => {
  assert.deepEqual(await verdict({}), [true, true, true]);
});

test("notices another seed, a missing ticket, a doubled ticket, another winner, another order, too few winners", async () => {
  assert.deepEqual((await verdict({ seed: "cd".repeat(32) }))[0], false);
  assert.deepEqual((await verdict({}, tickets.slice(1)))[1], false);
  assert.deepEqual((await verdict({}, [...tickets.slice(1), tickets[1]]))[1], false);
  assert.deepEqual((await verdict({ winners: [...order.slice(0, 3), order[9]] }))[2], false);
  assert.deepEqual((await verdict({ winners: order.slice(0, 4).toReversed() }))[2], false);
  assert.deepEqual((await verdict({ winners: order.slice(0, 3) }))[2], false);
});

test("fewer tickets than pieces: all win", async () => {
  const few = order.slice(0, 2);
  assert.deepEqual(
    await verdict(
      { entries: 2, winners: few },
      few.map(({ ticket }) => ticket),
    ),
    [true, true, true],
  );
});
