import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { BASE_IMAGE } from "../sample-app.ts";

/** Web and worker over MariaDB and Redis; web counts its visits in both. */
const SPEC = `
app: shop
services:
  web:
    build: {}
    port: 3000
    health: { path: /healthz, interval: 500ms }
    count: 2
    release: [node, migrate.js]
  worker:
    build: {}
    command: [node, worker.js]
    health: { grace: 1s }
backing:
  db: { engine: mariadb }
  cache: { engine: redis }
bake: 1s
verify:
  - { service: web, command: [node, verify.js] }
`;
const PIPELINES = `
image: ${BASE_IMAGE}
definitions:
  services:
    mariadb:
      image: mariadb:10.11
      variables: { MARIADB_ROOT_PASSWORD: test, MARIADB_DATABASE: shop }
    redis:
      image: redis:7
pipelines:
  default:
    - step:
        name: Test
        services: [mariadb, redis]
        script:
          - npm ci --no-audit --no-fund
          - DB_URL=mysql://root:test@127.0.0.1:3306/shop CACHE_URL=redis://127.0.0.1:6379 node test.js
        artifacts: [proof.txt]
    - step:
        name: Read the artifact
        script: ["grep proved proof.txt"]
`;
const STORES = `
const mysql = require("mysql2/promise");
const { Redis } = require("ioredis");
exports.open = async () => ({ db: mysql.createPool(process.env.DB_URL), cache: new Redis(process.env.CACHE_URL) });
`;
const web = (text: string) => `
const http = require("node:http");
(async () => {
  const { db, cache } = await require("./stores.js").open();
  const server = http.createServer(async (request, response) => {
    if (request.url === "/healthz") return response.end("ok");
    try {
      await db.query("insert into visits values ()");
      response.end(${JSON.stringify(text)} + " visit " + (await cache.incr("visits")));
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.listen(3000);
  process.on("SIGTERM", () => server.close(() => process.exit(0)));
})();
`;
const FILES = {
  "shipway.yml": SPEC,
  "bitbucket-pipelines.yml": PIPELINES,
  Dockerfile: `FROM ${BASE_IMAGE}\nWORKDIR /app\nCOPY package*.json ./\nRUN npm ci --no-audit --no-fund\nCOPY . .\nCMD ["node", "web.js"]\n`,
  ".gitignore": "node_modules\n",
  "stores.js": STORES,
  "web.js": web("first"),
  "worker.js": 'setInterval(() => console.log("tick"), 500); process.on("SIGTERM", () => process.exit(0));',
  "migrate.js":
    'require("./stores.js").open().then(async ({ db }) => { await db.query("create table if not exists visits (id int auto_increment primary key)"); process.exit(0); });',
  "verify.js":
    "fetch(process.env.SHIPWAY_URL).then(async (answer) => process.exit(answer.ok && /visit/.test(await answer.text()) ? 0 : 1));",
  "test.js":
    'require("./stores.js").open().then(async ({ db, cache }) => { await db.query("select 1"); await cache.ping(); require("node:fs").writeFileSync("proof.txt", "proved"); process.exit(0); });',
};
const HOST = "web.production.shop.localhost";

