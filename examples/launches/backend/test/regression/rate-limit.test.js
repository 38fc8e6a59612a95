import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { redisRateLimiter } from "../../src/rate-limit.js";
import { addLaunch, countEntries, startBackend, waitFor } from "./setup.js";

let backend;
before(async () => {
  backend = await startBackend({ attempts: 5 });
});
after(() => backend?.close());

const from = (address) => ({ "x-client-address": address });
const enterFrom = (slug, address, email) =>
  backend.post(`/launches/${slug}/entries`, { email, size: "40" }, from(address));

test("of 30 attempts from one address at the same moment, 5 pass", async () => {
  const slug = await addLaunch(backend.database);
  const answers = await Promise.all(
    Array.from({ length: 30 }, (_, index) => enterFrom(slug, "10.0.0.1", `p${index}@example.com`)),
  );
  assert.equal(answers.filter(({ status }) => status === 201).length, 5);
  assert.equal(await countEntries(backend.database, slug), 5);
  const refused = answers.filter(({ status }) => status === 429);
  assert.equal(refused.length, 25);
  for (const { headers } of refused) {
    const seconds = Number(headers.get("retry-after"));
    assert.ok(seconds >= 1 && seconds <= 60, `Retry-After is ${seconds}`);
  }
});

test("another address, and another launch, have their own count", async () => {
  const [one, two] = [await addLaunch(backend.database), await addLaunch(backend.database)];
  for (let index = 0; index < 6; index++) await enterFrom(one, "10.0.0.2", `a${index}@example.com`);
  assert.equal((await enterFrom(one, "10.0.0.2", "b@example.com")).status, 429);
  assert.equal((await enterFrom(one, "10.0.0.3", "b@example.com")).status, 201);
  assert.equal((await enterFrom(two, "10.0.0.2", "b@example.com")).status, 201);
});

test("the window ends by itself", async () => {
  const limiter = redisRateLimiter(process.env.CACHE_URL, { attempts: 1, windowMs: 50 });
  try {
    const key = `window-${Math.random()}`;
    await waitFor(async () => (await limiter.take(`warm-${Math.random()}`)).available);
    assert.equal((await limiter.take(key)).allowed, true);
    assert.equal((await limiter.take(key)).allowed, false);
    await waitFor(async () => (await limiter.take(key)).allowed);
  } finally {
    limiter.close();
  }
});

test("without Redis entries still pass, once per address", async () => {
  const lame = await startBackend({ attempts: 1, withCache: false });
  try {
    const slug = await addLaunch(lame.database);
    const post = () => lame.post(`/launches/${slug}/entries`, { email: "a@example.com", size: "40" });
    assert.deepEqual([(await post()).status, (await post()).status], [201, 409]);
  } finally {
    await lame.close();
  }
});
