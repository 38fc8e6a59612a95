import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../shared/until.ts";
import { COMMANDS } from "./commands/index.ts";
import { readCredentials } from "./credentials.ts";
import {
  errorBody,
  newDeployment,
  newEnvironment,
  newEvent,
  newStatus,
  newTestCli,
  sendEvents,
  startTestServer,
  type TestCli,
  type TestServer,
  TOKEN,
} from "./testing.ts";

let server: TestServer;
let cli: TestCli;
let routes: (app: FastifyInstance) => void = () => {};

const production = { environment: "production", subject: "deployment:d_1" };
const app = {
  name: "launches",
  gitUrl: "http://127.0.0.1:1/git/launches.git",
  createdAt: "2026-11-23T10:00:00.000Z",
  environments: ["production"],
};

async function start(add: (app: FastifyInstance) => void = () => {}): Promise<void> {
  routes = add;
  server = await startTestServer((fastify) => {
    fastify.get("/api/apps/launches", async () => app);
    routes(fastify);
  });
  await cli?.close();
  cli = await newTestCli(server.url);
}

beforeEach(async () => {
  routes = () => {};
});
afterEach(async () => {
  await server?.close();
  await cli?.close();
});

function deliveryRoutes(
  fastify: FastifyInstance,
  events: ReturnType<typeof newEvent>[],
  ended = newDeployment(),
): void {
  const started = { deliveryId: "c_1", deploymentId: "d_1" };
  fastify.post("/api/apps/launches/deployments", (_request, reply) => reply.status(202).send(started));
  fastify.post("/api/apps/launches/environments/production/rollback", (_request, reply) =>
    reply.status(202).send(started),
  );
  fastify.get("/api/deployments/d_1", async () => ended);
  fastify.get("/api/events", (_request, reply) =>
    sendEvents(
      reply,
      events.map((event) => ({ id: event.id, event: "event", data: event })),
    ),
  );
}

const liveEvents = [
  newEvent(1, "deployment.started", { deploymentId: "d_1", kind: "deploy", release: 7, from: 6 }, production),
  newEvent(2, "rollout.live", { release: 7, afterMs: 2300, addresses: ["http://web.localhost:8080"] }, production),
  newEvent(3, "delivery.ended", { status: "live", deployments: [], durationMs: 9000 }),
];

describe("approve", () => {
  const review = { from: 6, commits: [], more: 0, takesBack: 0, ranIn: [] };
  const decided: string[] = [];
  const waits = (fastify: FastifyInstance) => {
    decided.length = 0;
    const ids = ["d_1", "d_2"];
    const waiting = ids.map((id) => newDeployment({ id, status: "waiting", endedAt: null }));
    fastify.get<{ Querystring: { environment?: string } }>("/api/apps/launches/deployments", async ({ query }) =>
      query.environment === undefined ? waiting : waiting.slice(0, 1),
    );
    fastify.get("/api/deployments/:id", async () => newDeployment());
    fastify.get("/api/deployments/:id/review", async () => review);
    fastify.post("/api/deployments/:id/:what", async ({ params, body }, reply) => {
      decided.push(JSON.stringify([params, body]));
      return (params as { what: string }).what === "reject"
        ? reply.status(204).send()
        : reply.status(202).send({ deliveryId: "c_1", deploymentId: "d_1" });
    });
    fastify.get("/api/events", (request, reply) =>
      request.headers.accept === "text/event-stream"
        ? sendEvents(
            reply,
            liveEvents.map((event) => ({ id: event.id, event: "event", data: event })),
          )
        : reply.send([]),
    );
  };
  const argv = (...more: string[]) => ["approve", "--app", "launches", ...more];

  it("shows what waits and approves none of it without being told which", async () => {
    await start(waits);
    const { code, out } = await cli.run(argv());
    expect([code, out]).toEqual([
      0,
      expect.stringMatching(/d_1: r7 waits[\s\S]*`shipway approve d_1`[\s\S]*d_2: r7 waits/),
    ]);
    const terminal = { isTTY: { in: true, out: true, err: true } };
    await cli.run(argv(), { ...terminal, confirm: async () => true });
    await cli.run(argv("--env", "production"), { ...terminal, confirm: async () => false });
    await cli.run(argv("--env", "production"), { confirm: async () => true });
    expect(decided).toEqual([]);
  });

  it("asks at a terminal where one waits, and follows it until it is live", async () => {
    await start(waits);
    const { code, err } = await cli.run(argv("--env", "production"), {
      isTTY: { in: true, out: true, err: true },
      confirm: async () => true,
    });
    expect([code, err]).toEqual([0, expect.stringContaining("live in 2.3 s")]);
    expect(decided).toEqual(['[{"id":"d_1","what":"approve"},{}]']);
  });

  it("turns one down with the reason, and only one that was named", async () => {
    await start(waits);
    expect((await cli.run(argv("--reject", "wrong prices"))).code).toBe(2);
    expect((await cli.run(argv("d_2", "--reject", "wrong prices"))).code).toBe(0);
    expect(decided).toEqual(['[{"id":"d_2","what":"reject"},{"reason":"wrong prices"}]']);
  });
});