describe("from git push to live and back", () => {
  let shipway: Installation;
  let checkout: string;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await shipway.newApp("shop", { ...FILES, ...(await lockedDependencies()) });
  });
  afterAll(() => shipway.remove());

  it("runs the pipeline with MariaDB and Redis, builds, migrates, starts web and worker, verifies and is live", async () => {
    const pushed = await shipway.push(checkout);
    expect(pushed.stderr).toMatch(/remote: .*live in .*http:\/\/web\.production\.shop\.localhost/);
    expect(pushed.code).toBe(0);
    expect(await shipway.page(HOST)).toEqual({ status: 200, body: expect.stringMatching(/^first visit \d+$/) });
    const [pipeline] =
      await shipway.api<{ status: string; steps: { name: string; status: string; logId: string }[] }[]>(
        "/api/apps/shop/pipelines",
      );
    expect(pipeline).toMatchObject({
      status: "passed",
      steps: [
        { name: "Test", status: "passed" },
        { name: "Read the artifact", status: "passed" },
      ],
    });
    const lines = await shipway.api<{ text: string }[]>(`/api/logs?id=${pipeline?.steps[0]?.logId}`);
    expect(lines.map(({ text }) => text).join("\n")).toContain("npm ci");
    expect(await shipway.containers({ "shipway.role": "step" })).toEqual([]);
  });

  it("replaces it by a second push and goes back by a rollback, with no request lost and the data kept", async () => {
    const traffic = shipway.traffic(HOST);
    await shipway.commit(checkout, { "web.js": web("second") }, "Say second");
    const pushed = await shipway.push(checkout, "-o", "skip-ci");
    expect(pushed.stderr).toContain("live in");
    const before = await visits(shipway);
    expect(before.text).toBe("second");

    const rolled = await shipway.shipway(["rollback"], checkout);
    expect([rolled.code, rolled.stderr]).toEqual([0, expect.stringContaining("r1")]);
    const after = await visits(shipway);
    expect(after.text).toBe("first");
    expect(after.count).toBeGreaterThan(before.count);

    const counts = await traffic.stop();
    expect(counts.total).toBeGreaterThan(50);
    expect(counts.failed).toBe(0);
  });

  it("holds pushes back after the rollback until somebody resumes", async () => {
    await shipway.commit(checkout, { "web.js": web("third") }, "Say third");
    const held = await shipway.push(checkout, "-o", "skip-ci");
    expect(held.stderr).toMatch(/frozen|paused/);
    expect((await visits(shipway)).text).toBe("first");
    expect((await shipway.shipway(["resume"], checkout)).code).toBe(0);
    const deployed = await shipway.shipway(["deploy", "--ref", "main"], checkout);
    expect([deployed.code, (await visits(shipway)).text]).toEqual([0, "third"]);
  });

  it("lets tasks reach each other by service name, through the router", async () => {
    const [task] = await shipway.containers({ "shipway.service": "worker", "shipway.role": "task" });
    const container = shipway.docker.getContainer(task ?? "");
    const exec = await container.exec({
      Cmd: ["node", "-e", 'fetch("http://web/").then((answer) => process.exit(answer.status === 200 ? 0 : 1))'],
    });
    (await exec.start({})).resume();
    const ended = await until("the request from the worker", async () => {
      const { Running, ExitCode } = await exec.inspect();
      return !Running && { ExitCode };
    });
    expect(ended.ExitCode).toBe(0);
  });

  it("keeps serving when Shipway stops, and picks everything up when it starts again", async () => {
    const traffic = shipway.traffic(HOST);
    await shipway.kill("SIGINT");
    await shipway.start();
    const environments =
      await shipway.api<{ liveRelease: number; services: { running: number; wanted: number }[] }[]>(
        "/api/apps/shop/environments",
      );
    expect(environments[0]?.services.every(({ running, wanted }) => running === wanted)).toBe(true);
    expect((await traffic.stop()).failed).toBe(0);
  });
});

async function visits(shipway: Installation): Promise<{ text: string; count: number }> {
  const { body } = await shipway.page(HOST);
  const [, text = "", count = "0"] = /^(\w+) visit (\d+)$/.exec(body) ?? [];
  return { text, count: Number(count) };
}

/** The sample product's own lock file: the same two dependencies. */
async function lockedDependencies(): Promise<Record<string, string>> {
  const dir = new URL("../../examples/launches/backend/", import.meta.url);
  const [manifest, lock] = await Promise.all([
    readFile(new URL("package.json", dir), "utf8"),
    readFile(new URL("package-lock.json", dir), "utf8"),
  ]);
  const { type: _module, ...rest } = JSON.parse(manifest) as Record<string, unknown>;
  return { "package.json": JSON.stringify(rest), "package-lock.json": lock };
}
