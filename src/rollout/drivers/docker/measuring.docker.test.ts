import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../shared/until.ts";
import { type Measured, type Measurement, sumOf } from "../../measurement.ts";
import type { Place, Release, ReleaseService } from "../../release.ts";
import { taskName } from "../../release.ts";
import { prefixed } from "./names.ts";
import { type DockerStage, dockerService, hostOf, newDockerStage } from "./testing.ts";

const NOTHING = { env: {}, secrets: {} };
const HOUR_MS = 3_600_000;
/** A look takes a while on a machine that has much else to do. */
const PATIENTLY = { withinMs: 60_000, everyMs: 200 };

/** Uses processor and memory, and answers with the status, as it is told. */
const PROGRAM = `
const eaten = [];
const usedMs = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
const server = require("http").createServer((q, r) => {
  const [, what, amount] = q.url.split("/");
  if (what === "burn") for (const end = usedMs() + Number(amount); usedMs() < end;);
  if (what === "eat") eaten.push(Buffer.alloc(Number(amount) * 1024 * 1024, 1));
  r.statusCode = what === "status" ? Number(amount) : 200;
  setTimeout(() => r.end(), what === "wait" ? Number(amount) : 0);
});
server.listen(process.env.PORT);
process.on("SIGTERM", () => process.exit(0));
`;

describe("figures from the engine and the router", { timeout: 240_000 }, () => {
  let stage: DockerStage;
  const place: Place = { app: "shop", environment: "figures" };
  const service = (): ReleaseService =>
    dockerService(place, "web", "web", { command: ["node", "-e", PROGRAM], memoryMiB: 512, cpu: 512 });
  const release = (number: number): Release => ({ app: place.app, number, services: [service()] });
  beforeAll(async () => {
    stage = await newDockerStage();
    await serve(place, release(1));
  }, 120_000);
  afterAll(async () => {
    await stage?.target.destroy(place, "remove");
    await stage?.cleanUp();
  }, 120_000);

  async function serve(at: Place, one: Release): Promise<void> {
    await stage.target.prepare(at, one);
    for (const own of one.services) await stage.target.startService(at, one, own, NOTHING);
    const proved = await stage.target.awaitHealthy(at, one, one.services, {
      deadlineMs: 60_000,
      onProgress: () => undefined,
    });
    expect(proved.status).toBe("healthy");
    await stage.target.shiftTraffic(at, one);
  }
  const ask = (path: string) =>
    new Promise<number>((resolve, reject) => {
      const headers = { host: hostOf(place, "web") };
      request({ host: "127.0.0.1", port: stage.httpPort, path, headers, agent: false }, (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode ?? 0));
      })
        .on("error", reject)
        .end();
    });
  const askTimes = async (times: number, path: string) => {
    for (let n = 0; n < times; n++) await ask(path);
  };
  const measure = (of = [release(1)]): Promise<Measured> =>
    stage.target.measure(place, of, { sinceMs: Date.now() - HOUR_MS });
  /** Until a look was taken after this was called. */
  const measureAnew = async () => {
    const askedAt = Date.now();
    return await until(
      "a look",
      async () => {
        const { services } = await measure();
        const [web] = services;
        return web && web.points.length > 0 && newestEnd(web.points) >= askedAt && web;
      },
      PATIENTLY,
    );
  };
  const newestEnd = (points: Measurement[]) => Math.max(...points.map(({ at, spanMs }) => at + spanMs));
  /** Processor time in all points, in milliseconds. */
  const processorMs = (points: Measurement[]) =>
    points.reduce((sum, { cpuPercent, spanMs }) => sum + ((cpuPercent ?? 0) / 100) * 0.5 * spanMs, 0);

  it("count every answer once, over a reload of the router, and leave out its health checks", async () => {
    const [before] = (await measure()).services;
    expect(before).toMatchObject({ release: 1, service: "web", traffic: "serving", running: 1, healthy: 1 });
    const known = sumOf(before?.points ?? [], "requests") ?? 0;
    await askTimes(20, "/status/200");
    await askTimes(5, "/status/404");
    // Another app's first release gives the router a back end, which only a reload can.
    const other: Place = { app: "other", environment: "figures" };
    await stage.target.prepare(other, { app: "other", number: 1, services: [dockerService(other, "api", "web")] });
    await askTimes(10, "/status/302");
    await askTimes(3, "/status/503");
    await ask("/wait/300");
    const web = await measureAnew();
    expect(sumOf(web.points, "requests")).toBe(known + 39);
    expect(sumOf(web.points, "answers4xx")).toBe(5);
    expect(sumOf(web.points, "answers5xx")).toBe(3);
    expect(web.unanswered).toBe(0);
    expect(Math.max(...web.points.map(({ meanMs }) => meanMs ?? 0))).toBeGreaterThan(5);
    expect(web.points.every(({ p50Ms, p95Ms }) => p50Ms === null && p95Ms === null)).toBe(true);
    await stage.target.destroy(other, "remove");
  });

  it("know the processor time that a task used, and the memory that it holds", async () => {
    const before = await measureAnew();
    const usedBefore = processorMs(before.points);
    const heldBefore = before.tasks[0]?.memoryMiB ?? Number.NaN;
    expect(before.tasks).toMatchObject([{ name: taskName(place, "web", 1, 1) }]);
    await ask("/burn/2000");
    await ask("/eat/100");
    const after = await measureAnew();
    // What was burnt, and what the rest of the program used meanwhile.
    const usedMs = processorMs(after.points) - usedBefore;
    expect(usedMs).toBeGreaterThan(1_900);
    expect(usedMs).toBeLessThan(4_000);
    const heldMiB = (after.tasks[0]?.memoryMiB ?? Number.NaN) - heldBefore;
    expect(heldMiB).toBeGreaterThan(90);
    expect(heldMiB).toBeLessThan(140);
    expect(after.latest?.memoryPercent).toBeGreaterThan((100 * 90) / 512);
  });

  it("tell the live release from the one on standby, which answers nobody and keeps its memory", async () => {
    await serve(place, release(2));
    await stage.target.park(place, release(1));
    const standbyBefore = sumOf((await measureAnew()).points, "requests") ?? 0;
    await askTimes(7, "/status/200");
    const asked = [release(2), release(1)];
    const isCounted = async () => {
      const { services } = await measure(asked);
      return sumOf(services[0]?.points ?? [], "requests") === 7 && services;
    };
    const [live, standby] = await until("the seven", isCounted, PATIENTLY);
    expect(live).toMatchObject({ release: 2, traffic: "serving", running: 1, healthy: 1 });
    expect(standby).toMatchObject({ release: 1, traffic: "standby", running: 0, healthy: null, unanswered: null });
    expect(sumOf(standby?.points ?? [], "requests")).toBe(standbyBefore);
    expect(standby?.latest?.memoryPercent).toBeGreaterThan(10);
  });

  it("count what no task answered, when the last one is gone", async () => {
    await stage.docker.getContainer(prefixed(stage.instance, taskName(place, "web", 2, 1))).kill();
    expect(await ask("/status/200")).toBe(503);
    const isCounted = async () => {
      const { services } = await measure([release(2)]);
      return (services[0]?.unanswered ?? 0) > 0 && services;
    };
    const [web] = await until("the request", isCounted, PATIENTLY);
    expect(web).toMatchObject({ running: 0, healthy: null, unanswered: 1 });
  });
});
