import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROLES, type Role } from "../access/roles.ts";
import { readEvents } from "../events/event-stream.ts";
import type { InfraRunKind } from "../infra/infra-run.ts";
import { newRunCredential, runToken } from "../infra/run-credential.ts";
import { endRun, journalApply, requestRun } from "../infra/runs.ts";
import { addHook } from "../notify/hooks.ts";
import { requestTaskRun } from "../release/task-runs.ts";
import { type DeliveredApp, newDeliveredApp, newTestPlatform, type TestPlatform } from "./testing.ts";

/** What one request of a route answers. Rows use what is not there where the route would otherwise destroy what other rows need. */
type Row = {
  route: string;
  needs: Role | "anyone";
  /** What those get who may call it. */
  allowed: number;
  /** What an admin of another app only gets: most often a refusal; a list shows what is that app's. */
  otherApp: number;
  /** Values of the path's parameters, and the query. */
  path?: (shop: DeliveredApp) => string;
  body?: object;
  /** What the token of an apply of this app gets, and for what only reads, that of a plan; all others are refused. */
  runs?: number;
};

const IN_SHOP = "/api/apps/shop";
const IN_PRODUCTION = `${IN_SHOP}/environments/production`;
const STATE_ROUTE = "/api/apps/:app/environments/:environment/infra/state";
const CLOSED = { needs: "anyone" as const, allowed: 401, otherApp: 401 };
const infraRun = (_shop: DeliveredApp) => `/api/infra/runs/${infraRunId}`;
const TABLE: Row[] = [
  { route: "GET /api/ready", needs: "anyone", allowed: 200, otherApp: 200 },
  { route: "GET /api/openapi.json", needs: "anyone", allowed: 200, otherApp: 200 },
  { route: "GET /metrics", needs: "viewer", allowed: 200, otherApp: 403 },
  { route: "GET /api/status", needs: "viewer", allowed: 200, otherApp: 200 },
  { route: "GET /api/apps", needs: "viewer", allowed: 200, runs: 200, otherApp: 200 },
  { route: "POST /api/apps", needs: "developer", allowed: 409, otherApp: 403, body: { name: "shop" } },
  { route: "GET /api/apps/:app", needs: "viewer", allowed: 200, runs: 200, otherApp: 403, path: () => IN_SHOP },
  { route: "DELETE /api/apps/:app", needs: "admin", allowed: 404, otherApp: 403, path: () => "/api/apps/nothing" },
  {
    route: "GET /api/apps/:app/environments",
    needs: "viewer",
    allowed: 200,
    runs: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/environments`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment",
    needs: "viewer",
    allowed: 200,
    runs: 200,
    otherApp: 403,
    path: () => IN_PRODUCTION,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/cost",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/cost`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/metrics",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/metrics`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/rollback",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/rollback`,
    body: { to: 99 },
  },
  {
    route: "POST /api/apps/:app/environments/:environment/resume",
    needs: "developer",
    allowed: 204,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/resume`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/logs",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/logs`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/secrets",
    needs: "developer",
    allowed: 200,
    runs: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/secrets`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/account-secrets",
    needs: "developer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/account-secrets`,
  },
  {
    route: "PUT /api/apps/:app/environments/:environment/secrets/:name",
    needs: "developer",
    allowed: 200,
    runs: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/secrets/KEY`,
    body: { value: "long-enough" },
  },
  {
    route: "DELETE /api/apps/:app/environments/:environment/secrets/:name",
    needs: "developer",
    allowed: 404,
    runs: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/secrets/NONE`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/secrets/:name",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_PRODUCTION}/secrets/NONE`,
  },
  {
    route: "PUT /api/apps/:app/environments/:environment",
    needs: "operator",
    allowed: 200,
    otherApp: 403,
    runs: 200,
    path: () => `${IN_SHOP}/environments/demo`,
    body: { branch: "demo/*" },
  },
  {
    route: "DELETE /api/apps/:app/environments/:environment",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_SHOP}/environments/nothing`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/variables",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    runs: 200,
    path: () => `${IN_PRODUCTION}/variables`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/variables/:name",
    needs: "viewer",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_PRODUCTION}/variables/NONE`,
  },
  {
    route: "PUT /api/apps/:app/environments/:environment/variables/:name",
    needs: "developer",
    allowed: 200,
    otherApp: 403,
    runs: 200,
    path: () => `${IN_PRODUCTION}/variables/COLOR`,
    body: { value: "blue" },
  },
  {
    route: "DELETE /api/apps/:app/environments/:environment/variables/:name",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_PRODUCTION}/variables/NONE`,
  },
  {
    route: "GET /api/apps/:app/pipeline-variables",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-variables`,
  },
  {
    route: "PUT /api/apps/:app/pipeline-variables/:name",
    needs: "developer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-variables/KEY?environment=production`,
    body: { value: "long-enough" },
  },
  {
    route: "DELETE /api/apps/:app/pipeline-variables/:name",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-variables/NONE`,
  },
  {
    route: "GET /api/apps/:app/pipeline-secrets",
    needs: "developer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-secrets`,
  },
  {
    route: "PUT /api/apps/:app/pipeline-secrets/:name",
    needs: "developer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-secrets/KEY?environment=production`,
    body: { value: "long-enough" },
  },
  {
    route: "DELETE /api/apps/:app/pipeline-secrets/:name",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipeline-secrets/NONE`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/backing",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    runs: 200,
    path: () => `${IN_PRODUCTION}/backing`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/backing/:name",
    needs: "viewer",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_PRODUCTION}/backing/none`,
  },
  {
    route: "PUT /api/apps/:app/environments/:environment/backing/:name",
    needs: "operator",
    allowed: 200,
    otherApp: 403,
    runs: 200,
    path: () => `${IN_PRODUCTION}/backing/cache`,
    body: { engine: "redis" },
  },
  {
    route: "DELETE /api/apps/:app/environments/:environment/backing/:name",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    runs: 404,
    path: () => `${IN_PRODUCTION}/backing/none`,
  },
  {
    route: "POST /api/apps/:app/deployments",
    needs: "developer",
    allowed: 202,
    otherApp: 403,
    path: () => `${IN_SHOP}/deployments`,
    body: { environment: "production", ref: "main" },
  },
  {
    route: "GET /api/apps/:app/deployments",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/deployments`,
  },
  {
    route: "GET /api/apps/:app/releases",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/releases`,
  },
  {
    route: "GET /api/apps/:app/pipelines",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/pipelines`,
  },
  {
    route: "GET /api/deployments/:id",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: (shop) => `/api/deployments/${shop.deploymentIds[0]}`,
  },
  {
    route: "GET /api/deployments/:id/review",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: (shop) => `/api/deployments/${shop.deploymentIds[0]}/review`,
  },
  {
    route: "POST /api/deployments/:id/approve",
    needs: "tester",
    allowed: 409,
    otherApp: 403,
    path: (shop) => `/api/deployments/${shop.deploymentIds[0]}/approve`,
    body: {},
  },
  {
    route: "POST /api/deployments/:id/reject",
    needs: "tester",
    allowed: 409,
    otherApp: 403,
    path: (shop) => `/api/deployments/${shop.deploymentIds[0]}/reject`,
    body: { reason: "Too early" },
  },
  {
    route: "POST /api/deployments/:id/cancel",
    needs: "developer",
    allowed: 202,
    otherApp: 403,
    path: (shop) => `/api/deployments/${shop.deploymentIds[0]}/cancel`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/runs",
    needs: "operator",
    allowed: 400,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/runs`,
    body: { service: "none", command: ["true"] },
  },
  {
    // An upgrade is judged by the same hook, see `exec.test.ts`.
    route: "GET /api/apps/:app/environments/:environment/exec",
    needs: "operator",
    allowed: 400,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/exec`,
  },
  { route: "GET /api/apps/:app/runs", needs: "viewer", allowed: 200, otherApp: 403, path: () => `${IN_SHOP}/runs` },
  { route: "GET /api/runs/:id", needs: "viewer", allowed: 200, otherApp: 403, path: () => `/api/runs/${taskRunId}` },
  {
    route: "POST /api/runs/:id/cancel",
    needs: "operator",
    allowed: 202,
    otherApp: 403,
    path: () => `/api/runs/${taskRunId}/cancel`,
  },
  {
    route: "POST /api/pipelines/:id/continue",
    needs: "developer",
    allowed: 409,
    otherApp: 403,
    path: (shop) => `/api/pipelines/${shop.pipelineId}/continue`,
    body: {},
  },
  {
    route: "GET /api/pipelines/:id",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: (shop) => `/api/pipelines/${shop.pipelineId}`,
  },
  { route: "GET /api/events", needs: "viewer", allowed: 200, otherApp: 403, path: () => "/api/events?app=shop" },
  {
    route: "GET /api/logs",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: (shop) => `/api/logs?id=${shop.pipelineId}.step-0`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/runs",
    needs: "developer",
    allowed: 400,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/runs`,
    body: { kind: "plan" },
  },
  {
    route: "GET /api/apps/:app/infra/runs",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/infra/runs`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/destroy",
    needs: "operator",
    allowed: 409,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/destroy`,
    body: {},
  },
  {
    route: "POST /api/apps/:app/environments/:environment/teardowns",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_SHOP}/environments/none/teardowns`,
    body: { until: "stopped" },
  },
  {
    route: "GET /api/teardowns/:id",
    needs: "viewer",
    allowed: 404,
    otherApp: 404,
    path: () => "/api/teardowns/t_none",
  },
  { route: "GET /api/infra/runs/:id", needs: "viewer", allowed: 200, otherApp: 403, path: infraRun },
  {
    route: "POST /api/infra/runs/:id/approve",
    needs: "tester",
    allowed: 409,
    otherApp: 403,
    path: (app) => `${infraRun(app)}/approve`,
  },
  {
    route: "POST /api/infra/runs/:id/reject",
    needs: "developer",
    allowed: 409,
    otherApp: 403,
    path: (app) => `${infraRun(app)}/reject`,
  },
  {
    route: "POST /api/infra/runs/:id/cancel",
    needs: "developer",
    allowed: 202,
    otherApp: 403,
    path: (app) => `${infraRun(app)}/cancel`,
  },
  {
    route: "POST /api/infra/runs/:id/cancel/force",
    needs: "operator",
    allowed: 202,
    otherApp: 403,
    path: (app) => `${infraRun(app)}/cancel/force`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/drift/accept",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/drift/accept`,
    body: {},
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/drift/ignore",
    needs: "operator",
    allowed: 204,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/drift/ignore`,
    body: { what: "aws_vpc.main.tags", reason: "known" },
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/drift/unignore",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/drift/unignore`,
    body: { what: "aws_vpc.other" },
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/drift/ignored",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/drift/ignored`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/unlock",
    needs: "operator",
    allowed: 409,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/unlock`,
    body: { lockId: "none" },
  },
  {
    route: "GET /api/apps/:app/infra/repositories",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_SHOP}/infra/repositories`,
  },
  {
    route: "POST /api/apps/:app/infra/repositories",
    needs: "developer",
    allowed: 409,
    otherApp: 403,
    path: () => `${IN_SHOP}/infra/repositories`,
    body: { name: "shop" },
  },
  {
    route: "DELETE /api/apps/:app/infra/repositories/:name",
    needs: "admin",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_SHOP}/infra/repositories/nothing`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/recovery",
    needs: "developer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/recovery`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/recover",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/recover`,
    body: { way: "accept" },
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/states",
    needs: "viewer",
    allowed: 200,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/states`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/states/:version",
    needs: "viewer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/states/1`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/states/:version/raw",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/states/1/raw`,
  },
  {
    route: "GET /api/apps/:app/environments/:environment/infra/states/:version/diff",
    needs: "viewer",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/states/1/diff`,
  },
  {
    route: "POST /api/apps/:app/environments/:environment/infra/states/:version/restore",
    needs: "operator",
    allowed: 404,
    otherApp: 403,
    path: () => `${IN_PRODUCTION}/infra/states/1/restore`,
  },
  // Of the state itself: no token opens it, whatever its role; a run has a password of its own.
  ...["GET ", "POST "].map((method) => ({
    route: `${method}${STATE_ROUTE}`,
    path: () => `${IN_PRODUCTION}/infra/state`,
    ...CLOSED,
  })),
  ...["lock", "unlock"].map((verb) => ({
    route: `POST ${STATE_ROUTE}/${verb}`,
    path: () => `${IN_PRODUCTION}/infra/state/${verb}`,
    ...CLOSED,
  })),
  {
    route: "GET /api/notify/hooks",
    needs: "operator",
    allowed: 200,
    otherApp: 403,
    path: () => "/api/notify/hooks?app=shop",
  },
  {
    route: "POST /api/notify/hooks",
    needs: "operator",
    allowed: 400,
    otherApp: 403,
    body: { url: "ftp://example.com", app: "shop" },
  },
  {
    route: "DELETE /api/notify/hooks/:id",
    needs: "operator",
    allowed: 404,
    otherApp: 404,
    path: () => "/api/notify/hooks/n_none",
  },
  {
    route: "POST /api/notify/hooks/:id/test",
    needs: "operator",
    allowed: 404,
    otherApp: 404,
    path: () => "/api/notify/hooks/n_none/test",
  },
  {
    route: "GET /api/notify/hooks/:id/deliveries",
    needs: "operator",
    allowed: 200,
    otherApp: 403,
    path: () => `/api/notify/hooks/${hookId}/deliveries`,
  },
  { route: "GET /api/tokens", needs: "admin", allowed: 200, otherApp: 403 },
  { route: "POST /api/tokens", needs: "admin", allowed: 201, otherApp: 403, body: { name: "new", role: "viewer" } },
  { route: "DELETE /api/tokens/:id", needs: "admin", allowed: 404, otherApp: 403, path: () => "/api/tokens/t_none" },
];

let test: TestPlatform;
let shop: DeliveredApp;
let infraRunId = "";
let hookId = "";
let taskRunId = "";
const tokens = new Map<string, string>();
beforeAll(async () => {
  test = await newTestPlatform();
  shop = await newDeliveredApp(test, "shop");
  infraRunId = await newInfraRun(test, shop.commit, "plan");
  for (const kind of ["apply", "plan", "drift"] as const) {
    const id = await newInfraRun(test, shop.commit, kind);
    if (kind === "apply") await journalApply(test.platform.store.db, id);
    tokens.set(kind, runToken(id, await newRunCredential(test.platform.store.db, id)));
  }
  const wanted = { url: "http://127.0.0.1:9/", app: "shop", format: "json" as const };
  const asked = { app: "shop", environment: "production", service: "web", command: ["true"], deadlineMs: 60_000 };
  const { store, infra } = test.platform;
  const runDeps = { db: store.db, sealer: infra.sealer, mask: (text: string) => text };
  taskRunId = (await requestTaskRun(runDeps, { ...asked, actor: "ada" })).id;
  hookId = (await addHook(test.platform.store.db, test.platform.notify.sealer, wanted, "ada")).hook.id;
  await newDeliveredApp(test, "blog");
  for (const role of ROLES) tokens.set(role, await test.tokenFor(role));
  tokens.set("other app", await test.tokenFor("admin", "blog"));
  tokens.set("own app", await test.tokenFor("admin", "shop"));
});
afterAll(() => test?.close());

/** A run of `shop` that nobody starts. */
async function newInfraRun({ platform }: TestPlatform, commit: string, kind: InfraRunKind): Promise<string> {
  const infra = {
    dir: "infra",
    backend: {},
    varFiles: [],
    variables: {},
    env: {},
    secrets: [],
    outputs: {},
    drift: "off" as const,
  };
  const rules = { approval: "destructive" as const, approvers: "anyone" as const };
  const run = { app: "shop", environment: "production", kind, commit, refName: "main", actor: "ada" };
  const wanted = { ...run, spec: { ...infra, ...rules }, inputs: "" };
  return (await platform.store.db.transaction().execute((tx) => requestRun(tx, wanted))).id;
}

async function ask({ route, path, body }: Row, token: string | undefined) {
  const [method = "", pattern = ""] = route.split(" ");
  const answer = await test.server.inject({
    method: method as "GET",
    url: path?.(shop) ?? pattern,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body && { payload: body }),
  });
  return { status: answer.statusCode, code: answer.body.startsWith('{"error"') ? answer.json().error.code : undefined };
}

describe("who may call what", () => {
  it("is decided in this table for every route there is", async () => {
    await test.server.ready();
    expect(TABLE.map(({ route }) => route).sort()).toEqual(routesOf(test.server.printRoutes({ commonPrefix: false })));
  });

  describe.each(TABLE)("$route (from $needs up)", (row) => {
    it("asks who you are", async () => {
      const expected = row.needs === "anyone" ? { status: row.allowed } : { status: 401, code: "TOKEN_INVALID" };
      expect(await ask(row, undefined)).toMatchObject(expected);
      expect(await ask(row, "shw_no-such-token")).toMatchObject(expected);
    });

    it.each(ROLES)("judges a %s", async (role) => {
      const mayCall = row.needs === "anyone" || ROLES.indexOf(role) >= ROLES.indexOf(row.needs);
      const expected = mayCall ? { status: row.allowed } : { status: 403, code: "FORBIDDEN" };
      expect(await ask(row, tokens.get(role))).toMatchObject(expected);
    });

    it.each(["apply", "plan", "drift"])("judges the token of a run that is an %s", async (kind) => {
      const isRead = row.route.startsWith("GET ");
      const mayCall = row.runs !== undefined && (kind === "apply" || isRead);
      const refused = row.needs === "anyone" ? { status: row.allowed } : { status: 403, code: "FORBIDDEN" };
      expect(await ask(row, tokens.get(kind))).toMatchObject(mayCall ? { status: row.runs } : refused);
    });

    it("judges an admin of another app only", async () => {
      expect((await ask(row, tokens.get("other app"))).status).toBe(row.otherApp);
    });
  });

  it("lets an admin of one app do in that app what an admin may", async () => {
    for (const row of TABLE.filter(({ route }) => route.includes("/apps/:app/")))
      expect(await ask(row, tokens.get("own app")), row.route).toMatchObject({ status: row.allowed });
  });
});

describe("a token of one app", () => {
  const get = async (url: string) => {
    const headers = { authorization: `Bearer ${tokens.get("other app")}` };
    return (await test.server.inject({ url, headers })).json();
  };

  it("sees that app alone where a list names none", async () => {
    expect((await get("/api/apps")).map(({ name }: { name: string }) => name)).toEqual(["blog"]);
    expect((await get("/api/status")).apps).toHaveLength(1);
    const events: { app: string }[] = await get("/api/events?limit=1000");
    expect(new Set(events.map(({ app }) => app))).toEqual(new Set(["blog"]));
  });

  it("is good for nothing any more once its app is removed, also when the name is used again", async () => {
    await newDeliveredApp(test, "short-lived");
    const token = await test.tokenFor("admin", "short-lived");
    const headers = { authorization: `Bearer ${token}` };
    const remove = () => test.server.inject({ method: "DELETE", url: "/api/apps/short-lived", headers });
    expect((await remove()).statusCode).toBe(200);
    await newDeliveredApp(test, "short-lived");
    expect((await remove()).statusCode).toBe(401);
  });
});

describe("removing an app", () => {
  it("removes its images from every registry that they were pushed to, unless they are to be kept", async () => {
    const token = await test.tokenFor("admin");
    for (const images of ["keep", "remove"]) {
      await newDeliveredApp(test, "pushed");
      const registry = "123456789012.eu-central-1";
      const image = { app: "pushed", service: "web", digest: "sha256:1", registry, reference: "r" };
      await test.platform.store.db.insertInto("published_images").values(image).execute();
      const { statusCode, body } = await test.server.inject({
        method: "DELETE",
        url: `/api/apps/pushed?images=${images}`,
        headers: { authorization: `Bearer ${token}` },
      });
      expect([statusCode, JSON.parse(body)]).toEqual([200, { remarks: [] }]);
      const told = test.started.filter((one) => one.startsWith("remove images of pushed"));
      expect(told).toEqual(images === "keep" ? [] : [`remove images of pushed at ${registry}`]);
      expect(test.started).toContain("forget the pipelines of pushed");
      expect(test.started).toContain("forget the images of pushed");
    }
  });
});

describe("the token of an infra run", () => {
  const ask = (token: string, app: string, method: "GET" | "PUT" = "GET") =>
    test.server.inject({
      method,
      url: `/api/apps/${app}/environments/production/variables/SIZE`,
      headers: { authorization: `Bearer ${token}` },
      ...(method === "PUT" && { payload: { value: "small" } }),
    });

  it("writes in the run's name, in its app alone, and is good for nothing once the run has ended", async () => {
    const { db } = test.platform.store;
    const id = await newInfraRun(test, shop.commit, "plan");
    await db.updateTable("infra_runs").set({ kind: "apply" }).where("id", "=", id).execute();
    await journalApply(db, id);
    const token = runToken(id, await newRunCredential(db, id));
    expect((await ask(token, "shop", "PUT")).json()).toMatchObject({ name: "SIZE", value: "small", version: 1 });
    const events = await readEvents(db, { app: "shop", limit: 1_000 });
    expect(events.at(-1)).toMatchObject({ kind: "variable.set", actor: `infra run ${id}` });
    expect((await ask(token, "blog")).statusCode).toBe(403);
    expect((await ask(`${token}x`, "shop")).statusCode).toBe(401);
    await endRun(db, id, { status: "succeeded" });
    expect((await ask(token, "shop")).statusCode).toBe(401);
  });
});

/** Fastify draws its routes as a tree of path parts, with the methods behind each. */
function routesOf(tree: string): string[] {
  const parts: string[] = [];
  return tree
    .split("\n")
    .flatMap((line) => {
      const match = /^(.*?)[├└]── (\S+)(?: \((.*)\))?$/.exec(line);
      if (!match) return [];
      const [, indent = "", part = "", methods = ""] = match;
      parts.splice(indent.length / 4, Number.POSITIVE_INFINITY, part);
      return methods
        .split(", ")
        .filter((method) => method !== "" && method !== "HEAD")
        .map((method) => `${method} ${parts.join("")}`);
    })
    .sort();
}
