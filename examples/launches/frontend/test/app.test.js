import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { createApp } from "../src/app.js";
import { loadAssets } from "../src/assets.js";
import { connectBackend } from "../src/backend.js";
import { escapeHtml } from "../src/html.js";
import { serve } from "../src/serve.js";
import { themeCss } from "../src/theme-css.js";
import { theme } from "../theme.js";

/** A backend that says what a test tells it to, over real HTTP. */
const script = new Map();
const asked = [];
let clock = Date.parse("2026-05-14T12:00:00Z");
let backend;
let shop;

before(async () => {
  backend = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push({ method: request.method, path: request.url, headers: request.headers, body });
    const answers = script.get(`${request.method} ${request.url}`) ?? [
      { status: 404, body: { error: "no_such_launch" } },
    ];
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === "cut") return request.socket.destroy();
    response
      .writeHead(answer.status ?? 200, { "content-type": "application/json", ...answer.headers })
      .end(JSON.stringify(answer.body));
  });
  await new Promise((resolve) => backend.listen(0, "127.0.0.1", () => resolve(undefined)));
  const url = `http://127.0.0.1:${backend.address().port}`;
  const now = () => clock;
  shop = await serve(
    createApp({
      backend: connectBackend({ url, timeoutMs: 500, pauseMs: 1, edgeKey: "edge", now }),
      assets: await loadAssets(new URL("../public/", import.meta.url), { "theme.css": themeCss(theme) }),
      theme,
      release: "r7",
      log: () => {},
      now,
    }),
    0,
  );
});
after(async () => {
  await shop?.stop();
  backend?.closeAllConnections();
  backend?.close();
});
beforeEach(() => {
  script.clear();
  asked.length = 0;
  // What one test left in the memory for bad times must not serve the next.
  clock += 3_600_000;
});

const ask = (path, init) => fetch(`http://127.0.0.1:${shop.port}${path}`, { redirect: "manual", ...init });
const iso = (ms) => new Date(clock + ms).toISOString();
const launch = (more = {}) => ({
  slug: "knit",
  title: "Knit",
  subtitle: "Wool",
  story: "A story.",
  art: "knit",
  price: { cents: 100_00, currency: "EUR" },
  sizes: ["S", "M"],
  pieces: 2,
  state: "open",
  opensAt: iso(-1_000),
  closesAt: iso(90_000),
  drawnAt: null,
  entries: 3,
  commitment: "c0ffee",
  ...more,
});
const says = (path, ...answers) => script.set(path, answers);
const saysLaunch = (more) => says("GET /launches/knit", { body: { launch: launch(more) } });
const post = (fields, headers = {}) =>
  ask("/launches/knit", { method: "POST", body: new URLSearchParams(fields), headers });

test("every page names the release, and the countdown is there without JavaScript", async () => {
  says("GET /launches", { body: { launches: [launch()] } });
  const text = await (await ask("/")).text();
  assert.match(text, /Release r7/);
  assert.match(text, /Closes in <b data-until="\d+">01:30<\/b>/);
  assert.ok(text.includes(escapeHtml(theme.headline[0])));
});

test("shows what the backend says as text, whatever it is", async () => {
  const evil = `<img src=x onerror="alert(1)">`;
  saysLaunch({ title: evil, subtitle: evil, story: evil, commitment: evil, sizes: [evil], art: `knit" onload="x` });
  const text = await (await ask("/launches/knit")).text();
  assert.ok(!text.includes("<img"));
  assert.ok(!text.includes('onload="x'));
});

test("asks a second time, and only a second time, when the first answer fails", async () => {
  says("GET /launches", "cut", { body: { launches: [] } });
  assert.equal((await ask("/")).status, 200);
  assert.equal(asked.length, 2);

  asked.length = 0;
  clock += 3_600_000;
  says("GET /launches", { status: 500, body: {} });
  assert.equal((await ask("/")).status, 503);
  assert.equal(asked.length, 2);
});

test("a backend that is away gets a friendly page that comes back by itself", async () => {
  says("GET /launches", "cut");
  const response = await ask("/");
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "5");
  const text = await response.text();
  assert.match(text, /Back in a moment/);
  assert.match(text, /http-equiv="refresh" content="5"/);
});

test("what was read before is shown for five minutes while the backend is away, and says so", async () => {
  says("GET /launches", { body: { launches: [launch()] } });
  assert.doesNotMatch(await (await ask("/")).text(), /catching up/);
  says("GET /launches", "cut");
  assert.match(await (await ask("/")).text(), /catching up/);
  asked.length = 0;
  assert.match(await (await ask("/")).text(), /catching up/);
  assert.equal(asked.length, 0, "within a second of a failure memory answers at once");
  clock += 301_000;
  assert.equal((await ask("/")).status, 503);
});

test("an entry leads to its ticket, and tells the backend who asked", async () => {
  says("POST /launches/knit/entries", { status: 201, body: { ticket: "AAAA-BBBB-CCCC" } });
  const response = await post(
    { email: " a@example.com ", size: "M", requestKey: "form-12345" },
    { "x-forwarded-for": "6.6.6.6, 10.1.2.3" },
  );
  assert.equal(response.status, 303);
  assert.equal(response.headers.get("location"), "/tickets/AAAA-BBBB-CCCC?new=1");
  assert.deepEqual(JSON.parse(asked[0].body), { email: "a@example.com", size: "M", requestKey: "form-12345" });
  assert.equal(asked[0].headers["x-client-address"], "10.1.2.3");
  assert.equal(asked[0].headers["x-edge-key"], "edge");
});

