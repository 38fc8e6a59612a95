import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { Agent, request } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCode } from "../../../../shared/errors.ts";
import { sleep, until } from "../../../../shared/until.ts";
import type { Router, RouterBackend, RouterServer } from "../router.ts";
import { haproxyRouter } from "./haproxy-router.ts";
import { parseStat } from "./live-router.ts";
import { askSocket } from "./router-socket.ts";

const docker = new Docker();
const id = randomBytes(4).toString("hex");
const host = `web.test.r${id}.localhost`;
const network = `shipway-r${id}-test`;

let dir: string;
let httpPort: number;
let router: Router;
let routerAddress: string;
let app: { id: string; address: string };

/**
 * One container plays every task: port 3001 "old", 3002 "new", 3003 answers 500, 3004 accepts and never answers,
 * 3005 answers after the milliseconds in its query, 3006 is healthy when told so (POST /up, /down), and counts,
 * 3008 "a" and 3009 "b" answer every request, but /health only when told so (POST /well, /failing, /silent).
 */
const APP = `
const http = require("node:http"), net = require("node:net");
const say = (text) => (q, r) => { q.resume(); q.on("end", () => r.end(text)); };
http.createServer(say("old")).listen(3001);
http.createServer(say("new")).listen(3002);
http.createServer((q, r) => { r.statusCode = 500; r.end(); }).listen(3003);
net.createServer((s) => s.on("error", () => {})).listen(3004);
http.createServer((q, r) => setTimeout(() => r.end("slow"), Number(q.url.split("=")[1] ?? 0))).listen(3005);
let up = false, passed = 0;
http.createServer((q, r) => {
  if (q.method === "POST") { up = q.url === "/up"; return r.end(); }
  if (q.url === "/passed") return r.end(String(passed));
  if (up) passed++;
  r.statusCode = up ? 200 : 503; r.end();
}).listen(3006);
http.createServer((q, r) => r.end(JSON.stringify(q.headers))).on("upgrade", (q, s) => {
  s.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n"); s.pipe(s);
}).listen(3007);
let health = "/well";
const overloaded = (text) => (q, r) => {
  if (q.method === "POST" && q.url !== "/") { health = q.url; return r.end(); }
  if (q.url !== "/health" || health === "/well") return say(text)(q, r);
  if (health === "/failing") { r.statusCode = 500; r.end(); }
};
http.createServer(overloaded("a")).listen(3008);
http.createServer(overloaded("b")).listen(3009);
process.on("SIGTERM", () => process.exit());
`;

function newRouter(): Router {
  return haproxyRouter({
    docker,
    image: "haproxy:2.6",
    dir,
    httpPort,
    bindAddress: "127.0.0.1",
    name: `shipway-router-${id}`,
    network: `shipway-base-${id}`,
    labels: { "shipway.test": id },
  });
}

const server = (name: string, port: number, state: RouterServer["state"]): RouterServer => ({
  name,
  address: app.address,
  port,
  state,
});

function backend(servers: RouterServer[], changes: Partial<RouterBackend> = {}): RouterBackend {
  return {
    name: `r${id}.test.web`,
    hosts: [host],
    internalAddress: routerAddress,
    internalHost: "api",
    check: { kind: "http", path: "/", declared: true },
    timing: { interval: 1_000, timeout: 500, healthy: 2, unhealthy: 3 },
    servers,
    ...changes,
  };
}

const serve = (...servers: RouterServer[]) => router.update(() => ({ backends: [backend(servers)] }));

type Answer = { status: number; body: string; headers: Record<string, unknown> };

function call(path: string, options: { host?: string; agent?: Agent; method?: string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { agent = false, method = "GET" } = options;
    const headers = { host: options.host ?? host };
    const outgoing = request({ host: "127.0.0.1", port: httpPort, path, method, headers, agent }, (incoming) => {
      let body = "";
      incoming.setEncoding("utf8");
      incoming.on("data", (chunk) => {
        body += chunk;
      });
      incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, body, headers: incoming.headers }));
      incoming.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end(method === "POST" ? "x" : undefined);
  });
}

