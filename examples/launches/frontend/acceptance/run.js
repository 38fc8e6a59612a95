/**
 * What must be true of a live shop, asked from outside: `SHIPWAY_URL=http://frontend node acceptance/run.js`.
 * Safe on production and repeatable: it reads, and enters one fresh address into a hidden launch whose entries are
 * forgotten after a day. Exits with 1 when something does not hold.
 */
import assert from "node:assert/strict";
import { createHash, createHmac, randomUUID } from "node:crypto";

const base = process.env.SHIPWAY_URL;
if (!base) {
  console.error("Set SHIPWAY_URL to the address of the shop, such as http://frontend.");
  process.exit(2);
}
const HIDDEN = "/launches/acceptance-check";
const ask = (path, init = {}) =>
  fetch(new URL(path, base), { redirect: "manual", signal: AbortSignal.timeout(5_000), ...init });

async function page(path, status = 200) {
  const response = await ask(path);
  assert.equal(response.status, status, `${path} answers ${status}`);
  return response.text();
}

function enter(email, size = "One size") {
  return ask(HIDDEN, { method: "POST", body: new URLSearchParams({ email, size, requestKey: randomUUID() }) });
}

const checks = {
  "the shop is healthy and says its release": async () => {
    const response = await ask("/healthz");
    assert.equal(response.status, 200);
    const { release } = await response.json();
    assert.ok(release, "healthz tells the release");
    assert.ok((await page("/")).includes(`Release ${release}`), "the pages show the same release");
  },
  "the front page shows launches, and not the hidden one": async () => {
    const text = await page("/");
    assert.match(text, /href="\/launches\/[a-z0-9-]+"/);
    assert.ok(!text.includes("acceptance-check"), "the hidden launch is not listed");
  },
  "style sheet, script and font are served": async () => {
    const text = await page("/");
    const paths = [...text.matchAll(/(?:href|src)="(\/assets\/[^"]+)"/g)].map((match) => match[1]);
    assert.ok(paths.length >= 5, "the page names its assets");
    const answers = await Promise.all(paths.map((path) => ask(path)));
    for (const [index, { status }] of answers.entries()) assert.equal(status, 200, `${paths[index]} answers 200`);
  },
  "one address enters once, and gets a ticket that can be looked up": async () => {
    const email = `acceptance+${randomUUID()}@example.com`.replace("+", "-");
    const first = await enter(email);
    assert.equal(first.status, 303, "the first entry is accepted");
    const ticket = /\/tickets\/([0-9A-Z-]{14})/.exec(first.headers.get("location") ?? "")?.[1];
    assert.ok(ticket, "it leads to a ticket");
    assert.ok((await page(`/tickets/${ticket}`)).includes(ticket), "the ticket's page shows it");
    const second = await enter(email.toUpperCase());
    assert.equal(second.status, 409, "the second entry is refused");
    assert.match(await second.text(), /already in the draw/);
  },
  "what is not an address is refused with a reason": async () => {
    const response = await enter("<script>alert(1)</script>");
    assert.equal(response.status, 400);
    const text = await response.text();
    assert.match(text, /does not look like an e-mail address/);
    assert.ok(!text.includes("<script>alert"), "what was typed comes back escaped");
  },
  "a form sent from another site is refused": async () => {
    const response = await ask(HIDDEN, {
      method: "POST",
      headers: { origin: "https://elsewhere.example" },
      body: "email=a%40example.com",
    });
    assert.equal(response.status, 403);
  },
  "every draw on show can be repeated from its published numbers": async () => {
    const text = await page("/");
    const drawn = new Set(
      [...(text.split('id="drawn"')[1]?.matchAll(/href="\/launches\/([a-z0-9-]+)"/g) ?? [])].map((match) => match[1]),
    );
    for (const slug of drawn) {
      const [draw, tickets] = await Promise.all(
        ["draw", "tickets"].map(async (name) => (await ask(`/launches/${slug}/${name}.json`)).json()),
      );
      const seed = Buffer.from(draw.seed, "hex");
      assert.equal(createHash("sha256").update(seed).digest("hex"), draw.commitment, `${slug}: the seal`);
      const order = tickets.map((ticket) => [createHmac("sha256", seed).update(ticket).digest("hex"), ticket]).sort();
      assert.deepEqual(
        draw.winners.map(({ ticket }) => ticket),
        order.slice(0, draw.pieces).map(([, ticket]) => ticket),
        `${slug}: the winners`,
      );
      assert.match(await page(`/launches/${slug}/draw`), /This draw <em>holds/);
    }
  },
  "an unknown address is a friendly 404": async () => {
    assert.match(await page("/launches/no-such-launch", 404), /To the launches/);
  },
};

const startedAt = performance.now();
const results = await Promise.all(
  Object.entries(checks).map(async ([name, check]) => {
    try {
      await check();
      return { name };
    } catch (error) {
      return { name, error };
    }
  }),
);
for (const { name, error } of results)
  console.log(error ? `not ok  ${name}\n        ${error.message.split("\n").join("\n        ")}` : `ok      ${name}`);
const failed = results.filter(({ error }) => error).length;
console.log(
  `${results.length - failed} of ${results.length} hold, ${Math.round(performance.now() - startedAt)} ms, ${base}`,
);
process.exit(failed === 0 ? 0 : 1);
