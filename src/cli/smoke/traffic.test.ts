import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { until } from "../../shared/until.ts";
import { type Answer, moveFigures, newAsk, problemsIn, startTraffic } from "./traffic.ts";

const by = (release: string, sentAt: number, endedAt: number): Answer => ({ sentAt, endedAt, release });
const lost = (problem: string, sentAt: number, endedAt: number): Answer => ({ sentAt, endedAt, problem });

describe("moveFigures", () => {
  it("takes what came back since the call: the first of the new, the last of the old with when it was asked, and what failed", () => {
    const answers = [
      lost("502", 900, 990),
      by("r1", 980, 1_010),
      by("r2", 1_030, 1_060),
      by("r1", 1_055, 1_300),
      by("r1", 1_050, 1_090),
      lost("ECONNRESET", 1_200, 1_250),
      by("r2", 1_290, 1_310),
    ];
    expect(moveFigures(answers, 1_000, "r2")).toEqual({
      requests: 6,
      failed: 1,
      firstNewMs: 60,
      lastOldMs: 300,
      lastOldSentMs: 55,
    });
  });

  it("says nothing of an answer that never came", () => {
    expect(moveFigures([by("r1", 900, 950)], 1_000, "r2")).toEqual({
      requests: 0,
      failed: 0,
      firstNewMs: undefined,
      lastOldMs: undefined,
      lastOldSentMs: undefined,
    });
  });
});

it("counts problems by what they are", () => {
  const answers = [lost("502", 1, 2), by("r1", 1, 2), lost("ECONNRESET", 2, 3), lost("502", 3, 4)];
  expect(problemsIn(answers)).toBe("2 × 502, 1 × ECONNRESET");
});

describe("asking through a load balancer", () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  /** Answers as it is told, by the request's number from 1. */
  async function listen(answer: (n: number) => { status: number; body: string } | "hang up") {
    const hosts: (string | undefined)[] = [];
    server = createServer((asked, to) => {
      hosts.push(asked.headers.host);
      const said = answer(hosts.length);
      if (said === "hang up") return void asked.socket.destroy();
      to.writeHead(said.status).end(said.body);
    });
    await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return { hosts, ...newAsk({ host: "127.0.0.1", port, secure: false }, "m1-p1.smoke.invalid") };
  }
  const good = { status: 200, body: JSON.stringify({ release: "r1", secret: "0a" }) };

  it("goes by the host's name, and takes only the service's own answer", async () => {
    const answers = [good, { status: 503, body: "no" }, { status: 200, body: "<html>" }, "hang up" as const];
    const { ask, hosts, close } = await listen((n) => answers[n - 1] ?? good);
    expect(await ask("/")).toEqual({ release: "r1", secret: "0a" });
    await expect(ask("/")).rejects.toThrow("503");
    await expect(ask("/")).rejects.toThrow("200 of somebody else");
    await expect(ask("/", { fresh: true })).rejects.toThrow(/ECONNRESET|hang up/);
    expect(new Set(hosts)).toEqual(new Set(["m1-p1.smoke.invalid"]));
    close();
  });

  it("goes on while answers are still to come, and keeps each failure by its word", async () => {
    const { ask, close } = await listen((n) => (n % 3 === 0 ? { status: 502, body: "" } : good));
    const answers: Answer[] = [];
    const traffic = startTraffic(ask, answers, 2);
    await until("thirty answers", () => answers.length >= 30);
    await traffic.stop();
    const failed = answers.filter((one) => "problem" in one);
    expect(failed.length).toBeGreaterThanOrEqual(10);
    expect(problemsIn(answers)).toBe(`${failed.length} × 502`);
    close();
  });
});
