import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ApiEvent, TaskRun } from "../../src/http/schemas.ts";
import { hasRegistry, newTestRegistry } from "../../src/image/registry/testing.ts";
import {
  type AwsStage,
  hasEngine,
  newAwsStage,
  TEST_CREDENTIALS,
  withExec,
} from "../../src/rollout/drivers/ecs/testing.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
const SLOW = { withinMs: 120_000, everyMs: 250 };

/** AWS is played by moto, and by a scheduler and an agent of ours; tasks are real containers on this machine. */
let registry: Awaited<ReturnType<typeof newTestRegistry>>;
let stage: AwsStage;
let shipway: Installation;
let checkout: string;
beforeAll(async () => {
  if (!hasEngine || !hasRegistry) return;
  registry = await newTestRegistry();
  stage = await newAwsStage({ registry: registry.endpoint, containers: "docker" });
  shipway = await newInstallation({
    env: { ...TEST_CREDENTIALS, AWS_ENDPOINT_URL: stage.endpoint, SHIPWAY_REGISTRY: registry.endpoint },
  });
  await shipway.start();
  checkout = await shipway.newApp("shop", { "shipway.yml": spec(), Dockerfile: DOCKERFILE });
  await shipway.shipway(["secret", "set", "KEY", "--app", "shop"], checkout, { stdin: "s3cr3t-value" });
  const pushed = await shipway.push(checkout);
  expect(pushed.stderr).toContain("live in");
});
afterAll(async () => {
  await shipway?.remove();
  await stage?.cleanUp();
  await registry?.cleanUp();
});

const DOCKERFILE = 'FROM debian:bookworm-slim\nCMD ["sleep", "100000"]\n';
function spec(): string {
  const { region, cluster, listener, subnets, securityGroups, executionRole, taskRole } = withExec(stage.settings);
  const aws = {
    region,
    cluster,
    listener,
    subnets,
    securityGroups,
    executionRole,
    taskRole,
    scheme: "http",
    exec: true,
  };
  return JSON.stringify({
    app: "shop",
    services: { worker: { build: {}, env: { COLOR: "blue" }, secrets: ["KEY"], stopTimeout: "2s" } },
    environments: { production: { branch: "main", runtime: "ecs", aws } },
    bake: "1s",
  });
}

const exec = (command: string[], stdin = "") =>
  shipway.shipway(["exec", "worker", "--", ...command], checkout, { stdin });
const run = (...args: string[]) => shipway.shipway(["run", "worker", ...args], checkout);
const lastEvent = async (kind: string) =>
  (await shipway.api<ApiEvent[]>("/api/events?app=shop&limit=1000")).findLast((event) => event.kind === kind);
/** A client that stays, as the one of a person does. */
const stay = (...args: string[]): ChildProcess =>
  spawn(process.execPath, [MAIN, ...args], { cwd: checkout, env: shipway.env, stdio: ["pipe", "pipe", "pipe"] });
const said = (child: ChildProcess) => {
  const text = { out: "", err: "" };
  child.stdout?.on("data", (chunk: Buffer) => {
    text.out += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    text.err += chunk.toString();
  });
  return text;
};
/** Command lines of what runs in the service's only task. */
async function processes(): Promise<string[]> {
  const filters = { label: ["shipway.aws-container=worker"] };
  const lines = (await shipway.docker.listContainers({ filters })).map(async ({ Id }) => {
    const { Processes } = (await shipway.docker.getContainer(Id).top()) as { Processes: string[][] };
    return Processes.map((one) => one.at(-1) ?? "");
  });
  return (await Promise.all(lines)).flat();
}
const isRunning = async (line: string) => (await processes()).includes(line);
const runs = () => shipway.api<TaskRun[]>("/api/apps/shop/runs");

