import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { StoredEvent } from "../events/event.ts";
import type { DriftView, InfraRunView, InfraView } from "../http/infra-schemas.ts";
import { newEvent, newTestCli, sendEvents, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const INFRA = "/api/apps/launches/environments/production/infra";
const drift: DriftView = {
  checkedAt: "2026-11-23T11:59:00.000Z",
  commit: "3f1c2ab9",
  runId: "i_1",
  resources: [
    {
      address: "aws_vpc.main",
      kind: "reverting",
      action: "update",
      attributes: [{ path: "tags.team", before: '"a"', after: '"b"' }],
    },
    { address: "aws_eip.x", kind: "ignored", action: "delete", attributes: [], reason: "moved away" },
  ],
};
const infra: InfraView = {
  app: "launches",
  environment: "production",
  applied: { runId: "i_1", commit: "3f1c2ab9", repository: "shop-infra" },
  runningRun: null,
  stateIn: { type: "shipway", config: {} },
  blockedBy: "i_2",
  lock: {
    id: "l-1",
    operation: "OperationTypeApply",
    who: "root@vm",
    created: "2026-11-23T11:00:00.000Z",
    runId: "i_2",
  },
  drift,
  tasks: null,
  outputs: [{ name: "db_url", value: "mysql://db", sensitive: false }],
};

const REPOSITORIES = "/api/apps/launches/infra/repositories";
const repository = {
  name: "shop-infra",
  app: "launches",
  gitUrl: "http://localhost/git/shop-infra.git",
  createdAt: "2026-11-23T11:00:00.000Z",
  environments: ["production", "staging"],
};

let server: TestServer;
let cli: TestCli;
let shown: InfraView;
let asked: unknown;
/** Other events than those of an apply that comes to wait. */
let told: StoredEvent[] | undefined;
const viewed: InfraRunView = {
  id: "i_3",
  app: "launches",
  environment: "production",
  kind: "apply",
  status: "running",
  repository: null,
  commit: "3f1c2ab9",
  refName: "main",
  actor: "ada",
  approvedBy: null,
  canceledBy: "ada",
  takeover: null,
  overrule: null,
  deliveryId: "i_3",
  createdAt: "2026-11-23T11:59:00.000Z",
  startedAt: null,
  endedAt: null,
  plan: null,
  problem: null,
  timings: {},
  logs: [],
};
beforeEach(async () => {
  told = undefined;
  shown = infra;
  server = await startTestServer((app) => {
    app.get(INFRA, async () => shown);
    app.post(`${INFRA}/runs`, async (_request, reply) => reply.status(202).send({ runId: "i_3", deliveryId: "i_3" }));
    app.get("/api/events", (request, reply) => {
      const of = { subject: "infra:i_3", deliveryId: "i_3", environment: "production" };
      if (!request.headers.accept?.includes("event-stream")) return reply.send([]);
      const events = told ?? [
        newEvent(1, "infra.started", { runId: "i_3", kind: "apply", commit: "3f1c2ab9", refName: "main" }, of),
        newEvent(
          2,
          "infra.planned",
          { runId: "i_3", outputs: [], changes: [{ address: "aws_vpc.main", action: "delete" }] },
          of,
        ),
        newEvent(3, "infra.waiting", { runId: "i_3", reasons: ["it destroys aws_vpc.main"] }, of),
      ];
      sendEvents(
        reply,
        events.map((event) => ({ id: event.id, event: event.kind, data: event })),
      );
    });
    app.get("/api/infra/runs/i_3", async () => viewed);
    app.post("/api/infra/runs/:id/cancel", async (_request, reply) => reply.status(202).send(viewed));
    app.post("/api/infra/runs/:id/cancel/force", async (_request, reply) => reply.status(202).send(viewed));
    app.post(`${INFRA}/drift/ignore`, async (request, reply) => {
      asked = request.body;
      return reply.status(204).send();
    });
    app.post(`${INFRA}/drift/unignore`, async (_request, reply) => reply.status(204).send());
    app.get(`${INFRA}/drift/ignored`, async () => [
      {
        address: "aws_vpc.main",
        path: "tags",
        reason: "sale",
        actor: "ada",
        until: "2026-12-01T10:00:00.000Z",
        createdAt: "2026-11-23T10:00:00.000Z",
      },
    ]);
    app.get(`${INFRA}/states`, async () => []);
    app.post(REPOSITORIES, async (_request, reply) => reply.status(201).send(repository));
    app.get(REPOSITORIES, async () => [repository]);
    app.delete(`${REPOSITORIES}/:name`, async (_request, reply) => reply.status(204).send());
  });
  cli = await newTestCli(server.url);
});
afterEach(async () => {
  await cli.close();
  await server.close();
});
const run = (...words: string[]) => cli.run(["infra", ...words, "--app", "launches", "--env", "production"]);

describe("shipway infra", () => {
  it("drift shows each kind with what changed, and exits 1 while something would be put back", async () => {
    const { code, out } = await run("drift");
    expect(code).toBe(1);
    expect(out).toBe(
      [
        "Changed by hand; the next apply puts it back:",
        "  ~ aws_vpc.main",
        '      tags.team: "a" → "b"',
        "Ignored:",
        "  - aws_eip.x (moved away)",
        "",
      ].join("\n"),
    );
    shown = { ...infra, drift: { ...drift, resources: [] } };
    expect(await run("drift")).toMatchObject({ code: 0, out: expect.stringContaining("No drift") });
  });

  it("drift shows tasks beside resources, and exits 1 for what a person or the loop has to put right", async () => {
    const { drift: _drift, ...rest } = infra;
    const web = { name: "launches.production.web.r3-1", what: "task" as const };
    const outdated = { ...web, kind: "outdated" as const, attributes: [], mendsItself: false };
    const attributes = [{ path: "memory", before: "512 MiB", after: "64 MiB" }];
    const changed = { ...web, kind: "changed" as const, attributes, mendsItself: false, remedy: "shipway deploy" };
    const mended = [{ at: "2026-11-23T11:00:00.000Z", text: "Started web, which should run and did not." }];
    const tasks = {
      checkedAt: "2026-11-23T12:00:00.000Z",
      deployment: null,
      problem: null,
      drift: [changed, outdated],
      mended,
    };
    shown = { ...rest, drift: null, applied: null, tasks };
    const { code, out, err } = await run("drift", "--now");
    expect(code).toBe(1);
    expect(err).toContain("No Terraform was applied here yet.");
    expect(out.split("\n")).toEqual([
      "Tasks that run otherwise than declared:",
      "  ~ launches.production.web.r3-1 was changed",
      "      memory: 512 MiB → 64 MiB",
      "    → `shipway deploy`",
      "Declared anew since they were started; the next deployment takes it over:",
      "  · launches.production.web.r3-1 has variables from before they were declared anew",
      "Put right in the last 24 hours:",
      "  1 h ago: Started web, which should run and did not.",
      "",
    ]);
    expect(JSON.parse((await run("drift", "--json")).out).tasks).toEqual(tasks);
    shown = { ...shown, tasks: { ...tasks, drift: [outdated] } };
    expect(await run("drift")).toMatchObject({ code: 0, out: expect.stringContaining("Tasks: they run as declared.") });
    shown = { ...shown, tasks: { ...tasks, drift: [], deployment: "d_1" } };
    expect((await run("show")).out).toContain("Tasks: deployment d_1 is at work");
  });

  it.each([
    [["--ignore", "aws_vpc.main"], "Why is it ignored?"],
    [["--accept", "--revert"], "--revert and --accept are different things"],
    [["--target", "aws_vpc.main"], "--target goes with --accept"],
    [["--reason", "x"], "--reason and --for go with --ignore"],
  ])("drift %j is refused: %s", async (words, message) => {
    const { code, err } = await run("drift", ...words);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  });

  it("drift keeps quiet about an attribute, and says how to hear of it again", async () => {
    const { code, err } = await run("drift", "--ignore", "aws_vpc.main.tags", "--reason", "sale", "--for", "7d");
    expect(code).toBe(0);
    expect(asked).toEqual({ what: "aws_vpc.main.tags", reason: "sale", for: "7d" });
    expect(err).toContain("Nobody is told of aws_vpc.main.tags for 7d. The next apply still puts it back.");
    expect(err).toContain("`shipway infra drift --unignore aws_vpc.main.tags`");
    const { out } = await run("drift", "--ignored");
    expect(out.split("\n").slice(0, 2)).toEqual([
      "WHAT               WHY   BY   UNTIL",
      "aws_vpc.main.tags  sale  ada  2026-12-01 10:00",
    ]);
    expect((await run("drift", "--unignore", "aws_vpc.main.tags")).err).toContain("tells of aws_vpc.main.tags again");
  });

  it("apply is followed until it waits, and says how it goes on", async () => {
    const { code, err } = await run("apply");
    expect(code).toBe(0);
    expect(err.split("\n")).toEqual([
      "→ infra of production  main 3f1c2ab",
      "✓ plan: 1 to destroy",
      "  - aws_vpc.main",
      "! waits for an approval: it destroys aws_vpc.main",
      "  → `shipway infra approve i_3`",
      "",
    ]);
  });

  it("cancel follows the run until it has ended, and says what it is at and how far it came", async () => {
    const of = { subject: "infra:i_3", deliveryId: "i_3", environment: "production" };
    const resources = [{ address: "aws_db_instance.x", action: "create", seconds: 40 }];
    const problem = { message: "Run i_3 was stopped in the middle, as ada asked.", hint: "Apply again." };
    const end = { runId: "i_3", kind: "apply", status: "canceled", durationMs: 1, changes: 2, problem };
    told = [
      newEvent(4, "infra.cancelRequested", { runId: "i_3", by: "ada", force: false }, of),
      newEvent(5, "infra.stopping", { runId: "i_3", resources }, of),
      newEvent(6, "infra.ended", end, of),
    ];
    const { code, err } = await cli.run(["infra", "cancel", "i_3"]);
    expect(code).toBe(0);
    expect(err.split("\n")).toEqual([
      "! ada wants run i_3 stopped",
      "  … asked Terraform to stop; it finishes what it is at: aws_db_instance.x 40 s",
      "! Run i_3 was stopped in the middle, as ada asked.",
      "  → Apply again.",
      "",
    ]);
  });

  it("cancel stops at once only who says that they know what it may cost", async () => {
    const { code, err } = await cli.run(["infra", "cancel", "i_3", "--force"]);
    expect(code).toBe(2);
    expect(err).toContain("may exist and be missing from the state");
    expect(err).toContain("`shipway infra cancel i_3 --force --yes`");
  });

  it("show names what is applied, the block, and the lock with holder, run and age", async () => {
    const { out } = await run("show");
    expect(out).toContain("Applied: 3f1c2ab of shop-infra by run i_1.");
    expect(out).toContain("Blocked: the outcome of i_2 is unknown.");
    expect(out).toContain("State lock l-1: run i_2, OperationTypeApply by root@vm, 1 h ago.");
  });

  it("repository create says where to push and what to write; remove wants to be sure", async () => {
    const { code, err } = await cli.run(["infra", "repository", "create", "shop-infra", "--app", "launches"]);
    expect(code).toBe(0);
    expect(err).toContain("git remote add shipway http://localhost/git/shop-infra.git && git push shipway HEAD:main");
    expect(err).toContain("infra: { repository: shop-infra, dir: . }");
    const remove = ["infra", "repository", "remove", "shop-infra", "--app", "launches"];
    expect(await cli.run(remove)).toMatchObject({ code: 2, err: expect.stringContaining("for good") });
    expect(server.requests.some(({ method }) => method === "DELETE")).toBe(false);
    expect((await cli.run([...remove, "--yes"])).code).toBe(0);
    expect(server.requests.at(-1)).toMatchObject({ method: "DELETE", url: `${REPOSITORIES}/shop-infra` });
  });

  it("repository list shows what was applied from each", async () => {
    const list = ["infra", "repository", "list", "--app", "launches"];
    expect((await cli.run(list)).out).toMatch(/^REPOSITORY +ENVIRONMENTS.*\nshop-infra +production, staging/);
    expect(JSON.parse((await cli.run([...list, "--json"])).out)).toMatchObject([{ name: "shop-infra" }]);
  });

  it("state list is a command of three words, and its siblings are suggested", async () => {
    expect(await run("state", "list")).toMatchObject({ code: 0, err: expect.stringContaining("has no state yet") });
    expect((await cli.run(["infra", "state", "lst"])).err).toContain("`shipway infra state list`");
    expect((await cli.run(["infra", "state", "--help"])).out).toContain("infra state restore <version>");
  });
});
