import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { newEnvironment } from "../infra/states.ts";
import { findSteps } from "../release/pipelines.ts";
import { fail } from "../shared/errors.ts";
import { askRuntime } from "./ask-runtime.ts";
import { type DeliveredApp, newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

let test: TestPlatform;
let shop: DeliveredApp;
let authorization: string;
beforeAll(async () => {
  test = await newTestPlatform();
  shop = await newDeliveredApp(test, "shop");
  authorization = `Bearer ${await test.tokenFor("admin")}`;
});
afterAll(() => test?.close());
afterEach(() => {
  test.onTargetCall.current = () => undefined;
});

async function call(route: string, body?: unknown, headers: Record<string, string> = {}) {
  const [method = "", url = ""] = route.split(" ");
  const answer = await test.server.inject({
    method: method as "GET",
    url,
    headers: { authorization, ...headers },
    ...(body !== undefined && { payload: body as object }),
  });
  return { status: answer.statusCode, headers: answer.headers, body: answer.body === "" ? undefined : answer.json() };
}

describe("a request that is not valid", () => {
  it.each([
    ["POST /api/apps", {}, ["body.name: "]],
    ["POST /api/apps", { name: "Shop!" }, ["body.name: use 1 to 30 lower-case letters"]],
    ["POST /api/apps", { name: "new", owner: "me" }, ['"owner"']],
    [
      "POST /api/tokens",
      { name: "", role: "boss", app: "A", extra: 1 },
      ["body.name", "body.role", "body.app", "extra"],
    ],
    ["POST /api/apps/shop/deployments", { environment: "production" }, ["give either `ref` or `release`"]],
    ["POST /api/apps/shop/deployments", { environment: "production", ref: "main", release: 1 }, ["give either"]],
    ["POST /api/apps/shop/deployments", { environment: "../etc", release: 0 }, ["body.environment", "body.release"]],
    ["POST /api/apps/shop/environments/production/rollback", { to: "r1" }, ["body.to"]],
    ["PUT /api/apps/shop/environments/production/secrets/not-a-name", { value: "x" }, ["path.name: use letters"]],
    ["PUT /api/apps/shop/environments/Prod%20x/secrets/KEY", { value: "long-enough" }, ["path.environment"]],
    ["PUT /api/apps/shop/environments/production/secrets/KEY", { value: "" }, ["body.value"]],
    ["PUT /api/apps/shop/environments/production/secrets/KEY", { value: "abc" }, ["shorter than"]],
    [
      "PUT /api/apps/shop/environments/demo",
      { branch: "refs/heads/x", tag: 1 },
      ["body.branch: the glob takes", "body.tag"],
    ],
    ["PUT /api/apps/shop/environments/demo%20", {}, ["path.environment"]],
    ["DELETE /api/apps/shop/environments/demo?data=some", undefined, ["query.data"]],
    [
      "PUT /api/apps/shop/environments/production/variables/SHIPWAY_APP",
      { value: "x" },
      ["path.name: names that start"],
    ],
    ["PUT /api/apps/shop/environments/production/variables/A", { value: "a\u0000b" }, ["body.value: an environment"]],
    ["PUT /api/apps/shop/environments/production/backing/DB", { engine: "oracle" }, ["path.name"]],
    [
      "PUT /api/apps/shop/environments/production/backing/db",
      { engine: "oracle", version: ":" },
      ["body.engine", "body.version"],
    ],
    ["GET /api/events?limit=9999&after=x&page=2", undefined, ["query.limit", "query.after", '"page"']],
    ["GET /api/logs?id=../../etc/passwd", undefined, ["query.id: is no name of a log"]],
    [
      "GET /api/apps/shop/environments/production/logs?since=yesterday&follow=yes",
      undefined,
      ["query.since", "query.follow"],
    ],
    ["GET /api/apps/shop/releases?limit=0", undefined, ["query.limit"]],
    ["GET /api/apps/%zz", undefined, ["not a valid url"]],
  ])("is refused with everything that is wrong: %s %j", async (route, body, named) => {
    const { status, body: answer } = await call(route, body);
    expect({ status, code: answer.error.code }).toEqual({ status: 400, code: "REQUEST_INVALID" });
    for (const part of named) expect(answer.error.message).toContain(part);
    expect(answer.error.hint).toBeTruthy();
    expect(answer.error.requestId).toMatch(/^q_/);
  });

  it.each([
    ["a body that is no JSON", "{", "application/json", 400],
    ["another kind of body", "name=x", "application/x-www-form-urlencoded", 415],
    ["a body that is too large", JSON.stringify({ name: "x".repeat(1_100_000) }), "application/json", 413],
  ])("is refused in the same shape: %s", async (_, payload, type, status) => {
    const answer = await call("POST /api/apps", payload, { "content-type": type });
    expect(answer).toMatchObject({ status, body: { error: { code: "REQUEST_INVALID", hint: expect.any(String) } } });
  });
});

describe("what there is not", () => {
  it.each([
    ["GET /api/nothing", "ROUTE_NOT_FOUND", "/api/openapi.json"],
    ["PATCH /api/apps/shop", "ROUTE_NOT_FOUND", "/api/openapi.json"],
    ["GET /api/apps/none", "APP_NOT_FOUND", "shipway app create none"],
    ["GET /api/apps/none/environments", "APP_NOT_FOUND", "shipway app"],
    ["GET /api/apps/none/releases", "APP_NOT_FOUND", "shipway app"],
    ["GET /api/apps/none/pipelines", "APP_NOT_FOUND", "shipway app"],
    ["GET /api/apps/none/deployments", "APP_NOT_FOUND", "shipway app"],
    ["DELETE /api/apps/none", "APP_NOT_FOUND", "shipway app"],
    ["DELETE /api/apps/none/environments/production/secrets/KEY", "APP_NOT_FOUND", "shipway app"],
    ["DELETE /api/apps/shop/environments/production/secrets/KEY", "NOT_FOUND", "shipway secret list"],
    ["GET /api/apps/shop/environments/none", "ENVIRONMENT_NOT_FOUND", "shipway.yml"],
    ["GET /api/apps/shop/environments/none/logs", "ENVIRONMENT_NOT_FOUND", "shipway.yml"],
    ["POST /api/apps/shop/environments/none/resume", "ENVIRONMENT_NOT_FOUND", "shipway.yml"],
    ["GET /api/deployments/d_none", "DEPLOYMENT_NOT_FOUND", "shipway deployments"],
    ["POST /api/deployments/d_none/cancel", "DEPLOYMENT_NOT_FOUND", "shipway deployments"],
    ["GET /api/pipelines/p_none", "PIPELINE_NOT_FOUND", "shipway pipelines"],
    ["GET /api/pipelines/shop%2399", "PIPELINE_NOT_FOUND", "shipway pipelines"],
    ["GET /api/logs?id=p_none.step-0", "NOT_FOUND", "shipway pipelines"],
    ["DELETE /api/tokens/t_none", "NOT_FOUND", "shipway token list"],
  ])("is said with a code and what to do next: %s", async (route, code, hint) => {
    const { status, body } = await call(route);
    expect({ status, code: body.error.code }).toEqual({ status: 404, code });
    expect(body.error.hint).toContain(hint);
  });

  it.each([
    [{ environment: "production", release: 99 }, 404, "RELEASE_NOT_FOUND"],
    [{ environment: "staging", release: 1 }, 404, "ENVIRONMENT_NOT_FOUND"],
    [{ environment: "production", ref: "no-such-branch" }, 404, "COMMIT_NOT_FOUND"],
    [{ environment: "production", ref: "--upload-pack=x" }, 404, "COMMIT_NOT_FOUND"],
  ])("cannot be deployed: %j", async (body, status, code) => {
    expect(await call("POST /api/apps/shop/deployments", body)).toMatchObject({ status, body: { error: { code } } });
    const { body: environments } = await call("GET /api/apps/shop/environments");
    expect(environments.map(({ name }: { name: string }) => name)).toEqual(["production"]);
  });
});

describe("a bug", () => {
  it("shows the request id and nothing else", async () => {
    test.onTargetCall.current = () => {
      throw new Error("password=hunter22 at /var/lib/shipway/x.ts");
    };
    const { status, body } = await call("GET /api/apps/shop/environments/production/logs");
    expect(status).toBe(500);
    expect(body.error).toMatchObject({
      code: "BUG",
      message: `Something broke in Shipway (request ${body.error.requestId}).`,
    });
    expect(JSON.stringify(body)).not.toMatch(/hunter22|x\.ts|at /);
  });
});

describe("the routes", () => {
  it("show an environment while the engine is away", async () => {
    test.onTargetCall.current = () => {
      throw fail("DOCKER_UNREACHABLE", { message: "The Docker Engine does not answer." });
    };
    const { body } = await call("GET /api/apps/shop/environments/production");
    expect(body).toMatchObject({ liveRelease: 2, standbyRelease: 1, rule: "branch main", frozen: null });
    expect(body).toMatchObject({ runtime: "docker", problem: { code: "DOCKER_UNREACHABLE" } });
    // Nobody knows, which is not zero.
    expect(body.services).toEqual([expect.objectContaining({ name: "web", running: null, wanted: 1 })]);
  });

  it("wait for a runtime that says nothing no longer than a person does", async () => {
    const never = new Promise<never>(() => undefined);
    const asked = askRuntime(test.platform, { app: "shop", environment: "production" }, 20, never);
    await expect(asked).rejects.toMatchObject({ code: "DOCKER_UNREACHABLE" });
  });

  it("show releases, deployments and pipelines newest first, and how many were asked for", async () => {
    const { body: releases } = await call("GET /api/apps/shop/releases");
    expect(releases.map((one: { number: number; liveIn: string[] }) => [one.number, one.liveIn])).toEqual([
      [2, ["production"]],
      [1, []],
    ]);
    const { body: deployments } = await call("GET /api/apps/shop/deployments?environment=production&limit=1");
    expect(deployments.map(({ id }: { id: string }) => id)).toEqual([shop.deploymentIds[1]]);
    const { body: pipeline } = await call("GET /api/pipelines/shop%232");
    expect(pipeline).toMatchObject({
      id: shop.pipelineId,
      number: 2,
      steps: [{ name: "unit", logId: `${shop.pipelineId}.step-0` }],
    });
    expect(await findSteps(test.platform.store.db, shop.pipelineId)).toEqual([]);
  });

  it("never give a secret back", async () => {
    const place = "/api/apps/shop/environments/production/secrets";
    const set = await call(`PUT ${place}/API_KEY`, { value: "s3cret-value" });
    const all = [set, await call(`GET ${place}`), await call("GET /api/events?app=shop&limit=1000")];
    expect(set.body).toMatchObject({ name: "API_KEY", version: 1 });
    expect(JSON.stringify(all)).not.toContain("s3cret-value");
  });

  it("hand what was asked for by hand to the engine, once it is recorded", async () => {
    const built = await call("POST /api/apps/shop/deployments", { environment: "production", ref: "main" });
    expect(built).toMatchObject({ status: 202, body: { deploymentId: null } });
    const promoted = await call("POST /api/apps/shop/deployments", { environment: "production", release: 1 });
    expect(promoted).toMatchObject({ status: 202, body: { deploymentId: expect.stringMatching(/^d_/) } });
    expect(test.started.slice(-2)).toEqual([
      `deliver ${built.body.deliveryId}`,
      `deploy ${promoted.body.deploymentId}`,
    ]);
  });

  it("refuse to remove an app while a deployment runs, and touch nothing then", async () => {
    const busy = await newDeliveredApp(test, "busy");
    const { body } = await call("POST /api/apps/busy/environments/production/rollback", {});
    const touched: string[] = [];
    test.onTargetCall.current = (method) => void touched.push(method);
    const refused = await call("DELETE /api/apps/busy");
    expect(refused).toMatchObject({ status: 409, body: { error: { code: "APP_BUSY" } } });
    expect(refused.body.error.hint).toContain(`shipway cancel ${body.deploymentId}`);
    expect(touched).toEqual([]);
    expect((await call(`GET /api/deployments/${busy.deploymentIds[0]}`)).status).toBe(200);
  });

  it.each([
    ["is at work", { running_run: "i_1" }, "shipway infra cancel i_1"],
    ["was cut off", { blocked_by: "i_1" }, "shipway infra recover --app first-apply --env production"],
  ])("refuse to remove an app whose first apply %s: what it made is in no state yet", async (_how, row, hint) => {
    const { db } = test.platform.store;
    await db.insertInto("apps").values({ name: "first-apply" }).execute();
    const place = { app: "first-apply", environment: "production" };
    await db
      .insertInto("infra_environments")
      .values({ ...newEnvironment(place), ...row })
      .execute();
    const refused = await call("DELETE /api/apps/first-apply");
    await db.deleteFrom("apps").where("name", "=", "first-apply").execute();
    expect(refused).toMatchObject({ status: 409, body: { error: { code: "APP_BUSY" } } });
    expect(refused.body.error.hint).toContain(hint);
  });
});

describe("what is declared", () => {
  const at = "/api/apps/shop/environments/demo";
  const timestamp = expect.stringMatching(/^\d{4}-.*Z$/);

  it("is an environment, whose rules are replaced as a whole and shown beside what runs there", async () => {
    const made = await call(`PUT ${at}`, { branch: "demo/*" });
    const rules = { declared: { branch: "demo/*", tag: null }, rule: "branch demo/*" };
    expect(made).toMatchObject({ status: 200, body: { app: "shop", name: "demo", liveRelease: null, ...rules } });
    expect((await call(`GET ${at}`)).body).toEqual(made.body);
    expect((await call(`PUT ${at}`, { tag: "v*", branch: null })).body.declared).toEqual({ branch: null, tag: "v*" });
    expect((await call(`PUT ${at}`, {})).body).toMatchObject({
      declared: { branch: null, tag: null },
      rule: "by hand",
    });
    expect((await call("GET /api/apps/shop/environments/production")).body.declared).toBeNull();
    expect((await call("GET /api/apps/shop")).body.environments).toEqual(["demo", "production"]);
    expect((await call("PUT /api/apps/nothing/environments/demo", {})).body.error.code).toBe("APP_NOT_FOUND");
  });

  it("is a variable and a secret, of which one is shown without its value", async () => {
    const value = "long enough";
    const set = await call(`PUT ${at}/variables/COLOR`, { value });
    expect(set.body).toEqual({ name: "COLOR", value, version: 1, updatedAt: timestamp });
    expect([(await call(`GET ${at}/variables/COLOR`)).body, (await call(`GET ${at}/variables`)).body]).toEqual([
      set.body,
      [set.body],
    ]);
    const secret = await call(`PUT ${at}/secrets/KEY`, { value });
    expect(secret.body).toEqual({ name: "KEY", version: 1, updatedAt: timestamp });
    expect((await call(`PUT ${at}/secrets/KEY`, { value })).body).toEqual(secret.body);
    expect((await call(`GET ${at}/secrets/KEY`)).body).toEqual(secret.body);
  });

  it("is a backing service, which keeps its environment from being removed", async () => {
    const put = await call(`PUT ${at}/backing/cache`, { engine: "redis", version: "7" });
    const { body } = put;
    expect(body).toEqual({
      name: "cache",
      engine: "redis",
      version: "7",
      host: "cache",
      port: expect.any(Number),
      variables: ["CACHE_URL"],
      state: "running",
      container: expect.any(String),
    });
    expect((await call(`GET ${at}/backing`)).body).toEqual([body]);
    expect((await call(`DELETE ${at}`)).body.error).toMatchObject({ code: "ENVIRONMENT_BUSY" });
    expect((await call(`DELETE ${at}/backing/cache?data=remove`)).status).toBe(204);
    expect((await call(`GET ${at}/backing/cache`)).body.error.code).toBe("NOT_FOUND");
    expect(await call(`DELETE ${at}`)).toMatchObject({ status: 200, body: { remarks: [] } });
    expect((await call(`GET ${at}`)).body.error.code).toBe("ENVIRONMENT_NOT_FOUND");
  });

  it("answers with what kept it from being made, and is not there then", async () => {
    test.onTargetCall.current = (method) => {
      if (method === "ensureBacking") throw fail("IMAGE_UNAVAILABLE", { message: "The image redis:0 is not there." });
    };
    const { status, body } = await call(`PUT ${at}/backing/cache`, { engine: "redis", version: "0" });
    expect([status, body.error.code]).toEqual([502, "IMAGE_UNAVAILABLE"]);
    expect((await call(`GET ${at}/backing/cache`)).status).toBe(404);
  });
});
