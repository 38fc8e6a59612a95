import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createApp } from "../src/app.js";
import { serve } from "../src/serve.js";

/** A database that is away: what the routes say without one. The real one is in test/regression. */
const absent = {
  query: async () => Promise.reject(Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" })),
};
const verdict = { allowed: true, retryAfterSeconds: 0, available: true };
const keys = [];
const limiter = {
  async take(key) {
    keys.push(key);
    return verdict;
  },
  close() {},
};
let ready = false;
let server;
const lines = [];

before(async () => {
  server = await serve(
    createApp({
      database: absent,
      limiter,
      isReady: () => ready,
      release: "r7",
      adminToken: "secret",
      edgeKey: "edge",
      log: (event, fields) => lines.push({ event, ...fields }),
    }),
    0,
  );
});
after(() => server.stop());

const ask = (path, options) => fetch(`http://127.0.0.1:${server.port}${path}`, options);
const post = (path, body, headers = {}) => ask(path, { method: "POST", body: JSON.stringify(body), headers });

test("is not healthy before the database answered, and stays healthy afterwards though the database is away", async () => {
  assert.equal((await ask("/healthz")).status, 503);
  ready = true;
  const answer = await ask("/healthz");
  assert.equal(answer.status, 200);
  assert.deepEqual(await answer.json(), { ok: true, release: "r7" });
});

test("answers 503 with Retry-After while the database is away, and never tells its error", async () => {
  const answer = await ask("/launches");
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get("retry-after"), "2");
  assert.doesNotMatch(await answer.text(), /ECONNREFUSED/);
  assert.ok(lines.some((line) => line.event === "error" && line.code === "ECONNREFUSED"));
});

test("knows its addresses and their methods", async () => {
  assert.equal((await ask("/nothing")).status, 404);
  assert.equal((await ask("/launches/UPPER")).status, 404);
  const answer = await ask("/launches/a/entries");
  assert.equal(answer.status, 405);
  assert.equal(answer.headers.get("allow"), "POST");
});

test("refuses bodies that are no JSON object, and large ones", async () => {
  assert.equal((await ask("/launches/a/entries", { method: "POST", body: "email=a" })).status, 400);
  assert.equal((await post("/launches/a/entries", ["a"])).status, 400);
  assert.equal((await post("/launches/a/entries", { email: "a".repeat(5_000) })).status, 413);
});

test("answers 429 with Retry-After when the limiter says so, before anything else", async () => {
  Object.assign(verdict, { allowed: false, retryAfterSeconds: 17 });
  const answer = await post("/launches/a/entries", {});
  Object.assign(verdict, { allowed: true });
  assert.equal(answer.status, 429);
  assert.equal(answer.headers.get("retry-after"), "17");
});

test("believes an address told by the frontend only with the edge key", async () => {
  keys.length = 0;
  await post("/launches/a/entries", [], { "x-client-address": "1.2.3.4", "x-edge-key": "edge" });
  await post("/launches/a/entries", [], {
    "x-client-address": "1.2.3.4",
    "x-edge-key": "wrong",
    "x-forwarded-for": "5.6.7.8, 9.9.9.9",
  });
  assert.deepEqual(keys, ["a:1.2.3.4", "a:9.9.9.9"]);
});

test("closing by hand needs the admin token", async () => {
  assert.equal((await post("/launches/a/close", {})).status, 403);
  assert.equal((await post("/launches/a/close", {}, { authorization: "Bearer wrong" })).status, 403);
});

test("finishes a request in flight when told to stop, and refuses new connections", async () => {
  const [arrived, held] = [signal(), signal()];
  const slow = await serve(async (_request, response) => {
    arrived.give();
    await held.given;
    response.end("done");
  }, 0);
  const inFlight = fetch(`http://127.0.0.1:${slow.port}/`);
  await arrived.given;
  const stopped = slow.stop();
  await assert.rejects(fetch(`http://127.0.0.1:${slow.port}/`));
  held.give();
  assert.equal(await (await inFlight).text(), "done");
  await stopped;
});

test("cuts what is still open when the grace time is over", async () => {
  const arrived = signal();
  const stuck = await serve(() => arrived.give(), 0);
  const hanging = assert.rejects(fetch(`http://127.0.0.1:${stuck.port}/`));
  await arrived.given;
  await stuck.stop(20);
  await hanging;
});

function signal() {
  let give = () => {};
  const given = new Promise((resolve) => (give = () => resolve(undefined)));
  return { give, given };
}
