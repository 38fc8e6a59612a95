import assert from "node:assert/strict";
import { test } from "node:test";
import { emailKey, isEmail, maskEmail } from "../src/email.js";

test("accepts ordinary addresses", () => {
  for (const address of ["a@b.co", "marta.holm+x@example.com", "o'neil@sub.example.museum", "jörg@müller.de"])
    assert.ok(isEmail(address), address);
});

test("refuses what is not an address", () => {
  for (const address of [
    "",
    "a",
    "a@b",
    "@b.co",
    "a@@b.co",
    "a b@c.de",
    "a@-b.de",
    "a@b..de",
    "a@b.c",
    "<a@b.co>",
    "a@b.co,c@d.ee",
    `${"a".repeat(65)}@b.co`,
    `a@${"b".repeat(300)}.co`,
  ])
    assert.ok(!isEmail(address), address);
});

test("one person has one key, however they write their address", () => {
  const cases = [
    [" Marta@Example.COM ", "marta@example.com"],
    ["marta+launch@example.com", "marta@example.com"],
    ["m.a.r.t.a+1@gmail.com", "marta@gmail.com"],
    ["marta@googlemail.com", "marta@gmail.com"],
    ["m.arta@example.com", "m.arta@example.com"],
    ["+tag@example.com", "+tag@example.com"],
  ];
  for (const [typed, key] of cases) assert.equal(emailKey(typed), key);
});

test("a key of a key is itself", () => {
  for (const address of ["M.A+x@gmail.com", "a+b+c@example.com"])
    assert.equal(emailKey(emailKey(address)), emailKey(address));
});

test("a masked address shows two letters and the top-level domain", () => {
  assert.equal(maskEmail("marta.holm@shop.example.com"), "m•••@s•••.com");
});