describe("deploy", () => {
  it("follows the delivery until it is live, says the next step, and exits 0", async () => {
    await start((fastify) => deliveryRoutes(fastify, liveEvents));
    const { code, out, err } = await cli.run(["deploy", "--app", "launches", "--ref", "main"]);
    expect(err).toBe(
      [
        "→ production  r6 → r7",
        "✓ live in 2.3 s   http://web.localhost:8080",
        "✓ done in 9.0 s",
        "  r7 serves production (live after 2.3 s). Back again: `shipway rollback --env production`",
        "",
      ].join("\n"),
    );
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(server.requests.find(({ method }) => method === "POST")?.body).toEqual({
      environment: "production",
      ref: "main",
    });
  });

  it("gives the deployment as JSON on stdout and keeps the talk on stderr", async () => {
    await start((fastify) => deliveryRoutes(fastify, liveEvents));
    const { code, out } = await cli.run(["deploy", "--app", "launches", "--release", "r7", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ id: "d_1", status: "succeeded", release: 7 });
    expect(server.requests.find(({ method }) => method === "POST")?.body).toEqual({
      environment: "production",
      release: 7,
    });
  });

  it("lets go where the release waits for an approval, and does not take that for the end of one that was approved since", async () => {
    const events = [
      newEvent(1, "deployment.waiting", { deploymentId: "d_1", release: 7, mayApprove: ["tess"] }, production),
      newEvent(2, "delivery.waiting", { deployments: [{ environment: "production", deploymentId: "d_1" }] }),
    ];
    const argv = ["deploy", "--app", "launches", "--release", "r7"];
    await start((fastify) => deliveryRoutes(fastify, events, newDeployment({ status: "waiting", endedAt: null })));
    const { code, err } = await cli.run(argv);
    expect([code, err]).toEqual([
      0,
      expect.stringMatching(/waits for an approval[\s\S]*nothing is held up meanwhile\n$/),
    ]);
    await server.close();
    await start((fastify) =>
      deliveryRoutes(fastify, [...events, ...liveEvents.map((one) => ({ ...one, id: one.id + 2 }))]),
    );
    expect((await cli.run(argv)).err).toContain("✓ live in 2.3 s");
  });

  it.each(["stopped", "superseded"])("exits 1 when it %s", async (status) => {
    const events = [newEvent(1, "delivery.ended", { status, at: "ci", deployments: [], durationMs: 9000 })];
    await start((fastify) => deliveryRoutes(fastify, events, newDeployment({ status: "failed" })));
    expect((await cli.run(["deploy", "--app", "launches", "--ref", "main"])).code).toBe(1);
  });

  it("cancels nothing on Ctrl-C and says how to return", async () => {
    await start((fastify) => deliveryRoutes(fastify, liveEvents.slice(0, 1)));
    const ctrlC = new AbortController();
    const shown: string[] = [];
    const running = cli.run(["deploy", "--app", "launches", "--ref", "main"], {
      interrupted: ctrlC.signal,
      err: (text) => shown.push(text),
    });
    await until("progress", () => shown.length > 0);
    ctrlC.abort();
    expect((await running).code).toBe(130);
    expect(shown.join("")).toContain("You left; the work goes on.\n  Follow it: `shipway deployments d_1`\n");
    expect(shown.join("")).toContain("  Stop it:   `shipway cancel d_1`\n");
    expect(server.requests.filter(({ method, url }) => method !== "GET" && url.includes("cancel"))).toEqual([]);
  });

  it("returns at once with --no-wait", async () => {
    await start((fastify) => deliveryRoutes(fastify, []));
    const { code, out, err } = await cli.run(["deploy", "--app", "launches", "--ref", "main", "--no-wait", "--json"]);
    expect({ code, out: JSON.parse(out) }).toEqual({ code: 0, out: { deliveryId: "c_1", deploymentId: "d_1" } });
    expect(err).toBe("Started. Follow it: `shipway deployments d_1`\n");
  });

  it("refuses --ref together with --release before it asks the server", async () => {
    await start();
    const { code, err } = await cli.run(["deploy", "--app", "launches", "--ref", "main", "--release", "7"]);
    expect(code).toBe(2);
    expect(err).toContain("--ref and --release exclude each other.");
    expect(server.requests).toEqual([]);
  });

  it("takes the app from shipway.yml above, and asks which environment when that leaves a choice", async () => {
    await start((fastify) => {
      fastify.get("/api/apps/shop", async () => ({ ...app, name: "shop", environments: ["blue", "green"] }));
    });
    await writeFile(join(cli.dir, "shipway.yml"), "app: shop\nservices: [broken\n");
    await mkdir(join(cli.dir, "src"));
    const { code, err } = await cli.run(["deploy", "--ref", "main"], { cwd: join(cli.dir, "src") });
    expect(code).toBe(2);
    expect(err).toBe("✗ Which environment of shop? It has blue, green.\n  → Name it, such as `--env blue`.\n");
  });
});