test("an entry whose answer was lost is sent again with the same key", async () => {
  says("POST /launches/knit/entries", "cut", { status: 200, body: { ticket: "AAAA-BBBB-CCCC" } });
  assert.equal((await post({ email: "a@example.com", size: "M", requestKey: "form-12345" })).status, 303);
  assert.equal(asked.length, 2);
  assert.equal(asked[0].body, asked[1].body);
});

test("each refusal keeps its status, its reason and what was typed", async () => {
  const cases = [
    [400, "invalid_email", /does not look like an e-mail/],
    [400, "invalid_size", /Choose your size/],
    [409, "already_entered", /already in the draw/],
    [409, "closed", /doors closed/],
    [429, "too_many", /Wait 17 s/],
  ];
  for (const [status, error, reason] of cases) {
    saysLaunch();
    says("POST /launches/knit/entries", {
      status,
      body: { error, message: "Wait 17 s." },
      headers: { "retry-after": "17" },
    });
    const response = await post({ email: `a"b@example.com`, size: "M" });
    assert.equal(response.status, status);
    const text = await response.text();
    assert.match(text, reason);
    assert.ok(text.includes('value="a&quot;b@example.com"'));
    assert.match(text, /value="M" checked/);
    if (status === 429) assert.equal(response.headers.get("retry-after"), "17");
  }
});

test("a form sent from another site never reaches the backend", async () => {
  for (const headers of [
    { origin: "https://elsewhere.example" },
    { "sec-fetch-site": "cross-site" },
    { origin: "null" },
  ])
    assert.equal((await post({ email: "a@example.com" }, headers)).status, 403);
  assert.equal(asked.length, 0);
});

test("a form that is too large is refused", async () => {
  assert.equal((await post({ email: "a".repeat(5_000) })).status, 413);
});

test("each state of a launch has its page", async () => {
  const draw = {
    seed: "00",
    commitment: "c0ffee",
    entries: 3,
    pieces: 2,
    drawnAt: iso(0),
    winners: [{ place: 1, ticket: "AAAA-BBBB-CCCC", email: "a•••@b•••.c", size: "M" }],
  };
  says("GET /launches/knit/draw", { body: { draw } });
  const seen = {};
  for (const state of ["upcoming", "open", "drawing", "closed"]) {
    saysLaunch({ state, drawnAt: state === "closed" ? iso(0) : null });
    seen[state] = await (await ask("/launches/knit")).text();
  }
  assert.match(seen.upcoming, /Opens in/);
  assert.match(seen.open, /<form class="entry" method="post"/);
  assert.match(seen.drawing, /http-equiv="refresh" content="3"/);
  assert.match(seen.closed, /1 winner/);
  for (const state of ["upcoming", "drawing", "closed"]) assert.ok(!seen[state].includes("<form"), state);
});

test("the proof of a draw that has not happened is 409, of a launch that is not there 404", async () => {
  saysLaunch();
  says("GET /launches/knit/draw", { body: { draw: { commitment: "c0ffee" } } });
  says("GET /launches/knit/tickets", { status: 409, body: { error: "not_drawn" } });
  assert.equal((await ask("/launches/knit/draw")).status, 409);
  assert.equal((await ask("/launches/other/draw")).status, 404);
});

test("finds a ticket however it is typed", async () => {
  says("GET /tickets/AAAA-BBBB-CCCC", {
    body: { ticket: { ticket: "AAAA-BBBB-CCCC", slug: "knit", outcome: "waiting", size: "M", enteredAt: iso(0) } },
  });
  saysLaunch();
  const found = await ask("/tickets?ticket=aaaa%20bbbbcccc");
  assert.equal(found.headers.get("location"), "/tickets/AAAA-BBBB-CCCC");
  assert.match(await (await ask("/tickets/AAAA-BBBB-CCCC?new=1")).text(), /You are in/);
  const missing = await ask("/tickets?ticket=%3Cscript%3E");
  assert.equal(missing.status, 404);
  assert.doesNotMatch(await missing.text(), /<script>/);
});

test("is healthy though the backend is away", async () => {
  const response = await ask("/healthz");
  assert.equal(response.status, 200);
  assert.deepEqual(await response.json(), { ok: true, release: "r7" });
});

test("every page forbids what it does not need", async () => {
  says("GET /launches", { body: { launches: [launch()] } });
  const response = await ask("/");
  const policy = response.headers.get("content-security-policy");
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  assert.doesNotMatch(await response.text(), / style=|<style|javascript:|https?:\/\//);
});

test("assets are kept for good under their own tag and asked for again under another", async () => {
  says("GET /launches", { body: { launches: [] } });
  const path = /href="(\/assets\/styles\.css\?v=[^"]+)"/.exec(await (await ask("/")).text())?.[1];
  assert.ok(path);
  assert.match((await ask(path)).headers.get("cache-control"), /immutable/);
  const other = await ask("/assets/styles.css?v=older");
  assert.equal(other.headers.get("cache-control"), "no-cache");
  assert.equal(
    (await ask("/assets/styles.css", { headers: { "if-none-match": other.headers.get("etag") } })).status,
    304,
  );
  assert.equal((await ask("/assets/../server.js")).status, 404);
});

test("a theme with a colour that is none stops the start", () => {
  assert.throws(() => themeCss({ accent: "red;}", accentOnDark: "#ffffff" }), /is not a colour/);
});
