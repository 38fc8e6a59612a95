import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { formatLeft, formatPrice, formatTime, plural } from "../src/format.js";

const CASES = [
  [90_000, "01:30"],
  [1, "00:01"],
  [-5, "00:00"],
  [3_600_000, "1 h 00 min"],
  [86_400_000 + 3_600_000 * 4, "1 d 04 h"],
];

test("shows the two units that matter", () => {
  for (const [ms, text] of CASES) assert.equal(formatLeft(ms), text);
});

test("the browser's countdown reads the same as the server's", async () => {
  const source = await readFile(new URL("../public/page.js", import.meta.url), "utf8");
  const [, two, body] = /(const two = [^\n]+)[\s\S]*?(function formatLeft\(ms\) \{[\s\S]*?\n\})/.exec(source) ?? [];
  const inBrowser = new Function(`${two}\n${body}\nreturn formatLeft;`)();
  for (let ms = -1_000; ms < 400_000_000; ms += 7_777_777) assert.equal(inBrowser(ms), formatLeft(ms));
});

test("formats prices, times and counts", () => {
  assert.equal(formatPrice({ cents: 28_000, currency: "EUR" }), "€280");
  assert.equal(formatPrice({ cents: 28_050, currency: "EUR" }), "€280.50");
  assert.equal(formatTime("2026-05-14T18:00:00.000Z"), "Thu 14 May, 18:00 UTC");
  assert.deepEqual([plural(1, "entry", "entries"), plural(1_200, "entry", "entries")], ["1 entry", "1,200 entries"]);
});
