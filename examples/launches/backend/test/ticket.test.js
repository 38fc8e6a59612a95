import assert from "node:assert/strict";
import { test } from "node:test";
import { isTicket, newTicket } from "../src/ticket.js";

test("new tickets are valid and do not repeat", () => {
  const tickets = Array.from({ length: 5_000 }, newTicket);
  assert.equal(new Set(tickets).size, 5_000);
  for (const ticket of tickets) assert.ok(isTicket(ticket), ticket);
});

test("refuses letters that are mistaken for others, and other shapes", () => {
  for (const text of [
    "AAAA-BBBB-CCCI",
    "AAAA-BBBB-CCCO",
    "AAAABBBBCCCC",
    "aaaa-bbbb-cccc",
    "AAAA-BBBB-CCCC-",
    "AAAA-BBBB-CCCC\n",
  ])
    assert.ok(!isTicket(text), text);
});
