import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { HookView, NotifyDeliveryView } from "../http/notify-schemas.ts";
import { newTestCli, startTestServer, type TestCli, type TestServer } from "./testing.ts";

const hook: HookView = {
  ...{ id: "n_1", app: null, url: "https://hooks.slack.com/…", format: "slack", on: ["infra.waiting"] },
  ...{ failingSince: "2026-11-23T11:00:00.000Z", actor: "ada", createdAt: "2026-11-22T12:00:00.000Z" },
};
const sent: NotifyDeliveryView = {
  ...{ id: "n_1-7", kind: "infra.waiting", eventId: 7, status: "failed", attempts: 8, httpStatus: 503, answer: "down" },
  ...{ problem: null, nextAt: null, createdAt: "2026-11-23T11:59:00.000Z", endedAt: "2026-11-23T11:59:30.000Z" },
};

let server: TestServer;
let cli: TestCli;
beforeEach(async () => {
  server = await startTestServer((app) => {
    app.post("/api/notify/hooks", async ({ body }, reply) => {
      const { url: _url, ...asked } = body as { url: string };
      return reply.status(201).send({ ...hook, failingSince: null, ...asked, secret: "shh_abc" });
    });
    app.get("/api/notify/hooks", async () => [hook]);
    app.post("/api/notify/hooks/n_1/test", async () => ({ ...sent, kind: "notify.test", eventId: null, attempts: 1 }));
    app.get("/api/notify/hooks/n_1/deliveries", async () => [sent]);
    app.delete("/api/notify/hooks/n_1", async (_request, reply) => reply.status(204).send());
  });
  cli = await newTestCli(server.url);
});
afterEach(async () => {
  await cli.close();
  await server.close();
});
const run = (words: string[], stdin = "") => cli.run(["notify", ...words], { readStdin: async () => stdin });

describe("shipway notify", () => {
  it("add prints the secret on stdout, for a program to keep, and says what is told", async () => {
    const { code, out, err } = await run([
      "add",
      "https://ci.example.com/hook",
      "--app",
      "shop",
      "--on",
      "infra.waiting, infra.*",
    ]);
    expect({ code, out }).toEqual({ code: 0, out: "shh_abc\n" });
    expect(err).toContain("✓ n_1 is told infra.waiting, infra.* of shop.");
    expect(server.requests[0]?.body).toEqual({
      url: "https://ci.example.com/hook",
      format: "json",
      app: "shop",
      on: ["infra.waiting", "infra.*"],
    });
  });

  it("add reads a URL that is a password from stdin", async () => {
    const { code, out } = await run(["add", "--format", "slack"], "https://hooks.slack.com/services/T/B/x\n");
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(server.requests[0]?.body).toEqual({ url: "https://hooks.slack.com/services/T/B/x", format: "slack" });
  });

  it("list shows which hooks fail, and where to look", async () => {
    const { out, err } = await run(["list"]);
    expect(out).toMatch(/n_1 +every app +slack +https:\/\/hooks\.slack\.com\/… +failing, 1 h ago/);
    expect(err).toContain("`shipway notify log n_1`");
  });

  it("test shows the answer and exits 1 when it is not taken", async () => {
    const { code, out, err } = await run(["test", "n_1"]);
    expect({ code, out }).toEqual({ code: 1, out: "down\n" });
    expect(err).toContain("✗ not taken: HTTP 503 down");
  });

  it("log shows attempts and the last answer of each delivery", async () => {
    expect((await run(["log", "n_1"])).out).toMatch(/1 min ago +infra\.waiting #7 +failed +8 +HTTP 503 down/);
    expect(JSON.parse((await run(["log", "n_1", "--json"])).out)).toEqual([sent]);
  });

  it("remove tells it nothing any more", async () => {
    expect(await run(["remove", "n_1"])).toMatchObject({ code: 0, err: expect.stringContaining("told nothing") });
    expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual(["DELETE /api/notify/hooks/n_1"]);
  });
});