describe("rollback", () => {
  it("goes to the previous good release when none is named", async () => {
    await start((fastify) => deliveryRoutes(fastify, liveEvents, newDeployment({ kind: "rollback", release: 6 })));
    const { code, err } = await cli.run(["rollback", "--app", "launches"]);
    expect(code).toBe(0);
    expect(err).toContain("✓ done in 9.0 s");
    expect(server.requests.find(({ method }) => method === "POST")?.body).toEqual({});
  });

  it.each(["r5", "5"])("goes to %s", async (to) => {
    await start((fastify) => deliveryRoutes(fastify, liveEvents));
    await cli.run(["rollback", "--app", "launches", "--to", to]);
    expect(server.requests.find(({ method }) => method === "POST")?.body).toEqual({ to: 5 });
  });

  it("passes the API's refusal on, with its hint", async () => {
    await start((fastify) => {
      fastify.post("/api/apps/launches/environments/production/rollback", (_request, reply) =>
        reply
          .status(404)
          .send(errorBody("RELEASE_NOT_FOUND", "App launches has no release r99.", "`shipway releases`")),
      );
    });
    const { code, err } = await cli.run(["rollback", "--app", "launches", "--to", "r99"]);
    expect({ code, err }).toEqual({ code: 2, err: "✗ App launches has no release r99.\n  → `shipway releases`\n" });
  });

  it("touches nothing with --help", async () => {
    await start();
    const { code, out, err } = await cli.run(["rollback", "--help"]);
    expect({ code, err, requests: server.requests }).toEqual({ code: 0, err: "", requests: [] });
    expect(out).toContain("$ shipway rollback --to r5 --env production");
  });
});

