import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findFreePort } from "../shared/free-port.ts";
import { type Api, newApi, pauseMs } from "./api.ts";
import { ProviderProblem } from "./protocol/diagnostics.ts";

type Answer = { status: number; body?: unknown } | "cut" | "never";
const AT = { app: "shop", environment: "production", name: "LEVEL" };
const VARIABLE = { name: "LEVEL", value: "info", version: 1, updatedAt: "2026-11-26T00:00:00Z", later: true };
const error = (code: string, message = "It is so.") => ({
  error: { code, message, hint: "Do this.", requestId: "r1" },
});

describe("the provider's way to the API", () => {
  let server: Server;
  let asked: string[];
  let headers: IncomingMessage["headers"];
  let answers: Answer[];
  let pauses: number[];
  let api: Api;
  const stop = new AbortController();
  const { signal } = stop;
  beforeEach(async () => {
    [asked, answers, pauses] = [[], [], []];
    server = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        asked.push(`${request.method} ${request.url} ${body}`.trim());
        headers = request.headers;
        const answer = answers.length > 1 ? answers.shift() : answers[0];
        if (answer === "cut") return request.socket.destroy();
        if (answer === "never" || answer === undefined) return;
        response.writeHead(answer.status, { "content-type": "application/json" });
        response.end(answer.body === undefined ? "" : JSON.stringify(answer.body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    api = newApi({
      server: `http://127.0.0.1:${port}/`,
      token: "t0ken",
      version: "1.2.3",
      sleep: async (ms) => void pauses.push(ms),
    });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  const problem = async (work: Promise<unknown>): Promise<string> => {
    const thrown = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(thrown instanceof ProviderProblem)) throw new Error(`not a problem: ${String(thrown)}`);
    return `${thrown.message} | ${thrown.detail}`;
  };

  it("names itself, gives its token, and escapes what is part of a path", async () => {
    answers = [{ status: 200, body: VARIABLE }];
    expect(await api.putVariable({ ...AT, name: "../a" }, "x", signal)).toMatchObject({ value: "info" });
    expect(asked).toEqual(['PUT /api/apps/shop/environments/production/variables/..%2Fa {"value":"x"}']);
    expect(headers).toMatchObject({ authorization: "Bearer t0ken", "user-agent": "terraform-provider-shipway/1.2.3" });
  });

  it("takes what is not there for not there, and a route that is not there for a server that is too old", async () => {
    for (const code of ["NOT_FOUND", "APP_NOT_FOUND", "ENVIRONMENT_NOT_FOUND"]) {
      answers = [{ status: 404, body: error(code) }];
      expect(await api.findVariable(AT, signal)).toBeUndefined();
      await api.removeVariable(AT, signal);
      expect(await problem(api.putVariable(AT, "x", signal))).toBe("It is so. | Do this.");
    }
    answers = [{ status: 404, body: error("ROUTE_NOT_FOUND") }];
    expect(await problem(api.findVariable(AT, signal))).toBe("It is so. | Do this.");
    answers = [{ status: 404, body: "nginx" }];
    expect(await problem(api.findVariable(AT, signal))).toContain("answered 404, but not as Shipway does");
  });

  it.each<[string, Answer, number]>([
    ["503", { status: 503, body: error("STARTING") }, 4],
    ["429", { status: 429, body: error("SLOW_DOWN") }, 4],
    ["502", { status: 502, body: "<html>" }, 4],
    ["a connection that breaks", "cut", 4],
    ["400", { status: 400, body: error("REQUEST_INVALID") }, 1],
    ["401", { status: 401, body: error("TOKEN_INVALID") }, 1],
    ["500, a mistake that will not go away", { status: 500, body: error("INTERNAL") }, 1],
  ])("tries again after %s, as often as it may help", async (_what, answer, tries) => {
    answers = [answer];
    await problem(api.putVariable(AT, "x", signal));
    expect(asked).toHaveLength(tries);
    expect(pauses).toHaveLength(tries - 1);
  });

  it("goes on when a later try succeeds", async () => {
    answers = ["cut", { status: 503, body: error("STARTING") }, { status: 200, body: VARIABLE }];
    expect(await api.findVariable(AT, signal)).toMatchObject({ value: "info" });
    expect(asked).toHaveLength(3);
  });

  it("sends a creation again only when it surely was not received", async () => {
    answers = ["cut"];
    expect(await problem(api.createApp("shop", signal))).toMatch(/^No Shipway answers at /);
    expect(asked).toHaveLength(1);
    asked = [];
    answers = [{ status: 503, body: error("STARTING") }];
    await problem(api.createApp("shop", signal));
    expect(asked).toHaveLength(4);
    const nobody = newApi({
      server: `http://127.0.0.1:${await findFreePort()}`,
      token: "t",
      version: "1",
      sleep: async (ms) => void pauses.push(ms),
    });
    pauses = [];
    expect(await problem(nobody.createApp("shop", signal))).toMatch(/ECONNREFUSED \| Start it, or name another/);
    expect(pauses).toHaveLength(3);
  });

  it("stops at once when Terraform does, in a call and between two", async () => {
    answers = ["never"];
    const interrupted = new AbortController();
    const calling = problem(api.findVariable(AT, interrupted.signal));
    interrupted.abort(new ProviderProblem("Interrupted"));
    expect(await calling).toBe("Interrupted | ");

    answers = ["cut"];
    const waiting = new AbortController();
    const patient = newApi({
      server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      token: "t",
      version: "1",
      sleep: async (_ms, given) => {
        waiting.abort(new ProviderProblem("Interrupted"));
        given.throwIfAborted();
      },
    });
    asked = [];
    expect(await problem(patient.findVariable(AT, waiting.signal))).toBe("Interrupted | ");
    expect(asked).toHaveLength(1);
  });

  it("gives up a call that is not answered in time", async () => {
    const hurried = newApi({
      server: "http://127.0.0.1:1",
      token: "t",
      version: "1",
      sleep: async () => undefined,
      fetch: async () => {
        throw Object.assign(new Error("too late"), { name: "TimeoutError" });
      },
    });
    expect(await problem(hurried.findVariable(AT, signal))).toContain("it did not answer in time");
  });

  it("says so when an answer is not of its kind", async () => {
    answers = [{ status: 200, body: { name: "LEVEL" } }];
    expect(await problem(api.findVariable(AT, signal))).toContain("does not understand");
  });

  it("leads to the server's log when the failure is the server's", async () => {
    answers = [{ status: 500, body: error("INTERNAL", "Shipway failed.") }];
    expect(await problem(api.findVariable(AT, signal))).toBe(
      "Shipway failed. | Do this.\nRequest r1 in the server's log.",
    );
  });
});

it("pauses longer each time, never twice the same for all", () => {
  expect([1, 2, 3].map((tried) => [pauseMs(tried, 0), pauseMs(tried, 1)])).toEqual([
    [188, 313],
    [375, 625],
    [750, 1250],
  ]);
});
