import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { addLaunch, countEntries, startBackend } from "./setup.js";

let backend;
before(async () => {
  backend = await startBackend();
});
after(() => backend?.close());

const entry = (email, more = {}) => ({ email, size: "40", ...more });

test("200 entries by one address at the same moment leave exactly one row and give exactly one ticket", async () => {
  const slug = await addLaunch(backend.database);
  const spellings = ["marta@gmail.com", "Marta@Gmail.com", "m.arta+launch@gmail.com", "marta@googlemail.com"];
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) => backend.post(`/launches/${slug}/entries`, entry(spellings[index % 4]))),
  );
  assert.equal(await countEntries(backend.database, slug), 1);
  assert.equal(answers.filter(({ status }) => status === 201).length, 1);
  assert.equal(answers.filter(({ status, body }) => status === 409 && body.error === "already_entered").length, 199);
});

test("200 different addresses at the same moment are all entered, with different tickets", async () => {
  const slug = await addLaunch(backend.database);
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      backend.post(`/launches/${slug}/entries`, entry(`p${index}@example.com`)),
    ),
  );
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [201]);
  assert.equal(new Set(answers.map(({ body }) => body.ticket)).size, 200);
  assert.equal(await countEntries(backend.database, slug), 200);
});

test("a repeated request gets the ticket of its first try, and only with its own key", async () => {
  const slug = await addLaunch(backend.database);
  const requestKey = "form-1234-5678";
  const first = await backend.post(`/launches/${slug}/entries`, entry("a@example.com", { requestKey }));
  const again = await backend.post(`/launches/${slug}/entries`, entry("a@example.com", { requestKey }));
  const other = await backend.post(
    `/launches/${slug}/entries`,
    entry("a@example.com", { requestKey: "another-form-key" }),
  );
  assert.deepEqual([first.status, again.status, other.status], [201, 200, 409]);
  assert.equal(again.body.ticket, first.body.ticket);
  assert.equal(other.body.ticket, undefined);
});

test("the same address may enter another launch", async () => {
  const slugs = [await addLaunch(backend.database), await addLaunch(backend.database)];
  for (const slug of slugs)
    assert.equal((await backend.post(`/launches/${slug}/entries`, entry("b@example.com"))).status, 201);
});

test("refuses what is incomplete, and launches that are not open, and leaves no row", async () => {
  const open = await addLaunch(backend.database);
  const closed = await addLaunch(backend.database, { opens: -60, closes: -1 });
  const upcoming = await addLaunch(backend.database, { opens: 60 });
  const cases = [
    [open, { email: "no address", size: "40" }, 400, "invalid_email"],
    [open, { email: ["a@example.com"], size: "40" }, 400, "invalid_email"],
    [open, { email: "a@example.com", size: "99" }, 400, "invalid_size"],
    [open, { email: "a@example.com" }, 400, "invalid_size"],
    [open, { email: "a@example.com", size: "40", requestKey: 7 }, 400, "invalid_request_key"],
    [closed, entry("a@example.com"), 409, "closed"],
    [upcoming, entry("a@example.com"), 409, "not_open_yet"],
    ["no-such-launch", entry("a@example.com"), 404, "no_such_launch"],
  ];
  for (const [slug, body, status, code] of cases) {
    const answer = await backend.post(`/launches/${slug}/entries`, body);
    assert.deepEqual([answer.status, answer.body.error], [status, code]);
  }
  for (const slug of [open, closed, upcoming]) assert.equal(await countEntries(backend.database, slug), 0);
});

test("a ticket tells its own fate and no address", async () => {
  const slug = await addLaunch(backend.database);
  const { body } = await backend.post(`/launches/${slug}/entries`, entry("secret.person@example.com"));
  const answer = await backend.get(`/tickets/${body.ticket}`);
  assert.equal(answer.body.ticket.outcome, "waiting");
  assert.doesNotMatch(JSON.stringify(answer.body), /secret|example/);
  assert.equal((await backend.get("/tickets/AAAA-BBBB-CCCC")).status, 404);
});

test("the list shows no seed, and no hidden launch", async () => {
  const slug = await addLaunch(backend.database);
  const hidden = await addLaunch(backend.database);
  await backend.database.query("UPDATE launches SET hidden = 1 WHERE slug = ?", [hidden]);
  const { body } = await backend.get("/launches");
  const slugs = body.launches.map((launch) => launch.slug);
  assert.ok(slugs.includes(slug) && !slugs.includes(hidden));
  for (const launch of body.launches) {
    assert.match(launch.commitment, /^[0-9a-f]{64}$/);
    assert.equal(launch.seed, undefined);
  }
});