describe("reading", () => {
  const releases = [7, 6].map((number) => ({
    app: "launches",
    number,
    commit: "3f2c1ab9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5",
    refName: "main",
    subject: `Change number ${number} with a subject that goes on and on and on, much further than it fits`,
    author: "Maria",
    createdAt: "2026-11-23T11:00:00.000Z",
    images: [],
    liveIn: number === 7 ? ["production"] : [],
    standbyIn: number === 6 ? ["production"] : [],
  }));
  const withReleases = (fastify: FastifyInstance) => fastify.get("/api/apps/launches/releases", async () => releases);

  it("fits a table to the terminal", async () => {
    await start(withReleases);
    const { out } = await cli.run(["releases", "--app", "launches"], { isTTY: { in: true, out: true, err: true } });
    const lines = out.trimEnd().split("\n");
    expect(lines.every((line) => line.length <= 80)).toBe(true);
    expect(lines[1]).toMatch(/^r7 .*3f2c1ab .*… .*1 h ago$/);
  });

  it("cuts and colours nothing when piped", async () => {
    await start(withReleases);
    const { out } = await cli.run(["releases", "--app", "launches"]);
    expect(out).toContain("Change number 6 with a subject that goes on and on and on, much further than it fits");
    expect(out).not.toContain("\u001b");
  });

  it("gives the API's own JSON", async () => {
    await start(withReleases);
    const { out, err } = await cli.run(["releases", "--app", "launches", "--json"]);
    expect(JSON.parse(out)).toEqual(releases);
    expect(err).toBe("");
  });

  it("shows what runs where, and what to do about a frozen environment", async () => {
    await start((fastify) => {
      fastify.get("/api/status", async () => newStatus({ apiUrl: server.url, apps: [app] }));
      fastify.get("/api/apps/launches/environments", async () => [
        newEnvironment({ frozen: { reason: "rolled back to r6 by maria", since: "2026-11-23T11:00:00.000Z" } }),
      ]);
    });
    const { code, out, err } = await cli.run(["status"]);
    expect(code).toBe(0);
    expect(out.split("\n")[0]).toBe(`Shipway 1.2.3 at ${server.url}, up for 1 h 0 min, Docker 20.10.24`);
    expect(out).toMatch(/launches +production +docker +r7 +r6 +web 2\/2 +frozen/);
    expect(err).toContain("Go on: `shipway resume --app launches --env production`");
  });

  it("says of which environment nobody can tell what runs, and why", async () => {
    const [web] = newEnvironment().services;
    await start((fastify) => {
      fastify.get("/api/status", async () => newStatus({ apiUrl: server.url, apps: [app] }));
      fastify.get("/api/apps/launches/environments", async () => [
        newEnvironment({
          runtime: "ecs",
          services: web === undefined ? [] : [{ ...web, running: null }],
          problem: { code: "AWS_UNREACHABLE", message: "AWS has not answered for 5 s.", hint: "`shipway doctor aws`" },
        }),
      ]);
    });
    const { code, out, err } = await cli.run(["status"]);
    expect(code).toBe(75);
    expect(out).toMatch(/launches +production +ecs +r7 +r6 +web \?\/2 +unknown/);
    expect(err).toContain("launches production: AWS has not answered for 5 s.\n  → `shipway doctor aws`");
  });

  it("shows why a deployment failed", async () => {
    const evidence = {
      task: "web-r7-1",
      service: "web",
      summary: "It exited right after its start.",
      state: "exited" as const,
      exitCode: 1,
      probes: [],
      listening: [],
      lastLines: ["Error: no DB_URL"],
    };
    await start((fastify) => {
      fastify.get("/api/events", async () => []);
      fastify.get("/api/deployments/d_1", async () =>
        newDeployment({
          status: "failed",
          phase: "prove",
          problem: { code: "X", message: "web did not become healthy.", hint: "Set DB_URL." },
          evidence: [evidence],
        }),
      );
    });
    const { out } = await cli.run(["deployments", "d_1"]);
    expect(out).toContain(
      "✗ stopped at prove:\n  web did not become healthy.\n  ✗ web-r7-1: It exited right after its start.\n",
    );
    expect(out).toContain("    exit code 1\n      | Error: no DB_URL\n→ Set DB_URL.\n");
  });

  it("follows a delivery that has no deployment yet, until it ends", async () => {
    await start((fastify) => {
      fastify.get("/api/events", async (request, reply) => {
        if (!request.headers.accept?.includes("event-stream")) return liveEvents.slice(0, 1);
        sendEvents(
          reply,
          liveEvents.map((event) => ({ id: event.id, event: "event", data: event })),
        );
        return reply;
      });
    });
    const { code, err } = await cli.run(["deployments", "c_1"]);
    expect(code).toBe(0);
    expect(err).toContain("✓ done in 9.0 s");
  });

  it("starts a manual step of a paused run, and shows what comes of it and not what was before", async () => {
    const told = (id: number, kind: string, data: object) =>
      newEvent(id, `ci.${kind}`, { pipelineId: "p_9", number: 12, ...data }, { subject: "pipeline:p_9" });
    const ended = (id: string, name: string) => {
      const outcome = { id, name, status: "passed", startedAt: 0, endedAt: 900, commands: [], lastLines: [] };
      return { stepId: id, outcome };
    };
    const steps = ["Test", "Ship"].map((name, index) => ({ id: String(index + 1), name, stage: index }));
    const before = [
      told(1, "pipelineStarted", { selector: "default", steps, notes: [] }),
      told(2, "stepEnded", ended("1", "Test")),
      told(3, "pipelinePaused", { gates: [{ id: "2", name: "Ship" }], durationMs: 900 }),
    ];
    const after = [
      told(4, "pipelineContinued", { gate: { id: "2", name: "Ship" } }),
      told(5, "stepEnded", ended("2", "Ship")),
      told(6, "pipelineEnded", { status: "passed", durationMs: 1800 }),
    ];
    const paused = {
      id: "p_9",
      app: "launches",
      number: 12,
      commit: "3f2c1ab",
      refName: "main",
      status: "paused",
      reason: null,
      createdAt: "2026-11-23T11:00:00.000Z",
      endedAt: null,
      durationMs: null,
      deliveryId: "c_1",
      gates: [{ id: "2", name: "Ship" }],
      steps: [],
    };
    await start((fastify) => {
      fastify.get("/api/apps/launches/pipelines", async () => [paused]);
      fastify.get("/api/pipelines/p_9", async () => paused);
      fastify.post("/api/pipelines/p_9/continue", (_request, reply) =>
        reply.status(202).send({ pipelineId: "p_9", deliveryId: "c_1" }),
      );
      fastify.get("/api/events", (request, reply) =>
        request.headers.accept === "text/event-stream"
          ? sendEvents(
              reply,
              [...before, ...after].map((event) => ({ id: event.id, event: "event", data: event })),
            )
          : reply.send(before),
      );
    });
    const { code, err } = await cli.run(["pipelines", "continue", "12", "--app", "launches", "--step", "Ship"]);
    expect([code, err.split("\n")]).toEqual([
      0,
      [
        '→ maria started "Ship" of pipeline #12 default',
        "  ✓ Ship 900 ms",
        "✓ pipeline #12 default passed: 2/2 steps in 1.8 s",
        "",
      ],
    ]);
    expect(server.requests.find(({ method }) => method === "POST")?.body).toEqual({ step: "Ship" });
    expect((await cli.run(["pipelines", "p_9"])).err).toContain("`shipway pipelines continue 12`");
  });

  it("reads a pipeline by its number and shows the output of the step that failed, page after page", async () => {
    const step = (id: string, name: string, status: string) => ({ id, name, status, logId: `p_9.step-${id}` });
    await start((fastify) => {
      fastify.get("/api/apps/launches/pipelines", async () => [
        {
          id: "p_9",
          app: "launches",
          number: 12,
          commit: "3f2c1ab",
          refName: "main",
          status: "failed",
          reason: null,
          createdAt: "2026-11-23T11:00:00.000Z",
          endedAt: null,
          durationMs: 5,
          deliveryId: "c_1",
          gates: [],
          steps: [step("1", "lint", "passed"), step("2", "unit", "failed")],
        },
      ]);
      fastify.get<{ Querystring: { id: string; from: string } }>("/api/logs", async ({ query }) => {
        const from = Number(query.from);
        return from >= 3 || query.id !== "p_9.step-2"
          ? []
          : [{ line: from, at: "2026-11-23T11:00:00.000Z", stream: "out", text: `line ${from}` }];
      });
    });
    const { code, out } = await cli.run(["logs", "--app", "launches", "--pipeline", "12"]);
    expect({ code, out }).toEqual({ code: 0, out: "line 0\nline 1\nline 2\n" });
    const unknown = await cli.run(["logs", "--app", "launches", "--pipeline", "12", "--step", "unti"]);
    expect(unknown.code).toBe(2);
    expect(unknown.err).toContain("`shipway logs --pipeline 12 --step unit`");
  });

  it("follows events behind the past ones, without a gap", async () => {
    const past = Array.from({ length: 30 }, (_, index) => newEvent(index + 1, "app.created", { app: "launches" }));
    await start((fastify) => {
      fastify.get<{ Querystring: { after?: string } }>("/api/events", async (request, reply) => {
        const after = Number(request.query.after ?? 0);
        if (!request.headers.accept?.includes("event-stream")) {
          return past.filter(({ id }) => id > after).slice(0, 20);
        }
        const more = newEvent(31, "app.removed", { app: "launches" });
        sendEvents(reply, [{ id: 31, event: "event", data: more }]);
        return reply;
      });
    });
    const ctrlC = new AbortController();
    const lines: string[] = [];
    const { code } = await cli.run(["events", "-f", "--json", "--limit", "2"], {
      interrupted: ctrlC.signal,
      out: (line) => {
        lines.push(line);
        if (lines.length === 3) ctrlC.abort();
      },
    });
    expect(code).toBe(0);
    expect(lines.map((line) => (JSON.parse(line) as { id: number }).id)).toEqual([29, 30, 31]);
    expect(server.requests.at(-1)?.url).toContain("after=30");
  });
});