/** Keep-alive and fresh connections, reading and writing, as fast as they are answered, while `work` runs. */
async function underLoad(
  work: () => Promise<void>,
  bodies = ["old", "new"],
): Promise<{ served: number; lost: string[] }> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const result = { served: 0, lost: [] as string[] };
  let done = false;
  const client = async (keepAlive: boolean, method: string) => {
    while (!done) {
      try {
        const { status, body } = await call("/", keepAlive ? { agent, method } : { method });
        if (status === 200 && bodies.includes(body)) result.served++;
        else result.lost.push(`${status} ${body}`);
      } catch (error) {
        result.lost.push(`${method} ${keepAlive} ${String(error)}`);
      }
    }
  };
  const clients = [true, true, true, true, true, false, false].map((keepAlive, n) =>
    client(keepAlive, n % 3 === 0 ? "POST" : "GET"),
  );
  try {
    await work();
  } finally {
    done = true;
    await Promise.all(clients);
    agent.destroy();
  }
  return result;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** A /26 nobody has yet, as the rollout driver makes them. */
async function newNetwork(name: string): Promise<void> {
  await until("a free subnet", async () => {
    const [second, third] = randomBytes(2);
    const Subnet = `10.${200 + ((second ?? 0) % 50)}.${third}.0/26`;
    await docker.createNetwork({ Name: name, IPAM: { Config: [{ Subnet }] }, Labels: { "shipway.test": id } });
    return true;
  });
}

async function startApp(): Promise<{ id: string; address: string }> {
  const container = await docker.createContainer({
    Image: "node:20-bookworm-slim",
    Cmd: ["node", "-e", APP],
    Labels: { "shipway.test": id },
    HostConfig: { NetworkMode: network },
  });
  await container.start();
  const { NetworkSettings } = await container.inspect();
  return { id: container.id, address: NetworkSettings.Networks[network]?.IPAddress ?? "" };
}

/** Runs Node in the app's container, where the environment's network is, and returns what it printed. */
async function inApp(script: string): Promise<string> {
  const exec = await docker.getContainer(app.id).exec({ Cmd: ["node", "-e", script], AttachStdout: true, Tty: true });
  const stream = await exec.start({ Tty: true });
  let output = "";
  for await (const chunk of stream) output += chunk;
  return output.trim();
}

const statusOf = async (name: string) =>
  (await router.status([`r${id}.test.web`])).find((one) => one.name === name) ?? {
    operational: "none",
    lastCheck: "",
    inFlight: -1,
  };

const untilOperational = (name: string, wanted: string) =>
  until(`${name} is ${wanted}`, async () => (await statusOf(name)).operational === wanted, { everyMs: 20 });

const HASTY = { interval: 300, timeout: 200, healthy: 2, unhealthy: 2 };

/** What /health of 3008 and 3009 does from now on. */
const tellHealth = (how: "well" | "failing" | "silent") =>
  inApp(`fetch('http://127.0.0.1:3008/${how}',{method:'POST'})`);

const watched = (changes: Partial<RouterBackend>, ...servers: RouterServer[]) =>
  router.update(() => ({
    backends: [backend(servers, { check: { kind: "http", path: "/health", declared: true }, ...changes })],
  }));

/** Requests so far and state of a server in the back end that takes over when all fail their checks. */
async function openStat(name: string): Promise<{ requests: number; status: string }> {
  const rows = parseStat(await askSocket(join(dir, "admin.sock"), "show stat"));
  const row = rows.find(({ pxname, svname }) => pxname === `open:r${id}.test.web` && svname === name);
  return { requests: Number(row?.stot), status: row?.status ?? "none" };
}

const proved = (name: string) =>
  until(`${name} is up`, async () => (await statusOf(name)).operational === "up", { everyMs: 20 });

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-router-"));
  httpPort = await freePort();
  router = newRouter();
  await newNetwork(network);
  await router.ensure();
  routerAddress = (await router.attach(network)).address;
  app = await startApp();
});

