import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { after, before, test } from "node:test";
import { closeLaunch, drawDue, forgetTestEntries } from "../../src/closing.js";
import { openDatabase } from "../../src/database.js";
import { addLaunch, countEntries, endLaunch, startBackend } from "./setup.js";

let backend;
before(async () => {
  backend = await startBackend();
});
after(() => backend?.close());

const enterPeople = (slug, count) =>
  Promise.all(
    Array.from({ length: count }, (_, index) =>
      backend.post(`/launches/${slug}/entries`, { email: `p${index}@example.com`, size: "41" }),
    ),
  );
const drawOf = async (slug) => (await backend.get(`/launches/${slug}/draw`)).body.draw;

test("anyone can repeat the draw from what is published", async () => {
  const slug = await addLaunch(backend.database, { pieces: 5 });
  await enterPeople(slug, 40);
  const before = await drawOf(slug);
  assert.equal(before.seed, undefined);
  assert.equal((await backend.get(`/launches/${slug}/tickets`)).status, 409);

  await endLaunch(backend.database, slug);
  await drawDue(backend.database);

  const draw = await drawOf(slug);
  const { tickets } = (await backend.get(`/launches/${slug}/tickets`)).body;
  // Not with our own functions: this is what a stranger would write.
  const key = Buffer.from(draw.seed, "hex");
  const lots = tickets.map((ticket) => [createHmac("sha256", key).update(ticket).digest("hex"), ticket]).sort();
  assert.equal(createHash("sha256").update(key).digest("hex"), before.commitment);
  assert.equal(tickets.length, 40);
  assert.deepEqual(
    draw.winners.map((winner) => winner.ticket),
    lots.slice(0, 5).map(([, ticket]) => ticket),
  );
  for (const winner of draw.winners) assert.equal(winner.email, "p•••@e•••.com");
});

test("eight workers at once draw each launch once", async () => {
  const slugs = await Promise.all(Array.from({ length: 5 }, () => addLaunch(backend.database, { pieces: 2 })));
  for (const slug of slugs) await enterPeople(slug, 6);
  for (const slug of slugs) await endLaunch(backend.database, slug);
  const workers = Array.from({ length: 8 }, () => openDatabase(backend.config, { connections: 2 }));
  try {
    const drawn = (await Promise.all(workers.map(drawDue))).flat().map((draw) => draw.slug);
    assert.deepEqual(drawn.toSorted(), slugs.toSorted());
    for (const slug of slugs) assert.equal((await drawOf(slug)).winners.length, 2);
    assert.deepEqual(await drawDue(backend.database), []);
  } finally {
    await Promise.all(workers.map((worker) => worker.close()));
  }
});

test("every entry that was accepted while the launch was being closed and drawn took part in the draw", async () => {
  const slug = await addLaunch(backend.database, { pieces: 3 });
  const entering = Array.from({ length: 150 }, (_, index) =>
    backend.post(`/launches/${slug}/entries`, { email: `late${index}@example.com`, size: "40" }),
  );
  await Promise.race(entering);
  assert.ok(await closeLaunch(backend.database, slug));
  while ((await drawOf(slug)).state !== "closed") await drawDue(backend.database);
  const answers = await Promise.all(entering);
  const accepted = answers.filter(({ status }) => status === 201).map(({ body }) => body.ticket);
  const { tickets } = (await backend.get(`/launches/${slug}/tickets`)).body;
  assert.ok(accepted.length > 0);
  assert.deepEqual(accepted.toSorted(), tickets);
  assert.equal((await drawOf(slug)).entries, accepted.length);
  for (const { status, body } of answers) assert.ok(status === 201 || body.error === "closed");
});

test("with fewer entries than pieces everybody wins, and with none nobody does", async () => {
  const [few, none] = [await addLaunch(backend.database, { pieces: 9 }), await addLaunch(backend.database)];
  await enterPeople(few, 2);
  for (const slug of [few, none]) await endLaunch(backend.database, slug);
  await drawDue(backend.database);
  assert.equal((await drawOf(few)).winners.length, 2);
  assert.deepEqual((await drawOf(none)).winners, []);
});

test("a ticket knows whether it won", async () => {
  const slug = await addLaunch(backend.database, { pieces: 1 });
  const tickets = (await enterPeople(slug, 3)).map(({ body }) => body.ticket);
  await endLaunch(backend.database, slug);
  await drawDue(backend.database);
  const fates = await Promise.all(
    tickets.map(async (ticket) => (await backend.get(`/tickets/${ticket}`)).body.ticket.outcome),
  );
  assert.deepEqual(fates.toSorted(), ["lost", "lost", "won"]);
});

test("goes on after the database cut every connection", async () => {
  const slug = await addLaunch(backend.database, { pieces: 1 });
  await enterPeople(slug, 2);
  await endLaunch(backend.database, slug);
  const worker = openDatabase(backend.config, { connections: 2 });
  try {
    await worker.query("SELECT 1");
    await cutConnections(backend);
    assert.deepEqual(
      (await drawDue(worker)).map((draw) => draw.slug),
      [slug],
    );
  } finally {
    await worker.close();
  }
});

test("forgets entries of hidden launches after a day, and no others", async () => {
  const [hidden, shown] = [await addLaunch(backend.database), await addLaunch(backend.database)];
  for (const slug of [hidden, shown]) await enterPeople(slug, 2);
  await backend.database.query("UPDATE launches SET hidden = 1 WHERE slug = ?", [hidden]);
  assert.equal(await forgetTestEntries(backend.database), 0);
  await backend.database.query("UPDATE entries SET entered_at = entered_at - INTERVAL 2 DAY");
  assert.equal(await forgetTestEntries(backend.database), 2);
  assert.equal(await countEntries(backend.database, shown), 2);
});

/** Kills every other connection to this test's database, as a restart would. */
async function cutConnections({ config }) {
  const killer = openDatabase(config, { connections: 1 });
  const others = await killer.query(
    "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE DB = ? AND ID <> CONNECTION_ID()",
    [config.database],
  );
  for (const { id } of others) await killer.query(`KILL ${Number(id)}`).catch(() => {});
  await killer.close();
}
