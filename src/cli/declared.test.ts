import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { InfraRunView } from "../http/infra-schemas.ts";
import type { Backing, TeardownView } from "../http/schemas.ts";
import {
  newEnvironment,
  newEvent,
  newTestCli,
  sendEvents,
  startTestServer,
  type TestCli,
  type TestServer,
} from "./testing.ts";

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
let refusal: { code: string; message: string } | undefined;
const teardown: TeardownView = {
  ...{ id: "t_1", app: "launches", environment: "demo", until: "removed", infra: "destroy", data: "keep" },
  ...{ overrule: null, status: "succeeded", actor: "ada", infraRun: "i_1", problem: null, remarks: [] },
  createdAt: "2026-11-23T11:59:00.000Z",
  endedAt: "2026-11-23T11:59:30.000Z",
};
const waiting: InfraRunView = {
  ...{ id: "i_1", app: "launches", environment: "demo", kind: "destroy", status: "waiting", repository: null },
  ...{ commit: "c", refName: "main", actor: "ada", approvedBy: null, takeover: null, overrule: null, canceledBy: null },
  ...{ deliveryId: "t_1", createdAt: "2026-11-23T11:59:00.000Z", startedAt: null, endedAt: null, plan: null },
  ...{ problem: null, timings: {}, logs: [] },
};
const of = { environment: "demo", deliveryId: "t_1" };
const told = [
  newEvent(1, "teardown.started", { until: "removed", infra: "destroy", data: "keep" }, of),
  newEvent(2, "environment.stopped", { release: 7, until: "removed" }, of),
  newEvent(3, "infra.waiting", { runId: "i_1", reasons: ["it destroys aws_vpc.main"] }, of),
  newEvent(4, "environment.removed", { dataKept: true, remarks: ["The ECS service team stays."] }, of),
  newEvent(5, "teardown.ended", { until: "removed", status: "succeeded", remarks: [] }, of),
];
beforeEach(async () => {
  backing = [cache];
  refusal = undefined;
  server = await startTestServer((app) => {
    const demo = newEnvironment({ name: "demo", rule: "branch demo/*", declared: { branch: "demo/*", tag: null } });
    const variable = { name: "SIZE", value: "a=b", version: 3, updatedAt: "2026-11-23T11:59:00.000Z" };
    app.put(IN_DEMO, async () => demo);
    app.get(IN_DEMO, async () => demo);
    app.post(`${IN_DEMO}/teardowns`, async (_request, reply) => reply.status(202).send(teardown));
    app.get("/api/teardowns/t_1", async () => teardown);
    app.get("/api/events", (_request, reply) =>
      sendEvents(
        reply,
        told.map((event) => ({ id: event.id, event: event.kind, data: event })),
      ),
    );
    app.get("/api/infra/runs/i_1", async () => waiting);
    app.post("/api/infra/runs/i_1/approve", async (_request, reply) =>
      refusal === undefined
        ? reply.status(202).send({ runId: "i_1", deliveryId: "t_1" })
        : reply.status(409).send({ error: refusal }),
    );
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
    expect(asked().some(([what]) => String(what).includes("teardowns"))).toBe(false);
    const removed = await run("env remove demo --yes");
    expect([removed.code, removed.err]).toEqual([
      0,
      expect.stringMatching(
        /nothing of it runs[\s\S]*demo is removed[\s\S]*! The ECS service team[\s\S]*you kept them/,
      ),
    ]);
    const forGood = await run("env remove demo --data remove --infra destroy --yes --json");
    expect([forGood.err.includes("you kept them"), JSON.parse(forGood.out).id]).toEqual([false, "t_1"]);
    expect(asked().flatMap(([what, body]) => (what === "POST /teardowns" ? [body] : []))).toEqual([
      { until: "removed", infra: "keep", data: "keep" },
      { until: "removed", infra: "destroy", data: "remove" },
    ]);
    expect((await run("env remove demo --data maybe --yes")).code).toBe(2);
    expect((await run("env remove demo --approve --yes")).err).toContain("--approve goes with --infra destroy");
  });

  it("approves the plan that destroys only for who said so, and says why it may not", async () => {
    const approvals = () => asked().filter(([what]) => String(what).includes("approve")).length;
    expect((await run("env stop demo --infra destroy")).err).toContain("It goes on by itself then.");
    expect(approvals()).toBe(0);
    await run("env stop demo --infra destroy --approve");
    expect(approvals()).toBe(1);
    refusal = { code: "INFRA_APPROVAL_REFUSED", message: "olga has to" };
    const { code, err } = await run("env stop demo --infra destroy --approve");
    expect([code, err]).toEqual([0, expect.stringMatching(/! olga has to[\s\S]*somebody else has approved/)]);
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