afterAll(async () => {
  const filters = { label: [`shipway.test=${id}`] };
  const containers = await docker.listContainers({ all: true, filters });
  await Promise.all(containers.map(({ Id }) => docker.getContainer(Id).remove({ force: true, v: true })));
  const networks = await docker.listNetworks({ filters });
  await Promise.all(networks.map(({ Id }) => docker.getNetwork(Id).remove()));
  await rm(dir, { recursive: true, force: true });
});

describe("the HAProxy router", { timeout: 30_000 }, () => {
  it("proves a new task without traffic and then serves it", async () => {
    await serve(server("old-1", 3001, "drain"));
    expect(await call("/")).toMatchObject({ status: 503, headers: { "retry-after": "2" } });
    await proved("old-1");
    expect((await call("/")).status).toBe(503);
    await serve(server("old-1", 3001, "ready"));
    expect((await call("/")).body).toBe("old");
  });

  it("loses no request in 30 switches between two tasks", async () => {
    await serve(server("old-1", 3001, "ready"), server("new-1", 3002, "drain"));
    await proved("new-1");
    const tookMs: number[] = [];
    const { served, lost } = await underLoad(async () => {
      for (let n = 0; n < 30; n++) {
        const [live, other] = n % 2 === 0 ? (["drain", "ready"] as const) : (["ready", "drain"] as const);
        const startedAt = performance.now();
        await serve(server("old-1", 3001, live), server("new-1", 3002, other));
        tookMs.push(performance.now() - startedAt);
        expect((await call("/")).body).toBe(n % 2 === 0 ? "new" : "old");
        await sleep(30);
      }
    });
    const median = tookMs.sort((a, b) => a - b)[15];
    console.log(
      `30 switches: ${served} served, median ${median?.toFixed(1)} ms, longest ${tookMs.at(-1)?.toFixed(1)} ms`,
    );
    expect(lost).toEqual([]);
    expect(served).toBeGreaterThan(500);
  });

  it("serves a woken standby at once, without waiting for a check", async () => {
    await serve(server("old-1", 3001, "maint"), server("new-1", 3002, "ready"));
    expect((await statusOf("old-1")).operational).toBe("maint");
    await serve(server("old-1", 3001, "ready"), server("new-1", 3002, "maint"));
    expect((await call("/")).body).toBe("old");
  });

  it("loses no request in reloads", async () => {
    await serve(server("old-1", 3001, "ready"));
    const { served, lost } = await underLoad(async () => {
      for (let n = 0; n < 4; n++) {
        const startedAt = performance.now();
        await router.update(() => ({
          backends: [backend([server("old-1", 3001, "ready")], { hosts: [host, `extra${n}.localhost`] })],
        }));
        console.log(`reload ${(performance.now() - startedAt).toFixed(0)} ms`);
        expect((await call("/", { host: `extra${n}.localhost` })).status).toBe(200);
      }
    });
    console.log(`reloads: ${served} served`);
    expect(lost).toEqual([]);
  });

  it("loses no request when it joins and leaves networks", async () => {
    await serve(server("old-1", 3001, "ready"));
    const names = [`shipway-a${id}`, `shipway-z${id}`];
    for (const name of names) await newNetwork(name);
    const { served, lost } = await underLoad(async () => {
      for (const name of names) {
        await router.attach(name);
        await sleep(300);
      }
      for (const name of names) {
        await router.detach(name);
        await sleep(300);
      }
    });
    expect(lost).toEqual([]);
    expect(served).toBeGreaterThan(100);
    await expect(router.attach(`0-a${id}`)).rejects.toThrow("sorts before");
  });

  it("does not believe the health of a task's predecessor of the same name", async () => {
    await serve(server("old-1", 3001, "ready"), server("again", 3002, "drain"));
    await proved("again");
    await serve(server("old-1", 3001, "ready"), server("again", 3003, "drain"));
    const endsAt = Date.now() + 600;
    while (Date.now() < endsAt) expect((await statusOf("again")).operational).not.toBe("up");
    await until("its own check", async () => {
      const { lastCheck, operational } = await statusOf("again");
      return lastCheck === "HTTP 500" && operational === "down";
    });
  });

  it("tells why a task is not healthy", async () => {
    await serve(
      server("old-1", 3001, "ready"),
      server("fails", 3003, "drain"),
      server("hangs", 3004, "drain"),
      server("closed", 3999, "drain"),
    );
    // Asked until all agree: at the moment between two checks HAProxy tells neither code nor reason.
    for (const [name, wanted] of [
      ["hangs", { operational: "down", lastCheck: "timed out after 500 ms" }],
      ["fails", { operational: "down", admin: "drain", lastCheck: "HTTP 500" }],
      ["closed", { operational: "down", lastCheck: "connection refused" }],
      ["old-1", { operational: "up", admin: "ready", lastCheck: "HTTP 200" }],
    ] as const) {
      await expect
        .poll(() => statusOf(name), { message: `the check of ${name}`, timeout: 10_000, interval: 20 })
        .toMatchObject(wanted);
    }
  });

  it("keeps no idle connection until a task might close it under a request", async () => {
    await serve(server("old-1", 3001, "ready"));
    const agent = new Agent({ keepAlive: true });
    await Promise.all(Array.from({ length: 8 }, () => call("/", { agent })));
    const idle = async () => {
      const answer = await askSocket(join(dir, "admin.sock"), `show servers conn r${id}.test.web`);
      const columns = answer.split("\n").map((line) => line.split(" "));
      const at = (columns[0] ?? []).indexOf("idle_cur") - 1;
      return columns.find(([path]) => path?.endsWith("/old-1"))?.[at];
    };
    await until("no idle connection", async () => (await idle()) === "0", { withinMs: 3_500 });
    agent.destroy();
  });

  it("loses no request while every serving task fails its checks and still answers, and sends none to the others", async () => {
    await tellHealth("well");
    const others = [
      server("drained", 3001, "drain"),
      server("parked", 3002, "maint"),
      server("unproved", 3003, "drain"),
    ];
    await watched(
      { timing: HASTY },
      server("a", 3008, "ready"),
      server("drained", 3001, "ready"),
      server("parked", 3002, "ready"),
    );
    await watched({ timing: HASTY }, server("a", 3008, "ready"), server("b", 3009, "ready"), ...others);
    const load = await underLoad(async () => {
      await tellHealth("silent");
      await untilOperational("a", "down");
      await untilOperational("b", "down");
      const [before, a, b] = [await router.status([`r${id}.test.web`]), await openStat("a"), await openStat("b")];
      await until("500 requests", async () => (await openStat("a")).requests > a.requests + 500);
      expect((await openStat("b")).requests).toBeGreaterThan(b.requests);
      expect(await statusOf("a")).toMatchObject({
        operational: "down",
        admin: "ready",
        lastCheck: "timed out after 200 ms",
      });
      const after = await router.status([`r${id}.test.web`]);
      const grown = after
        .filter((one, n) => one.totalRequests > (before[n]?.totalRequests ?? 0))
        .map(({ name }) => name);
      expect(grown).toEqual(["a", "b"]);
      await tellHealth("well");
      await untilOperational("a", "up");
      await untilOperational("b", "up");
      const back = await openStat("a");
      await sleep(300);
      expect((await openStat("a")).requests).toBe(back.requests);
    }, ["a", "b"]);
    console.log(`all checks failing: ${load.served} served`);
    expect(load.lost).toEqual([]);
  });

  it("drains and brings in tasks while all fail their checks", async () => {
    await tellHealth("well");
    await watched({ timing: HASTY }, server("a", 3008, "ready"));
    await tellHealth("failing");
    await untilOperational("a", "down");
    expect((await call("/")).body).toBe("a");
    await watched({ timing: HASTY }, server("a", 3008, "drain"), server("b", 3009, "ready"));
    await untilOperational("b", "down");
    const { lost } = await underLoad(() => sleep(200), ["b"]);
    expect(lost).toEqual([]);
    expect(await openStat("a")).toMatchObject({ status: "MAINT" });
    await watched({ timing: HASTY }, server("a", 3008, "drain"), server("b", 3009, "maint"));
    expect((await call("/")).status).toBe(503);
    await tellHealth("well");
  });

  it("counts a request in flight that a task got although it fails its checks", async () => {
    const late = { check: { kind: "http", path: "/?ms=2000", declared: true }, timing: HASTY } as const;
    await watched(late, server("slow", 3005, "ready"));
    await untilOperational("slow", "down");
    const slow = call("/?ms=600");
    await until("one in flight", async () => (await statusOf("slow")).inFlight === 1);
    await watched(late, server("slow", 3005, "drain"));
    expect(await statusOf("slow")).toMatchObject({ inFlight: 1, admin: "drain" });
    expect((await slow).body).toBe("slow");
    await until("drained", async () => (await statusOf("slow")).inFlight === 0);
  });

  it.each([
    ["closed", () => app.address],
    ["gone", () => routerAddress.replace(/\d+$/, (last) => String(Number(last) - 1))],
  ])("answers at once that no task is ready when every one is dead: %s", async (how, address) => {
    const names = [`${how}-1`, `${how}-2`];
    const startedAt = performance.now();
    await watched({}, ...names.map((name) => ({ ...server(name, 3998, "ready"), address: address() })));
    for (const name of names) {
      await untilOperational(name, "down");
      await until(`${name} is given up`, async () => (await openStat(name)).status === "DOWN", { withinMs: 15_000 });
    }
    const givenUpAt = performance.now();
    const answer = await call("/");
    const tookMs = performance.now() - givenUpAt;
    console.log(`${how}: given up after ${(givenUpAt - startedAt).toFixed(0)} ms, then 503 in ${tookMs.toFixed(0)} ms`);
    expect(answer).toMatchObject({ status: 503, headers: { "retry-after": "2" } });
    expect(answer.body).toContain("No task of this service is ready");
    expect(tookMs).toBeLessThan(2_500);
  });

  it("answers with a page too while a task has only just died, after its retries", async () => {
    await watched({}, server("died", 3997, "ready"));
    const startedAt = performance.now();
    expect(await call("/")).toMatchObject({ status: 503, headers: { "retry-after": "2" } });
    console.log(`just died: 503 in ${(performance.now() - startedAt).toFixed(0)} ms`);
    expect(performance.now() - startedAt).toBeLessThan(15_000);
  });

  it("gives a serving task all of its failures after a reload and after it was brought in", async () => {
    await tellHealth("well");
    await watched({}, server("a", 3008, "ready"));
    await tellHealth("failing");
    const downAfterMs = async (change: () => Promise<void>) => {
      await change();
      const startedAt = performance.now();
      await untilOperational("a", "down");
      return performance.now() - startedAt;
    };
    // Checked every second: the third failure in a row comes two seconds after the first.
    const hosts = [host, "more.localhost"];
    expect(await downAfterMs(() => watched({ hosts }, server("a", 3008, "ready")))).toBeGreaterThan(1_900);
    await watched({ hosts });
    expect(await downAfterMs(() => watched({ hosts }, server("a", 3008, "ready")))).toBeGreaterThan(1_900);
    await tellHealth("well");
  });

  it("keeps a failing task out of traffic over a reload", async () => {
    const tasks = [server("old-1", 3001, "ready"), server("fails", 3003, "ready")];
    await watched({}, ...tasks);
    await untilOperational("fails", "down");
    await watched({ hosts: [host, "again.localhost"] }, ...tasks);
    const { lost } = await underLoad(() => sleep(400));
    expect(lost).toEqual([]);
  });

  it("needs as many passes in a row as were asked for", async () => {
    const timing = { interval: 30_000, timeout: 500, healthy: 10, unhealthy: 3 };
    await inApp("fetch('http://127.0.0.1:3006/down',{method:'POST'})");
    const slow = (state: RouterServer["state"]) =>
      router.update(() => ({ backends: [backend([server("late", 3006, state)], { timing })] }));
    await slow("drain");
    await until("a failed check", async () => (await statusOf("late")).operational === "down");
    await inApp("fetch('http://127.0.0.1:3006/up',{method:'POST'})");
    await proved("late");
    // Asked every 20 ms, answered by checks 100 ms apart (and not the 30 s of steady watching).
    const passed = await inApp("fetch('http://127.0.0.1:3006/passed').then(async r=>console.log(await r.text()))");
    expect(Number(passed)).toBeGreaterThanOrEqual(10);
  });

  it("answers an unknown host with a page that names it, and never as markup", async () => {
    const unknown = await call("/", { host: "nobody.example.com:8080" });
    expect(unknown).toMatchObject({ status: 404, headers: { "content-type": "text/plain" } });
    expect(unknown.body).toContain("No app answers at nobody.example.com.");
    expect((await call("/", { host: "<script>alert(1)</script>" })).body).not.toContain("<");
  });

  it("lets a service call another by its name, and nobody from outside", async () => {
    await serve(server("headers", 3007, "ready"));
    const inside = `fetch("http://${routerAddress}/").then(r=>r.text())`;
    const byName = `require("node:http").get({host:"${routerAddress}",headers:{host:"api"}},(r)=>{r.setEncoding("utf8");r.on("data",(d)=>process.stdout.write(r.statusCode+d))})`;
    expect(await inApp(byName)).toContain('200{"host":"api"');
    expect(await inApp(`${inside}.then(console.log)`)).toBe("No service of this environment has that name.");
    expect((await call("/", { host: "api" })).status).toBe(404);
    expect((await call("/", { host: routerAddress })).status).toBe(404);
  });

  it("tells the app who asked, and lets no client say it for itself", async () => {
    await serve(server("headers", 3007, "ready"));
    const seen = JSON.parse((await call("/")).body);
    expect(seen).toMatchObject({ "x-forwarded-proto": "http", "x-forwarded-host": host });
    expect(seen["x-forwarded-for"]).toMatch(/^[\d.]+$/);
    expect(seen["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  });

  it("keeps a websocket open over a reload", async () => {
    await serve(server("headers", 3007, "ready"));
    const socket = connect(httpPort, "127.0.0.1");
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk;
    });
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`);
    await until("the upgrade", () => received.includes("101 Switching"));
    await router.update(() => ({
      backends: [backend([server("headers", 3007, "drain")], { hosts: [host, "more.localhost"] })],
    }));
    expect(await statusOf("headers")).toMatchObject({ inFlight: 1 });
    socket.write("still there");
    await until("the echo", () => received.endsWith("still there"));
    socket.destroy();
    await until("no request in flight", async () => (await router.status([`r${id}.test.web`]))[0]?.inFlight === 0);
  });

  it("counts a request in flight, and finishes it on a drained task", async () => {
    await serve(server("slow", 3005, "ready"), server("new-1", 3002, "drain"));
    const slow = call("/?ms=400");
    await until("one in flight", async () => (await router.status([`r${id}.test.web`]))[0]?.inFlight === 1);
    await serve(server("slow", 3005, "drain"), server("new-1", 3002, "ready"));
    expect((await call("/")).body).toBe("new");
    expect(await router.status([`r${id}.test.web`])).toMatchObject([{ inFlight: 1 }, { inFlight: 0 }]);
    expect((await slow).body).toBe("slow");
    await until("drained", async () => (await router.status([`r${id}.test.web`]))[0]?.inFlight === 0);
  });

  it("is adopted by a control plane that starts anew, and goes on", async () => {
    await serve(server("old-1", 3001, "ready"));
    const before = await docker.getContainer(`shipway-router-${id}`).inspect();
    router = newRouter();
    await router.ensure();
    const after = await docker.getContainer(`shipway-router-${id}`).inspect();
    expect([after.Id, after.State.Pid]).toEqual([before.Id, before.State.Pid]);
    expect((await router.current()).backends[0]?.servers).toEqual([server("old-1", 3001, "ready")]);
    await serve(server("new-1", 3002, "ready"));
    expect((await call("/")).body).toBe("new");
    expect(await router.reconcile()).toEqual([]);
  });

  it("comes back with the same state when it is killed, and proves anew what was being proved", async () => {
    await serve(server("old-1", 3001, "ready"), server("new-1", 3002, "drain"));
    const container = docker.getContainer(`shipway-router-${id}`);
    process.kill((await container.inspect()).State.Pid, "SIGKILL");
    await until("serving again", async () => (await call("/")).body === "old");
    expect(await router.reconcile()).not.toEqual([]);
    await proved("new-1");
    expect(await inApp(`fetch("http://${routerAddress}/").then(r=>console.log(String(r.status)))`)).toBe("404");
  });

  it("is made anew with its networks and state when its container is gone", async () => {
    await serve(server("old-1", 3001, "ready"));
    await docker.getContainer(`shipway-router-${id}`).remove({ force: true });
    expect(await router.reconcile()).not.toEqual([]);
    expect((await call("/")).body).toBe("old");
    expect(await router.attach(network)).toEqual({ address: routerAddress });
  });

  it("puts right what somebody changed behind its back", async () => {
    await serve(server("old-1", 3001, "ready"));
    await askSocket(
      join(dir, "admin.sock"),
      ["", "open:"].map((kind) => `set server ${kind}r${id}.test.web/old-1 state maint`).join(";"),
    );
    expect((await call("/")).status).toBe(503);
    expect(await router.reconcile()).toHaveLength(4);
    expect((await call("/")).body).toBe("old");
  });

  it("refuses one host name for two back ends, and writes nothing", async () => {
    await serve(server("old-1", 3001, "ready"));
    const before = await readFile(join(dir, "haproxy.cfg"), "utf8");
    const twice = { ...backend([]), name: "another", internalHost: "other" };
    const refused = await router.update(({ backends }) => ({ backends: [...backends, twice] })).catch((error) => error);
    expect(hasCode(refused, "REQUEST_INVALID")).toBe(true);
    expect(await readFile(join(dir, "haproxy.cfg"), "utf8")).toBe(before);
  });

  it("keeps its sockets from everybody but its user", async () => {
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    expect((await stat(join(dir, "admin.sock"))).mode & 0o777).toBe(0o600);
    const { Config, HostConfig, NetworkSettings } = await docker.getContainer(`shipway-router-${id}`).inspect();
    expect(Object.keys(NetworkSettings.Ports)).not.toContain("80/tcp");
    expect([Config.User, HostConfig.ReadonlyRootfs]).toEqual([expect.not.stringMatching(/^0?:/), true]);
  });

  it("leaves no container and no network when it is removed", async () => {
    const other = haproxyRouter({
      docker,
      image: "haproxy:2.6",
      dir: await mkdtemp(join(dir, "a-directory-deeper-than-the-address-of-a-unix-socket-is-long-".repeat(3))),
      httpPort: await freePort(),
      bindAddress: "127.0.0.1",
      name: `shipway-router-${id}-other`,
      network: `shipway-other-${id}`,
      labels: { "shipway.test": id },
    });
    await other.ensure();
    expect(await other.current()).toEqual({ backends: [] });
    await other.remove();
    const networks = await docker.listNetworks({ filters: { name: [`shipway-other-${id}`] } });
    const containers = await docker.listContainers({ all: true, filters: { name: [`shipway-router-${id}-other`] } });
    expect([networks, containers]).toEqual([[], []]);
  });

  it("names the port that is taken and how to choose another", async () => {
    const second = haproxyRouter({
      docker,
      image: "haproxy:2.6",
      dir: await mkdtemp(join(dir, "second-")),
      httpPort,
      bindAddress: "127.0.0.1",
      name: `shipway-router-${id}-second`,
      network: `shipway-base-${id}`,
      labels: { "shipway.test": id },
    });
    const refused = await second.ensure().catch((error) => error);
    expect(hasCode(refused, "PORT_IN_USE")).toBe(true);
    expect(refused.message).toContain(String(httpPort));
    expect(refused.hint).toContain("--http-port");
  });
});
