import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { drawDue } from "../../src/closing.js";
import { openDatabase } from "../../src/database.js";
import { addDemoData } from "../../src/demo-data.js";
import { migrate } from "../../src/migrations.js";
import { startBackend } from "./setup.js";

const OURS = new URL("../../migrations/", import.meta.url);
let backend;
let directory;
before(async () => {
  backend = await startBackend();
  directory = await mkdtemp(join(tmpdir(), "launches-migrations-"));
  await cp(OURS, directory, { recursive: true });
});
after(async () => {
  await backend.close();
  await rm(directory, { recursive: true });
});
const here = () => pathToFileURL(`${directory}/`);

test("a second run applies nothing", async () => {
  assert.deepEqual(await migrate(backend.database, OURS), { applied: [], unknown: [] });
});

test("four runners at once apply a new file once", async () => {
  await writeFile(join(directory, "0900_extra.sql"), "CREATE TABLE extra (n INT);\nINSERT INTO extra VALUES (1);\n");
  const runners = Array.from({ length: 4 }, () => openDatabase(backend.config, { connections: 1 }));
  try {
    const results = await Promise.all(runners.map((runner) => migrate(runner, here())));
    assert.equal(results.flatMap(({ applied }) => applied).length, 1);
    assert.deepEqual(await backend.database.query("SELECT n FROM extra"), [{ n: 1 }]);
  } finally {
    await Promise.all(runners.map((runner) => runner.close()));
  }
});

test("a file that was cut off half way is finished by the next run", async () => {
  await backend.database.query("CREATE TABLE half (n INT)");
  await writeFile(join(directory, "0901_half.sql"), "CREATE TABLE half (n INT);\nALTER TABLE half ADD COLUMN m INT;\n");
  assert.deepEqual((await migrate(backend.database, here())).applied, ["0901_half.sql"]);
  assert.deepEqual(await backend.database.query("SELECT n, m FROM half"), []);
});

test("an older release accepts a database that is ahead of it", async () => {
  assert.deepEqual(await migrate(backend.database, OURS), {
    applied: [],
    unknown: ["0900_extra.sql", "0901_half.sql"],
  });
});

test("refuses a file that was changed after it had been applied", async () => {
  await writeFile(join(directory, "0900_extra.sql"), "CREATE TABLE extra (other INT);\n");
  await assert.rejects(migrate(backend.database, here()), /0900_extra.sql was changed/);
});

test("demo data is added once, and the launch that has ended is drawn at the first look", async () => {
  const added = await addDemoData(backend.database);
  assert.ok(added.includes("tidewater-low") && added.includes("acceptance-check"));
  assert.deepEqual(await addDemoData(backend.database), []);
  const states = new Map((await backend.get("/launches")).body.launches.map((launch) => [launch.slug, launch.state]));
  assert.equal(states.get("tidewater-low"), "open");
  assert.equal(states.get("basalt-boot"), "upcoming");
  assert.equal(states.get("aurora-knit"), "drawing");
  assert.equal(states.has("acceptance-check"), false);
  assert.deepEqual(
    (await drawDue(backend.database)).map(({ slug, winners }) => [slug, winners]),
    [["aurora-knit", 24]],
  );
});