describe("logs -f", () => {
  it("goes over to the new tasks when traffic moves, from the start of their deployment", async () => {
    const asked: unknown[] = [];
    const line = (task: string) => ({
      event: "line",
      data: { task, at: "2026-11-23T12:00:01.000Z", stream: "out", text: "hello" },
    });
    let moveTraffic: (() => void) | undefined;
    await start((fastify) => {
      fastify.get("/api/events", (_request, reply) => {
        sendEvents(reply, []);
        moveTraffic = () => {
          for (const [index, kind] of ["deployment.started", "rollout.live"].entries()) {
            const event = newEvent(index + 1, kind, {}, { ...production, at: `2026-11-23T12:00:0${index}.000Z` });
            reply.raw.write(`id: ${event.id}\nevent: event\ndata: ${JSON.stringify(event)}\n\n`);
          }
        };
      });
      fastify.get("/api/apps/launches/environments/production/logs", (request, reply) => {
        asked.push(request.query);
        sendEvents(reply, [line(`web-r${asked.length}-1`)]);
      });
    });
    const ctrlC = new AbortController();
    const lines: string[] = [];
    const { code } = await cli.run(["logs", "-f", "--app", "launches", "--since", "1m"], {
      interrupted: ctrlC.signal,
      out: (text) => {
        lines.push(text);
        if (lines.length === 2) ctrlC.abort();
        else void until("the event stream", () => moveTraffic).then((move) => move());
      },
    });
    expect({ code, lines }).toEqual({ code: 0, lines: ["web-r1-1 hello\n", "web-r2-1 hello\n"] });
    expect(asked).toEqual([
      { since: "2026-11-23T11:59:00.000Z", follow: "true" },
      { since: "2026-11-23T12:00:00.000Z", follow: "true" },
    ]);
  });
});

