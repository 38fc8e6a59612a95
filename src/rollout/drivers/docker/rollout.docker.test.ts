import { Agent, request } from "node:http";
import { createServer } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { fail, hasCode } from "../../../shared/errors.ts";
import { Secret } from "../../../shared/secret.ts";
import { until } from "../../../shared/until.ts";
import type { RolloutOutcome } from "../../outcome.ts";
import type { Place, Release, ReleaseService } from "../../release.ts";
import { type RolloutInput, rollOut } from "../../run.ts";
import type { RunnableRelease, TaskVariables } from "../../target.ts";
import { prefixed } from "./names.ts";
import { askRelease, type DockerStage, dockerService, hostOf, newDockerStage } from "./testing.ts";

describe("a rollout on a real engine", () => {
  let stage: DockerStage;
  let place: Place;
  let live: RunnableRelease | undefined;
  let places = 0;
  beforeAll(async () => {
    stage = await newDockerStage();
  });
  afterEach(async () => {
    await stage.target.destroy(place, "remove");
    live = undefined;
  });
  afterAll(async () => {
    await stage?.cleanUp();
  });

  const use = () => {
    place = { app: "shop", environment: `x${++places}` };
    return place;
  };
  const release = (number: number, services: ReleaseService[]): Release => ({ app: "shop", number, services });
  const web = (changes: Partial<ReleaseService> = {}) => dockerService(place, "web", "web", changes);
  const roll = async (
    kind: "deploy" | "rollback",
    next: Release,
    input: Partial<RolloutInput> = {},
    variables: Record<string, TaskVariables> = {},
  ): Promise<RolloutOutcome> => {
    const outcome = await rollOut(
      {
        place,
        deploymentId: `${kind}-${next.number}`,
        kind,
        release: next,
        ...(live ? { previous: live } : {}),
        verify: [],
        bakeMs: 300,
        ...input,
      },
      {
        target: stage.target,
        variables,
        durable: (_name, fn) => fn(),
        onEvent: () => undefined,
        log: () => () => undefined,
        now: () => Date.now(),
      },
    );
    if (outcome.status === "done") live = { release: next, variables };
    return outcome;
  };
  const deploy = (next: Release, input?: Partial<RolloutInput>, variables?: Record<string, TaskVariables>) =>
    roll("deploy", next, input, variables);
  const answering = (service = "web") => askRelease(stage.httpPort, hostOf(place, service));
  const listen = (where: string) => ["node", "-e", `require('http').createServer((q,r)=>r.end('hi')).listen(${where})`];
  const containerOf = (task: string) => stage.docker.getContainer(prefixed(stage.instance, task));

  it("loses no request in deploys, rollbacks and a failed deploy", async () => {
    use();
    const worker = () => dockerService(place, "worker", "worker");
    await deploy(release(1, [web(), worker()]));
    const prober = startProber(stage.httpPort, hostOf(place, "web"));
    const outcomes: [RolloutOutcome, answering: number | undefined][] = [];
    const note = async (rolling: Promise<RolloutOutcome>) => void outcomes.push([await rolling, await answering()]);
    await note(deploy(release(2, [web(), worker()])));
    await note(roll("rollback", release(1, [web(), worker()])));
    await note(deploy(release(3, [web({ command: ["node", "-e", "process.exit(1)"] })])));
    await note(roll("rollback", release(2, [web(), worker()])));
    const { asked, failed, seen } = await prober.stop();
    expect(outcomes.map(([outcome, number]) => `${outcome.status} r${number}`)).toEqual([
      "done r2",
      "done r1",
      "failed r1",
      "done r2",
    ]);
    expect(failed).toEqual([]);
    expect(asked).toBeGreaterThan(100);
    // Answers to requests asked around a shift may arrive in either order, but none comes from r3.
    expect(new Set(seen)).toEqual(new Set(["r1", "r2"]));
  });

  it("lets a request that is being answered finish, before its task is parked", async () => {
    use();
    const slow = web({
      command: [
        "node",
        "-e",
        "require('http').createServer((q,r)=>setTimeout(()=>r.end(process.env.SHIPWAY_RELEASE),q.url==='/slow'?1500:0)).listen(process.env.PORT)",
      ],
    });
    await deploy(release(1, [slow]));
    const answer = ask(stage.httpPort, hostOf(place, "web"), "/slow");
    await until("the request arrives", async () =>
      (await stage.router.status([`shop.${place.environment}.web`])).some((one) => one.inFlight > 0),
    );
    expect(await deploy(release(2, [slow]))).toMatchObject({ status: "done" });
    expect(await answer).toEqual({ status: 200, body: "r1" });
  });

  it("does not freeze a long download: its task is parked when it has ended", async () => {
    use();
    const program =
      "require('http').createServer((q,r)=>{r.write('start ');setTimeout(()=>r.end('end'),q.url==='/long'?9000:0)}).listen(3000)";
    const streaming = web({ command: ["node", "-e", program], stopTimeoutMs: 1_000 });
    await deploy(release(1, [streaming]));
    const download = ask(stage.httpPort, hostOf(place, "web"), "/long");
    await until("the request arrives", async () =>
      (await stage.router.status([`shop.${place.environment}.web`])).some((one) => one.inFlight > 0),
    );
    const outcome = await deploy(release(2, [streaming]));
    expect(outcome.status === "done" && outcome.notes.join()).toContain(
      "1 requests to the previous release were still open",
    );
    expect(await standby()).toEqual({ traffic: "standby", state: "running" });
    expect(await download).toEqual({ status: 200, body: "start end" });
    const desired = { ...(live ? { live } : {}), standby: release(1, [streaming]), inProgress: [] };
    expect(await stage.target.reconcile(place, desired)).toEqual([
      `Parked shop.${place.environment}.web.r1-1, which should be on standby.`,
    ]);
    expect(await standby()).toEqual({ traffic: "standby", state: "paused" });
  });

  const standby = async () => {
    const seen = (await stage.target.observe(place)).find((one) => one.release === 1);
    return { traffic: seen?.traffic, state: seen?.tasks[0]?.state };
  };

  it("says which port the program listens on when it is not the declared one", async () => {
    use();
    const service = web({ command: listen("8080,'0.0.0.0'"), health: grace(800) });
    const outcome = await deploy(release(1, [service]));
    expect(outcome).toMatchObject({
      status: "failed",
      phase: "prove",
      evidence: [{ listening: [{ port: 8080, loopbackOnly: false }] }],
    });
    expect(outcome.status === "failed" && outcome.reason).toMatch(/listens on 8080, but shipway.yml says port 3000/);
  });

  it("says when the program listens on the loopback address only", async () => {
    use();
    const outcome = await deploy(release(1, [web({ command: listen("3000,'127.0.0.1'"), health: grace(800) })]));
    expect(outcome.status === "failed" && outcome.reason).toMatch(/listens on port 3000 of 127.0.0.1 only/);
  });

  it("shows what a failing health path answered, and the last lines", async () => {
    use();
    const program =
      "console.log('booted');require('http').createServer((q,r)=>{r.writeHead(302,{location:'/login'});r.end()}).listen(3000)";
    const strict = { ...grace(4_000), path: "/up" };
    const redirecting = web({ command: ["node", "-e", program], health: strict });
    expect(await deploy(release(1, [redirecting]))).toMatchObject({ status: "done" });
    const missing = web({ command: ["node", "-e", program.replace("302,{location:'/login'}", "404")], health: strict });
    const outcome = await deploy(release(2, [missing]));
    expect(outcome).toMatchObject({ status: "failed", evidence: [{ lastLines: ["booted"], state: "running" }] });
    expect(outcome.status === "failed" && outcome.evidence[0]?.probes.at(-1)).toMatch(
      /GET http:\/\/[\d.]+:3000\/up → 404/,
    );
  });

  it("tells a task that needs too much memory from one that fails", async () => {
    use();
    const greedy = "const a=[];setInterval(()=>a.push(Buffer.alloc(5e7,1)),5)";
    const worker = dockerService(place, "worker", "worker", {
      command: ["node", "-e", greedy],
      memoryMiB: 64,
      health: { ...grace(5_000) },
    });
    const outcome = await deploy(release(1, [worker]));
    expect(outcome).toMatchObject({ status: "failed", evidence: [{ outOfMemory: true }] });
    expect(outcome.status === "failed" && outcome.reason).toMatch(/needed more memory/);
  });

  it("proves a new health path without failing the release that does not know it", async () => {
    use();
    const answers = (paths: string) => [
      "node",
      "-e",
      `require('http').createServer((q,r)=>{r.statusCode=${paths}.includes(q.url)?200:404;r.end(process.env.SHIPWAY_RELEASE)}).listen(3000)`,
    ];
    const health = (path: string) => ({ path, interval: 100, timeout: 500, healthy: 2, unhealthy: 2 });
    await deploy(release(1, [web({ command: answers("['/','/old']"), health: health("/old") })]));
    const prober = startProber(stage.httpPort, hostOf(place, "web"));
    const next = release(2, [web({ command: answers("['/','/new']"), health: health("/new") })]);
    expect(await deploy(next, { bakeMs: 1_000 })).toMatchObject({ status: "done" });
    expect(
      await roll("rollback", release(1, [web({ command: answers("['/','/old']"), health: health("/old") })]), {
        bakeMs: 1_000,
      }),
    ).toMatchObject({ status: "done" });
    const { failed, seen } = await prober.stop();
    expect(failed).toEqual([]);
    // Another check needs a reload: a kept connection may get one last answer from the release before.
    expect(new Set(seen)).toEqual(new Set(["r1", "r2"]));
    expect(await answering()).toBe(1);
  });

  it("judges by the declared health command, run inside the task", async () => {
    use();
    const command = (line: string) => ({
      command: ["sh", "-c", line],
      interval: 100,
      timeout: 2_000,
      healthy: 2,
      unhealthy: 2,
    });
    const worker = (line: string) =>
      dockerService(place, "worker", "worker", { health: { ...command(line), grace: 1_500 } });
    expect(await deploy(release(1, [worker("test -d /tmp")]))).toMatchObject({ status: "done" });
    const outcome = await deploy(release(2, [worker("echo no jobs table; exit 4")]));
    expect(outcome.status === "failed" && outcome.evidence[0]?.probes).toContain(
      "health command exited with 4: no jobs table",
    );
  });

  it("gives tasks their variables and secrets, lets services call each other by name, and verifies through the router", async () => {
    use();
    const caller =
      "require('http').get(process.env.SHIPWAY_URL,r=>r.on('data',d=>{console.log(''+d);process.exit(''+d==='r1 red s3cret 3000'?0:1)}))";
    const program =
      "const e=process.env;require('http').createServer((q,r)=>r.end([e.SHIPWAY_RELEASE,e.COLOR,e.TOKEN,e.PORT].join(' '))).listen(3000)";
    const services = [
      dockerService(place, "api", "web", { command: ["node", "-e", program] }),
      dockerService(place, "tests", "worker"),
    ];
    const variables = { api: { env: { COLOR: "red" }, secrets: { TOKEN: new Secret("TOKEN", "s3cret") } } };
    const verify = [{ service: "tests", command: ["node", "-e", caller], timeout: 10_000 }];
    expect(await deploy(release(1, services), { verify }, variables)).toMatchObject({ status: "done" });
  });

  it("stops the owner of a host port before the new one starts, and starts it again when that fails", async () => {
    use();
    const hostPort = await freeHostPort();
    const owner = (changes: Partial<ReleaseService> = {}) => web({ hostPort, acceptsDowntime: true, ...changes });
    await deploy(release(1, [owner()]));
    expect(await ask(hostPort, "localhost")).toMatchObject({ body: "r1" });
    expect(await deploy(release(2, [owner()]))).toMatchObject({ status: "done" });
    expect(await ask(hostPort, "localhost")).toMatchObject({ body: "r2" });
    expect(await deploy(release(3, [owner({ command: ["node", "-e", "process.exit(1)"] })]))).toMatchObject({
      status: "failed",
      rolledBack: true,
    });
    expect(await ask(hostPort, "localhost")).toMatchObject({ body: "r2" });
    expect(await answering()).toBe(2);
  });

  it("names the port of the machine that somebody else has", async () => {
    use();
    const server = createServer().listen(0, "0.0.0.0");
    await until("the port is taken", () => server.listening);
    const address = server.address();
    const hostPort = typeof address === "object" && address !== null ? address.port : 0;
    const error = await deploy(release(1, [web({ hostPort, acceptsDowntime: true })])).catch(
      (thrown: unknown) => thrown,
    );
    server.close();
    expect(hasCode(error, "PORT_IN_USE")).toBe(true);
    expect(String(error)).toContain(String(hostPort));
    expect(await stage.target.observe(place)).toEqual([]);
  });

  it("says that an image is not there", async () => {
    use();
    const image = `sha256:${"0".repeat(64)}`;
    const error = await deploy(release(1, [web({ image })])).catch((thrown: unknown) => thrown);
    expect(hasCode(error, "IMAGE_UNAVAILABLE")).toBe(true);
  });

  it("confines tasks: no new privileges, few capabilities, limits, no socket of the engine", async () => {
    use();
    await deploy(release(1, [web({ memoryMiB: 512 })]));
    const { HostConfig, Mounts } = await containerOf(`shop.${place.environment}.web.r1-1`).inspect();
    expect(HostConfig).toMatchObject({
      SecurityOpt: ["no-new-privileges"],
      CapDrop: ["ALL"],
      Memory: 512 * 1024 * 1024,
      PidsLimit: 4_096,
      Privileged: false,
      RestartPolicy: { Name: "unless-stopped" },
    });
    expect(Mounts).toEqual([]);
  });

  it("keeps a task's address over a restart by Docker, so that it serves on", async () => {
    use();
    const service = web({ count: 2 });
    await deploy(release(1, [service]));
    const container = containerOf(`shop.${place.environment}.web.r1-1`);
    const addressOf = async () => Object.values((await container.inspect()).NetworkSettings.Networks)[0]?.IPAddress;
    const before = await addressOf();
    process.kill((await container.inspect()).State.Pid, "SIGKILL");
    await until("it runs again", async () => {
      const { State, RestartCount } = (await container.inspect()) as {
        State: { Running: boolean };
        RestartCount?: number;
      };
      return State.Running && RestartCount === 1;
    });
    // Docker says that it runs a moment before it says where.
    await until("its address being there again", async () => (await addressOf()) === before);
    expect(await answering()).toBe(1);
  });

  it("finishes when it is called again after the engine was gone in the middle", async () => {
    use();
    await deploy(release(1, [web()]));
    const { awaitHealthy } = stage.target;
    stage.target.awaitHealthy = () => Promise.reject(fail("DOCKER_UNREACHABLE", { message: "gone" }));
    const error = await deploy(release(2, [web()])).catch((thrown: unknown) => thrown);
    expect(hasCode(error, "DOCKER_UNREACHABLE")).toBe(true);
    expect(await answering()).toBe(1);
    stage.target.awaitHealthy = awaitHealthy;
    expect(await deploy(release(2, [web()]))).toMatchObject({ status: "done" });
    expect(await answering()).toBe(2);
  });

  it("gives each service its database's variables; the data survive a new container", async () => {
    use();
    const backing = [
      { name: "db", spec: { engine: "mariadb" as const }, password: new Secret("DB_PASSWORD", "p@ss'word") },
    ];
    await stage.target.ensureBacking(place, backing, () => undefined);
    const variables = stage.target.backingVariables(place, backing);
    expect(Object.keys(variables).sort()).toEqual([
      "DB_HOST",
      "DB_NAME",
      "DB_PASSWORD",
      "DB_PORT",
      "DB_URL",
      "DB_USER",
    ]);
    expect(variables.DB_URL?.reveal()).toBe("mysql://shop:p%40ss'word@db:3306/shop");
    const db = containerOf(`shop.${place.environment}.db`);
    const query = async (sql: string) => {
      const exec = await db.exec({
        Cmd: ["mariadb", "-h127.0.0.1", "-ushop", "shop", "-e", sql],
        Env: ["MYSQL_PWD=p@ss'word"],
        AttachStdout: true,
      });
      const stream = await exec.start({});
      let text = "";
      for await (const chunk of stream) text += chunk;
      return text;
    };
    await query("create table kept (id int); insert into kept values (42)");
    await db.remove({ force: true });
    await stage.target.ensureBacking(place, backing, () => undefined);
    expect(await query("select id from kept")).toContain("42");
    expect(JSON.stringify(await db.inspect().then((info) => info.Config.Cmd))).not.toContain("p@ss");
  });

  const grace = (ms: number) => ({ interval: 100, timeout: 500, healthy: 2, unhealthy: 2, grace: ms });
});

