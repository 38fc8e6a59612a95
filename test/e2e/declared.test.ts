import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InfraRunView } from "../../src/http/infra-schemas.ts";
import type { ApiEvent, Backing, Deployment, Environment } from "../../src/http/schemas.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { DOCKERFILE, spec } from "../sample-app.ts";

let platform: Installation;
beforeAll(async () => {
  platform = await newInstallation();
  await platform.start();
});
afterAll(() => platform?.remove());

const SERVER = `
const http = require("node:http");
const { CACHE_URL, SIZE, SHIPWAY_RELEASE } = process.env;
const server = http.createServer((request, response) => response.end([CACHE_URL, SIZE, SHIPWAY_RELEASE].join(" ")));
server.listen(3000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
`;
const files = (app: string, more: Record<string, string> = {}, rest = "") => ({
  "shipway.yml": spec(app, rest),
  Dockerfile: DOCKERFILE,
  "server.js": SERVER,
  ...more,
});
const at = (app: string, environment = "production") => `/api/apps/${app}/environments/${environment}`;
const put = (path: string, body: unknown) => platform.api<never>(path, { method: "PUT", body });
const page = async (app: string, environment = "production") =>
  (await platform.page(`web.${environment}.${app}.localhost`)).body;
const eventsOf = (app: string, kind: string) =>
  platform
    .api<ApiEvent[]>(`/api/events?app=${app}&limit=1000`)
    .then((events) => events.filter((event) => event.kind === kind));

async function inContainer(name: string, ...command: string[]): Promise<string> {
  const exec = await platform.docker.getContainer(name).exec({ Cmd: command, AttachStdout: true });
  let text = "";
  for await (const chunk of await exec.start({})) text += chunk;
  return text;
}

describe("a backing service declared through the API", () => {
  it("runs before any deployment, is given to tasks, is seen to be gone when somebody removes it, and comes back with its data", async () => {
    const checkout = await platform.newApp("shop", files("shop"));
    const cache = `${at("shop")}/backing/cache`;
    const made: Backing = await put(cache, { engine: "redis" });
    expect(made).toMatchObject({ name: "cache", engine: "redis", version: "7", host: "cache", port: 6379 });
    expect(made).toMatchObject({ state: "running", variables: ["CACHE_URL", "CACHE_HOST", "CACHE_PORT"] });
    const container = made.container ?? "";
    expect(await inContainer(container, "redis-cli", "set", "kept", "42")).toContain("OK");
    await platform.shipway(["var", "set", "SIZE=small", "--app", "shop"]);

    expect((await platform.push(checkout)).stderr).toContain("✓ done");
    expect(await page("shop")).toBe("redis://cache:6379 small r1");

    await platform.docker.getContainer(container).remove({ force: true });
    expect(await platform.api<Backing>(cache)).toMatchObject({ state: "missing", version: "7" });
    const drifted = await until("the event", async () => (await eventsOf("shop", "backing.drifted"))[0], {
      withinMs: 60_000,
      everyMs: 500,
    });
    expect(drifted).toMatchObject({ actor: "shipway", data: { name: "cache" } });
    expect(await platform.api<Backing>(cache)).toMatchObject({ state: "missing" });

    const again = await platform.shipway(["backing", "create", "cache", "--engine", "redis", "--app", "shop"]);
    expect(again.stderr).toContain("✓ cache (redis 7) is running at cache:6379");
    expect(await inContainer(container, "redis-cli", "get", "kept")).toContain("42");
    expect(await page("shop")).toBe("redis://cache:6379 small r1");
  });
});

describe("an environment declared through the API", () => {
  it("takes a release that was made before it, is deployed to by a push, and goes with all that runs there", async () => {
    const checkout = join(platform.dir, "shop");
    const made = await platform.shipway(["env", "create", "demo", "--branch", "demo/*"], checkout);
    expect(made.stderr).toContain("has the environment demo (deployed from: branch demo/*)");
    const deployed = await platform.shipway(["deploy", "--env", "demo", "--release", "r1"], checkout);
    expect(deployed.code, deployed.stderr).toBe(0);
    expect(await page("shop", "demo")).toBe("  r1");

    await put(`${at("shop", "demo")}/variables/SIZE`, { value: "large" });
    await platform.git(["switch", "--quiet", "-c", "demo/one"], checkout);
    await platform.commit(checkout, { "server.js": `${SERVER}// demo\n` }, "demo");
    const pushed = await platform.git(["push", "shipway", "demo/one"], checkout);
    expect(pushed.stderr).toContain("✓ done");
    expect([await page("shop", "demo"), await page("shop")]).toEqual([" large r2", "redis://cache:6379 small r1"]);
    const shown = await platform.api<Environment>(at("shop", "demo"));
    expect(shown).toMatchObject({ rule: "branch demo/*", declared: { branch: "demo/*", tag: null }, liveRelease: 2 });

    const removed = await platform.shipway(["env", "remove", "demo", "--yes"], checkout);
    expect(removed.code, removed.stderr).toBe(0);
    expect((await platform.things()).filter((thing) => thing.includes(".demo"))).toEqual([]);
    expect((await platform.page("web.demo.shop.localhost")).status).not.toBe(200);
    const history = await platform.api<Deployment[]>("/api/apps/shop/deployments?environment=demo");
    expect(history.map(({ release }) => release)).toEqual([2, 1]);
    expect(await page("shop")).toBe("redis://cache:6379 small r1");
  });
});