describe("secret set", () => {
  const withSecret = (fastify: FastifyInstance) =>
    fastify.put("/api/apps/launches/environments/production/secrets/KEY", async () => ({
      name: "KEY",
      version: 3,
      updatedAt: "2026-11-23T11:00:00.000Z",
    }));

  it("takes the value from stdin without its last newline, and shows it nowhere", async () => {
    await start(withSecret);
    const { code, out, err } = await cli.run(["secret", "set", "KEY", "--app", "launches"], {
      readStdin: async () => "s3cret\nsecond line\n",
    });
    expect(code).toBe(0);
    expect(server.requests.at(-1)?.body).toEqual({ value: "s3cret\nsecond line" });
    expect(out + err).not.toContain("s3cret");
    expect(err).toContain("KEY is set for launches production (version 3).");
  });

  it("asks at the terminal", async () => {
    await start(withSecret);
    const typed = { isTTY: { in: true, out: true, err: true }, promptSecret: async () => "typed" };
    expect((await cli.run(["secret", "set", "KEY", "--app", "launches"], typed)).code).toBe(0);
    expect(server.requests.at(-1)?.body).toEqual({ value: "typed" });
  });

  it("takes no value as an argument", async () => {
    await start(withSecret);
    const { code } = await cli.run(["secret", "set", "KEY", "s3cret", "--app", "launches"]);
    expect({ code, requests: server.requests }).toEqual({ code: 2, requests: [] });
  });
});

describe("secret list", () => {
  it("shows where secrets of the account lie, beside those that are stored", async () => {
    const stored = { name: "KEY", version: 1, updatedAt: "2026-11-23T11:00:00.000Z" };
    const from = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf";
    const ofAccount = { name: "DB", from, version: "0c1d2e3f-0000", isPinned: true };
    await start((fastify) => {
      fastify.get("/api/apps/launches/environments/production/secrets", async () => [stored]);
      fastify.get("/api/apps/launches/environments/production/account-secrets", async () => [ofAccount]);
    });
    const argv = ["secret", "list", "--app", "launches", "--env", "production"];
    const { out } = await cli.run(argv);
    expect(out.split("\n").slice(0, 3)).toEqual([
      expect.stringMatching(/^SECRET +VERSION +SET +WHERE/),
      expect.stringMatching(/^KEY +1 .* Shipway$/),
      expect.stringMatching(/^DB +0c1d2e3f +arn:aws:secretsmanager:.*:secret:db-AbCdEf$/),
    ]);
    expect(JSON.parse((await cli.run([...argv, "--json"])).out)).toEqual([stored, ofAccount]);
  });
});