type Answer = { status: number | undefined; body: string };

function ask(port: number, host: string, path = "/", agent: Agent | false = false): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, headers: { host }, agent }, (answer) => {
      let body = "";
      answer.on("data", (chunk) => {
        body += chunk;
      });
      answer.on("end", () => resolve({ status: answer.statusCode, body }));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.setTimeout(10_000, () => asked.destroy(new Error("no answer")));
    asked.end();
  });
}

/** Asks 50 times a second, by turns on fresh and on kept connections, and remembers what was not a 200. */
function startProber(port: number, host: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const failed: string[] = [];
  const seen: string[] = [];
  const open = new Set<Promise<void>>();
  let asked = 0;
  const timer = setInterval(() => {
    asked++;
    const one = ask(port, host, "/", asked % 2 === 0 ? agent : false)
      .then(({ status, body }) => {
        if (status !== 200) failed.push(`${status} ${body}`);
        else if (seen.at(-1) !== body) seen.push(body);
      })
      .catch((error: unknown) => void failed.push(String(error)))
      .finally(() => void open.delete(one));
    open.add(one);
  }, 20);
  return {
    async stop() {
      clearInterval(timer);
      await Promise.all(open);
      agent.destroy();
      return { asked, failed, seen };
    },
  };
}

async function freeHostPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await until("a port is given", () => server.listening);
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}
