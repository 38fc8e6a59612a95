import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Backing } from "../http/schemas.ts";
import { newEnvironment, newTestCli, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const IN_DEMO = "/api/apps/launches/environments/demo";
const cache: Backing = {
  name: "cache",
  engine: "redis",
  version: "7",
  host: "cache",
  port: 6379,
  variables: ["CACHE_URL", "CACHE_HOST", "CACHE_PORT"],
  state: "running",
  container: "launches.demo.cache",
};

let server: TestServer;
let cli: TestCli;
let backing: Backing[];
beforeEach(async () => {
  backing = [cache];
  server = await startTestServer((app) => {
    const demo = newEnvironment({ name: "demo", rule: "branch demo/*", declared: { branch: "demo/*", tag: null } });
    const variable = { name: "SIZE", value: "a=b", version: 3, updatedAt: "2026-11-23T11:59:00.000Z" };
    app.put(IN_DEMO, async () => demo);
    app.get(IN_DEMO, async () => demo);
    app.delete(IN_DEMO, async () => ({ remarks: ["The ECS service team has a name such as Shipway gives."] }));
    app.get(`${IN_DEMO}/variables`, async () => [variable]);
    app.put(`${IN_DEMO}/variables/:name`, async (request) => ({ ...variable, ...(request.params as object) }));
    app.delete(`${IN_DEMO}/variables/:name`, async (_request, reply) => reply.status(204).send());
    app.get(`${IN_DEMO}/backing`, async () => backing);
    app.put(`${IN_DEMO}/backing/cache`, async () => cache);
    app.delete(`${IN_DEMO}/backing/cache`, async (_request, reply) => reply.status(204).send());
  });
  cli = await newTestCli(server.url);
});
afterEach(async () => {
  await cli.close();
  await server.close();
});

const run = (line: string) => cli.run([...line.split(" "), "--app", "launches"]);
const asked = () => server.requests.map(({ method, url, body }) => [`${method} ${url.replace(IN_DEMO, "")}`, body]);

describe("shipway env", () => {
  it("makes an environment by its name and rules, and says what comes next", async () => {
    const { code, err } = await run("env create demo --branch demo/*");
    expect([code, asked()]).toEqual([0, [["PUT ", { branch: "demo/*" }]]]);
    expect(err).toMatch(/has the environment demo \(deployed from: branch demo\/\*\)[\s\S]*shipway deploy/);
  });

  it("removes one only when it is meant, and its data only where that is said", async () => {
    const refused = await run("env remove demo");
    expect(refused.code).toBe(2);
    expect(refused.err).toMatch(/r7 serves there[\s\S]*--yes/);
    expect(asked().some(([what]) => String(what).startsWith("DELETE"))).toBe(false);
    expect((await run("env remove demo --yes")).err).toMatch(/its data are kept[\s\S]*! The ECS service team/);
    expect((await run("env remove demo --data remove --yes")).code).toBe(0);
    expect(asked().flatMap(([what]) => (String(what).startsWith("DELETE") ? [what] : []))).toEqual([
      "DELETE ?data=keep",
      "DELETE ?data=remove",
    ]);
    expect((await run("env remove demo --data maybe --yes")).code).toBe(2);
  });
});

describe("shipway var", () => {
  it("sets any number at once, each up to its first equals sign", async () => {
    expect((await run("var set SIZE=a=b EMPTY= --env demo")).code).toBe(0);
    expect(asked()).toEqual([
      ["PUT /variables/SIZE", { value: "a=b" }],
      ["PUT /variables/EMPTY", { value: "" }],
    ]);
  });

  it("refuses what is no pair, and nothing at all", async () => {
    const { code, err } = await run("var set SIZE --env demo");
    expect([code, asked()]).toEqual([2, []]);
    expect(err).toContain("write NAME=VALUE");
    expect((await run("var set --env demo")).code).toBe(2);
  });

  it("lists values for people and programs, and removes one", async () => {
    expect((await run("var list --env demo")).out).toMatch(/SIZE +a=b +3 +1 m/);
    expect(JSON.parse((await run("var list --env demo --json")).out)).toMatchObject([{ name: "SIZE", version: 3 }]);
    expect((await run("var remove SIZE --env demo")).code).toBe(0);
    expect(asked().at(-1)?.[0]).toBe("DELETE /variables/SIZE");
  });
});

describe("shipway backing", () => {
  it("shows what is really there, and how what is gone comes back", async () => {
    expect((await run("backing list --env demo")).out).toMatch(/cache +redis 7 +running +cache:6379 +CACHE_URL/);
    backing = [{ ...cache, state: "missing" }];
    const { out, err } = await run("backing list --env demo");
    expect(out).toContain("missing");
    expect(err).toContain("shipway backing create cache --engine redis:7 --env demo");
    backing = [];
    expect((await run("backing list --env demo")).err).toContain("None is declared");
  });

  it("takes the version with the engine", async () => {
    expect((await run("backing create cache --engine redis:7.2 --env demo")).err).toMatch(
      /cache \(redis 7\) is running/,
    );
    await run("backing create cache --engine redis --env demo");
    expect(asked().map(([, body]) => body)).toEqual([{ engine: "redis", version: "7.2" }, { engine: "redis" }]);
    expect((await run("backing create cache --engine redis:7:2 --env demo")).code).toBe(2);
  });

  it("removes data only when that is said twice", async () => {
    expect((await run("backing remove cache --env demo --data remove")).code).toBe(2);
    expect(asked()).toEqual([]);
    await run("backing remove cache --env demo");
    await run("backing remove cache --env demo --data remove --yes");
    expect(asked().map(([what]) => what)).toEqual([
      "DELETE /backing/cache?data=keep",
      "DELETE /backing/cache?data=remove",
    ]);
  });
});
