import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sleep, until } from "../../../shared/until.ts";
import type { Place, Release, ReleaseService } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { newService } from "../../testing.ts";
import { openEcsTarget } from "./ecs-target.ts";
import { type AwsStage, hasEngine, hostOf, newAwsStage, targetOptions } from "./testing.ts";

/** Answers with its release; `/slow` after two seconds and `/endless` never, which both tell once they have begun; `/healthz` with HEALTH. It ends on SIGTERM as a server should. */
const SERVER = `
const server = require("node:http").createServer((asked, to) => {
  if (asked.url === "/healthz") return to.writeHead(Number(process.env.HEALTH ?? 200)).end();
  if (asked.url === "/") return to.end(process.env.RELEASE);
  to.write("begun by ");
  if (asked.url === "/endless") return;
  setTimeout(() => to.end(process.env.RELEASE), 2000);
}).listen(3000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));`;

const WITHIN = { withinMs: 90_000, everyMs: 100 };
const place: Place = { app: "shop", environment: "real" };
const host = hostOf(place, "web");

const web = (release: number, env: Record<string, string> = {}): ReleaseService =>
  newService("web", {
    image: "node:20-bookworm-slim",
    command: ["node", "-e", SERVER],
    count: 2,
    hosts: [host],
    env: { RELEASE: `r${release}`, ...env },
    health: { path: "/healthz", interval: 1_000, timeout: 5_000, healthy: 2, unhealthy: 3, grace: 60_000 },
  });
const release = (number: number, env?: Record<string, string>): Release => ({
  app: "shop",
  number,
  services: [web(number, env)],
});

let stage: AwsStage;
let target: RolloutTarget;
let balancer: string;
beforeAll(async () => {
  if (!hasEngine) return;
  stage = await newAwsStage({ containers: "docker", pace: 5 });
  target = await openEcsTarget(targetOptions(stage));
  balancer = await stage.balancer();
});
afterAll(() => stage?.cleanUp());

/** Whole answers only: one that breaks off is an error. */
function ask(path = "/", onFirst = () => {}): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request(`${balancer}${path}`, { headers: { host }, agent: false }, (answer) => {
      let body = "";
      answer.on("data", (chunk: Buffer) => {
        onFirst();
        body += chunk.toString();
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body }));
      answer.on("error", reject);
    });
    call.on("error", reject);
    call.end();
  });
}

async function start(one: Release) {
  await target.prepare(place, one);
  for (const service of one.services) await target.startService(place, one, service, { env: {}, secrets: {} });
  return await target.awaitHealthy(place, one, one.services, { deadlineMs: 60_000, onProgress: () => {} });
}

/** Asks all the time; `stop` gives what was not a release's answer. */
function startTraffic() {
  const bad: string[] = [];
  let total = 0;
  let isOver = false;
  const runner = async () => {
    while (!isOver) {
      const said = await ask().then(({ status, body }) => `${status} ${body}`, String);
      total += 1;
      if (!/^200 r[12]$/.test(said)) bad.push(said);
      await sleep(10);
    }
  };
  const runners = Array.from({ length: 4 }, runner);
  return {
    total: () => total,
    async stop(): Promise<string[]> {
      isOver = true;
      await Promise.all(runners);
      return bad;
    },
  };
}

describe.skipIf(!hasEngine)("traffic through a load balancer to real tasks", { timeout: 240_000 }, () => {
  it("has no target at first, and says so", async () => {
    expect((await ask()).status).toBe(404);
    await target.prepare(place, release(1));
    expect((await ask()).status).toBe(503);
  });

  it("reaches a release once it was moved there, not before", async () => {
    expect(await start(release(1))).toEqual({ status: "healthy", notes: [] });
    await target.shiftTraffic(place, release(1));
    expect((await ask()).body).toBe("r1");
    expect((await start(release(2))).status).toBe("healthy");
    for (let n = 0; n < 10; n++) expect((await ask()).body).toBe("r1");
  });

  it("goes forth and back, each time with the next request, and loses none", async () => {
    const traffic = startTraffic();
    for (const number of [2, 1, 2, 1, 2, 1]) {
      await target.shiftTraffic(place, release(number));
      expect((await ask()).body).toBe(`r${number}`);
    }
    await until("some requests went through", () => traffic.total() > 100, WITHIN);
    expect(await traffic.stop()).toEqual([]);
  });

  it("lets requests end that were under way when their task was taken out, until the delay is over", async () => {
    const [slow, endless] = await Promise.all(["/slow", "/endless"].map(begin));
    const traffic = startTraffic();
    await target.shiftTraffic(place, release(2));
    await target.stop(place, 1);
    expect(await slow?.end).toEqual({ status: 200, body: "begun by r1" });
    await until("the old tasks are gone", async () => (await unstopped()).length === 2, WITHIN);
    expect(await endless?.end).toMatchObject({ code: "ECONNRESET" });
    expect(await traffic.stop()).toEqual([]);
    expect((await ask()).body).toBe("r2");
  });

  it("never reaches a release that the load balancer does not call healthy, and the report says what it answered", async () => {
    const traffic = startTraffic();
    const sick = release(3, { HEALTH: "500" });
    const [service] = sick.services;
    const report = await start({
      ...sick,
      services: [{ ...(service ?? web(3)), health: { ...service?.health, ...SHORT } }],
    });
    expect(report).toMatchObject({ status: "unhealthy" });
    // ECS replaces such a task at about the same time.
    expect(JSON.stringify(report)).toMatch(
      /Health checks failed with these codes: \[500\]|Task failed ELB health checks/,
    );
    expect(await traffic.stop()).toEqual([]);
  });
  const SHORT = { interval: 1_000, timeout: 5_000, healthy: 2, unhealthy: 2, grace: 15_000 };
});

/** A request whose answer has begun. */
function begin(path: string): Promise<{ end: Promise<unknown> }> {
  return new Promise((resolve) => {
    const end = ask(path, () => resolve({ end })).catch((error: unknown) => error);
  });
}

async function unstopped(): Promise<string[]> {
  const { cluster } = stage.settings;
  const of = async (desiredStatus: "RUNNING" | "STOPPED") =>
    (await stage.aws.ecs.listTasks({ cluster, desiredStatus })).taskArns ?? [];
  const tasks = [...(await of("RUNNING")), ...(await of("STOPPED"))];
  const seen = await stage.aws.ecs.describeTasks({ cluster, tasks });
  return (seen.tasks ?? []).filter((one) => one.lastStatus !== "STOPPED").map((one) => one.taskArn ?? "");
}