describe.skipIf(!hasEngine || !hasRegistry)("commands in tasks on ECS", () => {
  it("exec: pipes bytes through a running task, keeps its outputs apart, and passes its exit code", async () => {
    const both = await exec(["sh", "-c", "echo $COLOR $KEY; echo err >&2; exit 9"]);
    expect(both).toEqual({ code: 9, stdout: "blue s3cr3t-value\n", stderr: "err\n" });
    expect((await exec(["wc", "-c"], "x".repeat(300_000))).stdout.trim()).toBe("300000");
    expect(await exec(["cat"], "select 1\n")).toEqual({ code: 0, stdout: "select 1\n", stderr: "" });
    expect((await exec(["no-such-program"])).code).toBe(127);
    expect((await lastEvent("exec.started"))?.data).toMatchObject({ service: "worker", command: "no-such-program" });
    expect(await exec(["echo", "s3cr3t-value"])).toMatchObject({ code: 0 });
    expect(JSON.stringify(await lastEvent("exec.started"))).not.toContain("s3cr3t");
  });

  it("exec: gives a terminal where there is one, with its size", async () => {
    const line = `stty cols 91 rows 33; '${process.execPath}' '${MAIN}' exec worker -- sh -c 'tty; until stty size | grep 91; do sleep 0.1; done; read line; echo "got $line"; exit 6'`;
    const child = spawn("script", ["--quiet", "--return", "--command", line, "/dev/null"], {
      cwd: checkout,
      env: { ...shipway.env, TERM: "xterm" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const text = said(child);
    const sees = (wanted: string) => () => {
      if (!text.out.includes(wanted)) throw new Error(`it shows ${JSON.stringify(text.out)}`);
      return true;
    };
    await until("the terminal's size", sees("33 91"), SLOW);
    child.stdin.write("typed\r");
    const [code] = (await once(child, "exit")) as [number];
    expect({ code, out: text.out }).toMatchObject({
      code: 6,
      out: expect.stringMatching(/\/dev\/pts\/\d+[\s\S]*got typed/),
    });
  });

  it("exec: ends what it started when its client is killed, and when Shipway itself was, after its restart", async () => {
    const client = stay("exec", "worker", "--", "sh", "-c", "sleep 611 & sleep 612");
    await until("both running", async () => (await isRunning("sleep 611")) && (await isRunning("sleep 612")), SLOW);
    client.kill("SIGKILL");
    const isOver = async () => !(await isRunning("sleep 611")) && !(await isRunning("sleep 612"));
    await until("both gone", isOver, SLOW);
    await until("it being told", async () => (await lastEvent("exec.ended"))?.data.status === "cut-off", SLOW);

    const other = stay("exec", "worker", "--", "sleep", "613");
    const text = said(other);
    await until("it running", () => isRunning("sleep 613"), SLOW);
    const gone = once(other, "exit");
    await shipway.kill("SIGKILL");
    expect(await gone).toEqual([75, null]);
    expect(text.err).toContain("The connection to");
    await shipway.start();
    await until("it gone", async () => !(await isRunning("sleep 613")), SLOW);
    const { execId } = (await lastEvent("exec.started"))?.data ?? {};
    const ended = async () => {
      const event = await lastEvent("exec.ended");
      return event?.data.execId === execId && event;
    };
    expect((await until("its end on the record", ended, SLOW)).data).toMatchObject({ status: "cut-off" });
    expect(await isRunning("sleep 100000")).toBe(true);
    expect(await stage.exec()).toEqual([]);
  });

  it("run: has the release's image and variables, shows its output and passes its exit code", async () => {
    const ended = await run(
      "--",
      "sh",
      "-c",
      "echo $SHIPWAY_RELEASE $COLOR; echo the key is $KEY; echo oops >&2; exit 5",
    );
    expect(ended.code).toBe(5);
    // On ECS a task has one output.
    expect(ended.stdout.split("\n").sort()).toEqual(["", "oops", "r1 blue", "the key is ****"]);
    expect(JSON.stringify(await lastEvent("run.started"))).not.toContain("s3cr3t");
  });

  it("run: shows output while the command runs, and Ctrl-C stops it", async () => {
    const client = stay("run", "worker", "--", "sh", "-c", "echo begun; sleep 900");
    const text = said(client);
    await until("its output", () => text.out.includes("begun"), SLOW);
    const gone = once(client, "exit");
    client.kill("SIGINT");
    expect(await gone).toEqual([130, null]);
    await until("its end on the record", async () => (await runs())[0]?.status === "canceled", SLOW);
    await until("it gone", async () => !(await isRunning("sleep 900")), SLOW);
  });

  it.each([
    { moment: "as soon as it was asked for", awaits: async () => true },
    { moment: "while its task starts", awaits: async (before: number) => (await stage.stats()).started > before },
    { moment: "while it runs", awaits: () => isRunning("sleep 12") },
  ])("run: goes on when Shipway is killed $moment, and is never run twice", async ({ awaits }) => {
    const { started } = await stage.stats();
    const detached = await run("--detach", "--", "sh", "-c", "echo one; sleep 12; echo two; exit 6");
    const id = detached.stdout.trim();
    await until("the moment", () => awaits(started), SLOW);
    await shipway.kill("SIGKILL");
    await shipway.start();
    const over = async () =>
      (await runs()).find((one) => one.id === id && !["running", "starting"].includes(one.status));
    expect(await until("its end", over, SLOW)).toMatchObject({ status: "failed", exitCode: 6 });
    expect((await stage.stats()).started - started).toBe(1);
    const log = await shipway.shipway(["logs", "--run", id], checkout);
    expect(log.stdout).toBe("one\ntwo\n");
  });
});