describe("what pipeline steps get", () => {
  const updatedAt = "2026-11-23T11:00:00.000Z";
  const routes = (fastify: FastifyInstance) => {
    fastify.put("/api/apps/launches/pipeline-secrets/KEY", async () => ({
      name: "KEY",
      version: 1,
      updatedAt,
      environment: null,
    }));
    fastify.put("/api/apps/launches/pipeline-variables/COLOR", async () => ({
      name: "COLOR",
      value: "red",
      version: 2,
      updatedAt,
      environment: "production",
    }));
    fastify.get("/api/apps/launches/pipeline-secrets", async () => [
      { name: "KEY", version: 1, updatedAt, environment: null },
      { name: "KEY", version: 4, updatedAt, environment: "production" },
    ]);
  };
  const LAUNCHES = ["--app", "launches", "--pipelines"];

  it("is set for every step, or for those with a deployment, and never for tasks", async () => {
    await start(routes);
    const secret = await cli.run(["secret", "set", "KEY", ...LAUNCHES], { readStdin: async () => "s3cret" });
    const variable = await cli.run(["var", "set", "COLOR=red", "--env", "production", ...LAUNCHES]);
    expect([secret.code, variable.code]).toEqual([0, 0]);
    expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "PUT /api/apps/launches/pipeline-secrets/KEY",
      "PUT /api/apps/launches/pipeline-variables/COLOR?environment=production",
    ]);
    expect(secret.err).toContain("KEY is set for every pipeline step of launches (version 1).");
    expect(variable.err).toContain("pipeline steps of launches with `deployment: production` (version 2).");
  });

  it("is listed for all of them, or for one deployment", async () => {
    await start(routes);
    const { out } = await cli.run(["secret", "list", ...LAUNCHES]);
    expect(out.split("\n").slice(0, 3)).toEqual([
      expect.stringMatching(/^SECRET +STEPS +VERSION/),
      expect.stringMatching(/^KEY +every +1 /),
      expect.stringMatching(/^KEY +deployment: production +4 /),
    ]);
    const json = await cli.run(["secret", "list", "--env", "production", "--json", ...LAUNCHES]);
    expect(JSON.parse(json.out)).toEqual([{ name: "KEY", version: 4, updatedAt, environment: "production" }]);
  });
});

describe("app remove", () => {
  it("removes nothing without --yes, and says what it would remove", async () => {
    await start();
    const { code, err } = await cli.run(["app", "remove", "launches"]);
    expect(code).toBe(2);
    expect(err).toContain("(it runs in production)");
    expect(err).toContain("`shipway app remove launches --yes`");
    expect(server.requests.filter(({ method }) => method === "DELETE")).toEqual([]);
  });

  it("removes its images, too, unless they are to be kept", async () => {
    await start(
      (fastify) => void fastify.delete("/api/apps/launches", async () => ({ remarks: ["Something stays."] })),
    );
    for (const flag of [[], ["--keep-images"]]) {
      const { code, err } = await cli.run(["app", "remove", "launches", "--yes", ...flag]);
      expect([code, err]).toEqual([0, expect.stringContaining("Something stays.")]);
    }
    const asked = server.requests.filter(({ method }) => method === "DELETE").map(({ url }) => url);
    expect(asked).toEqual(["/api/apps/launches?images=remove", "/api/apps/launches?images=keep"]);
  });
});

describe("signing in", () => {
  const status = (fastify: FastifyInstance) => fastify.get("/api/status", async () => newStatus());

  it("stores a token that works", async () => {
    await start(status);
    const fresh = await newTestCli();
    try {
      const { code } = await fresh.run(["login", `${server.url}/`], { readStdin: async () => `${TOKEN}\n` });
      expect(code).toBe(0);
      expect(await readCredentials(fresh.credentialsFile)).toEqual({
        servers: { [server.url]: { token: TOKEN } },
        default: server.url,
      });
    } finally {
      await fresh.close();
    }
  });

  it("stores no token that is refused", async () => {
    await start(status);
    const fresh = await newTestCli();
    try {
      const { code, err } = await fresh.run(["login", server.url], { readStdin: async () => "wrong" });
      expect({ code, err }).toEqual({ code: 2, err: "✗ This token is not known.\n  → Sign in: `shipway login`\n" });
      expect(await readCredentials(fresh.credentialsFile)).toEqual({ servers: {} });
    } finally {
      await fresh.close();
    }
  });

  it("prefers flags to the environment and the environment to the file", async () => {
    await start(status);
    const environment = { SHIPWAY_SERVER: "http://127.0.0.1:9", SHIPWAY_TOKEN: "wrong" };
    expect((await cli.run(["status", "--server", server.url, "--token", TOKEN], { environment })).code).toBe(0);
    expect((await cli.run(["status", "--server", server.url], { environment })).code).toBe(2);
    expect((await cli.run(["status"])).code).toBe(0);
  });

  it("exits 75 with the way to start it when no server answers", async () => {
    await start();
    await server.close();
    const { code, err } = await cli.run(["status"]);
    expect({ code, err }).toEqual({
      code: 75,
      err: `✗ No Shipway answers at ${server.url}: the connection was refused.\n  → Start it: \`shipway up\`\n`,
    });
  });

  it("exits 70 with the request id when the server breaks", async () => {
    await start((fastify) => {
      fastify.get("/api/apps", (_request, reply) => reply.status(500).send(errorBody("BUG", "Something broke.")));
    });
    const { code, err } = await cli.run(["app", "list"]);
    expect(code).toBe(70);
    expect(err).toContain("request req-1");
  });
});