const DECLARE = `
const { SHIPWAY_SERVER: server, SHIPWAY_TOKEN: token } = process.env;
const headers = { authorization: "Bearer " + token, "content-type": "application/json" };
const ask = async (method, path, body) =>
  (await fetch(server + "/api/apps/blog" + path, { method, headers, body: body && JSON.stringify(body) })).status;
const production = "/environments/production";
const answers = [
  await ask("PUT", production + "/backing/cache", { engine: "redis" }),
  await ask("PUT", production + "/variables/SIZE", { value: "from terraform" }),
  await ask("POST", production + "/infra/unlock", { lockId: "any" }),
  await ask("DELETE", ""),
];
console.log("answers " + answers.join(" ") + " with " + token);
`;
const MAIN = `resource "terraform_data" "declared" {
  provisioner "local-exec" { command = "node \${path.module}/declare.mjs" }
}
`;
const INFRA = "environments:\n  production:\n    branch: main\n    infra: { dir: infra, drift: 1d }\n";

describe("a release in an environment with approval: required", () => {
  it("waits while the one before serves, over the death of Shipway, and is live once a tester approved it", async () => {
    const production = (rules: string) => `environments:\n  production: { branch: main${rules} }\n`;
    const checkout = await platform.newApp("gated", files("gated", {}, production("")));
    await platform.push(checkout);
    await platform.commit(
      checkout,
      { "shipway.yml": spec("gated", production(", approval: required")) },
      "Want two eyes",
    );
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toMatch(/production: r2 waits for an approval[\s\S]*Want two eyes[\s\S]*nothing is held up/);
    const [waiting] = await platform.deployments("gated");
    expect(waiting).toMatchObject({ status: "waiting", release: 2, startedAt: null });
    expect(await page("gated")).toMatch(/ r1$/);

    const made = await platform.shipway(["token", "create", "tess", "--role", "tester"]);
    const asTess = { env: { SHIPWAY_TOKEN: made.stdout.trim() } };
    await platform.kill("SIGKILL");
    await platform.start();
    const own = await platform.shipway(["approve", waiting?.id ?? ""]);
    expect([own.code, own.stderr]).toEqual([2, expect.stringContaining("wants the approval of somebody else")]);
    const shown = await platform.shipway(["approve", "--app", "gated"], checkout, asTess);
    expect(shown.stdout).toMatch(/r2 waits for an approval in production[\s\S]*1 commit since r1/);
    const approved = await platform.shipway(["approve", waiting?.id ?? "", "--comment", "tried it"], checkout, asTess);
    expect([approved.code, approved.stderr]).toEqual([
      0,
      expect.stringContaining("✓ production: tess approved r2: tried it"),
    ]);
    expect(await page("gated")).toMatch(/ r2$/);
  });
});

describe("an infra run", () => {
  it("declares with a token of its own what its deployment then gets, and what somebody removed makes its drift check due at once", async () => {
    const checkout = await platform.newApp(
      "blog",
      files("blog", { "infra/main.tf": MAIN, "infra/declare.mjs": DECLARE }, INFRA),
    );
    const pushed = await platform.push(checkout);
    expect(pushed.stderr).toContain("✓ done");
    expect(await page("blog")).toBe("redis://cache:6379 from terraform r1");
    const runs = () => platform.api<InfraRunView[]>("/api/apps/blog/infra/runs");
    // A drift check may have begun by now.
    const run = (await runs()).find(({ kind }) => kind === "apply");
    const log = await platform.shipway(["infra", "runs", run?.id ?? "", "--log"], checkout);
    expect(log.stdout).toMatch(/answers 200 200 403 403 with \*\*\*\*/);
    expect(log.stdout + platform.output()).not.toContain("shr_");
    const [declared] = await eventsOf("blog", "backing.declared");
    expect(declared?.actor).toBe(`infra run ${run?.id}`);

    const { container = "" } = await platform.api<Backing>(`${at("blog")}/backing/cache`);
    const checks = (count: number) =>
      until(
        `drift check ${count}`,
        async () => {
          const ended = (await runs()).filter(({ kind, endedAt }) => kind === "drift" && endedAt !== null);
          return ended.length >= count && ended;
        },
        { withinMs: 90_000, everyMs: 500 },
      );
    // The first one is due as soon as something was applied, the next in a day.
    await checks(1);
    await platform.docker.getContainer(container).remove({ force: true });
    expect(await checks(2)).toMatchObject([{ actor: "shipway", status: "succeeded" }, { status: "succeeded" }]);
    expect(await eventsOf("blog", "backing.drifted")).toHaveLength(1);

    // A deployment is about to need it.
    const deployed = await platform.shipway(["deploy", "--ref", "main"], checkout);
    expect(deployed.code, deployed.stderr).toBe(0);
    expect(await platform.api<Backing>(`${at("blog")}/backing/cache`)).toMatchObject({ state: "running" });
  });
});