describe("doctor", () => {
  it("says of each check what was found and what to do, and exits 1 when something must be fixed", async () => {
    cli = await newTestCli();
    const { code, out, err } = await cli.run(["doctor", "--http-port", "80"], {
      actions: {
        doctorAws: async () => [],
        smokeAws: async () => [],
        up: async () => 0,
        demo: async () => 0,
        doctor: async ({ httpPort }) => [
          { name: "git", status: "ok", found: "2.39.5" },
          { name: `port ${httpPort}`, status: "fail", found: "taken", fix: "Free it." },
        ],
      },
    });
    expect({ code, out }).toEqual({ code: 1, out: "✓ git      2.39.5\n✗ port 80  taken\n           → Free it.\n" });
    expect(err).toBe("1 problem to fix before Shipway can work.\n");
  });
});

describe("words", () => {
  beforeEach(async () => {
    cli = await newTestCli();
  });

  it.each([
    [["depoy"], "There is no command `shipway depoy`.", "Did you mean `shipway deploy`?"],
    [["app", "craete"], "There is no command `shipway app craete`.", "Did you mean `shipway app create`?"],
    [["xyzzy"], "There is no command `shipway xyzzy`.", "See what there is: `shipway --help`"],
    [["app"], "`shipway app` needs a verb.", "One of: create, list, remove."],
    [["deploy", "--rlease", "r7"], "Unknown option '--rlease'.", "Did you mean `--release`?"],
    [["cancel"], "Missing required argument 'id'.", "`shipway cancel --help`"],
    [["deploy", "--release", "seven"], "--release: write a release as r7 or 7", "`shipway deploy --help`"],
    [["up", "--port", "99999"], "--port:", "`shipway up --help`"],
    [["logs", "--since", "5"], "--since: write a duration", "`shipway logs --help`"],
    [["status"], "No Shipway server is known here.", "`shipway up`"],
  ])("%j is refused with what to do instead", async (argv, message, hint) => {
    const { code, out, err } = await cli.run(argv);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(message);
    expect(err).toContain(hint);
  });

  it("shows the overview on stdout when nothing is asked", async () => {
    const { code, out, err } = await cli.run([]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const listed = COMMANDS.filter(({ hidden }) => !hidden).map(({ name }) => name.split(" ")[0] ?? "");
    expect(listed.filter((word) => !new RegExp(`^  ${word} `, "m").test(out))).toEqual([]);
    expect(out).not.toContain("git-credential");
  });

  it.each(COMMANDS.map((command) => [command.name, command] as const))(
    "explains `%s` with an example",
    async (name, command) => {
      const { code, out, err } = await cli.run([...name.split(" "), "--help"]);
      expect({ code, err }).toEqual({ code: 0, err: "" });
      expect(out).toContain(`Usage  shipway ${name}`);
      for (const { run } of command.examples) expect(out).toContain(`$ ${run}`);
      expect(out.split("\n").filter((line) => line.length > 110)).toEqual([]);
    },
  );

  it.each([
    { name: "a terminal", changes: {}, colored: true },
    { name: "NO_COLOR", changes: { environment: { NO_COLOR: "1" } }, colored: false },
    { name: "a pipe", changes: { isTTY: { in: false, out: false, err: false } }, colored: false },
  ])("colours for $name: $colored", async ({ changes, colored }) => {
    const { err } = await cli.run(["status"], { isTTY: { in: true, out: true, err: true }, ...changes });
    expect(err.includes("\u001b[")).toBe(colored);
  });
});
