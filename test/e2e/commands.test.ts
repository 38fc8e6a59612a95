import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ApiEvent } from "../../src/http/schemas.ts";
import { until } from "../../src/shared/until.ts";
import { type Installation, newInstallation } from "../installation.ts";
import { files } from "../sample-app.ts";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));

describe("commands in tasks", () => {
  let shipway: Installation;
  let checkout: string;
  beforeAll(async () => {
    shipway = await newInstallation();
    await shipway.start();
    checkout = await shipway.newApp("shop", files("shop", "hello"));
    expect((await shipway.push(checkout)).stderr).toContain("live in");
    expect(
      (await shipway.shipway(["secret", "set", "KEY", "--app", "shop"], checkout, { stdin: "s3cr3t-value" })).code,
    ).toBe(0);
  });
  afterAll(() => shipway.remove());

  const exec = (command: string[], stdin = "") =>
    shipway.shipway(["exec", "web", "--", ...command], checkout, { stdin });
  const run = (...args: string[]) => shipway.shipway(["run", "web", ...args], checkout);
  /** Command lines of what runs in the only task. */
  const processes = async () => {
    const [task = ""] = await shipway.containers({ "shipway.role": "task" });
    const { Processes } = (await shipway.docker.getContainer(task).top()) as { Processes: string[][] };
    return Processes.map((one) => one.at(-1) ?? "");
  };
  const lastEvent = async (kind: string) =>
    (await shipway.api<ApiEvent[]>("/api/events?app=shop&limit=1000")).findLast((event) => event.kind === kind);
  /** A client that stays, as the one of a person does. */
  const stay = (command: string[]) =>
    spawn(process.execPath, [MAIN, "exec", "web", "--", ...command], {
      cwd: checkout,
      env: shipway.env,
      stdio: ["pipe", "ignore", "pipe"],
    });
  const runningSleep = (seconds: string) =>
    until("it running in the task", async () => (await processes()).some((line) => line.includes(`sleep ${seconds}`)));
  const noSleep = (seconds: string) =>
    until("it being gone", async () => !(await processes()).some((line) => line.includes(`sleep ${seconds}`)), {
      withinMs: 20_000,
    });

  it("run: has the release's variables and network, streams apart, its exit code, and leaves nothing", async () => {
    const script =
      "echo $SHIPWAY_RELEASE $PORT; echo oops >&2; node -e \"fetch('http://web/').then(r=>r.text()).then(t=>process.stdout.write(t))\"; exit 5";
    const ended = await run("--", "sh", "-c", script);
    expect({ ...ended, stderr: ended.stderr.split("\n")[0] }).toEqual({
      code: 5,
      stdout: "r1 3000\nhello r1\n",
      stderr: "oops",
    });
    await until(
      "its containers being gone",
      async () => (await shipway.containers({ "shipway.role": "run" })).length === 0,
    );
  });

  it("run: masks a secret in output and in what is on the record", async () => {
    expect((await run("--", "echo", "s3cr3t-value")).stdout).toBe("****\n");
    expect(JSON.stringify(await lastEvent("run.started"))).not.toContain("s3cr3t");
  });

  it("exec: pipes bytes through a running task, and passes its exit code", async () => {
    expect(await exec(["cat"], "select 1\n")).toEqual({ code: 0, stdout: "select 1\n", stderr: "" });
    const both = await exec(["sh", "-c", "echo out; echo err >&2; exit 9"]);
    expect(both).toEqual({ code: 9, stdout: "out\n", stderr: "err\n" });
    // Which of the two differs from engine to engine.
    expect([126, 127]).toContain((await exec(["no-such-program"])).code);
    // What waits for its input to end gets that end.
    expect((await exec(["wc", "-c"], "x".repeat(300_000))).stdout.trim()).toBe("300000");
  });

  it("exec: gives a terminal where there is one, with its size", async () => {
    const line = `stty cols 91 rows 33; '${process.execPath}' '${MAIN}' exec web -- sh -c 'tty; until stty size | grep 91; do sleep 0.1; done; read line; echo "got $line"; exit 6'`;
    const child = spawn("script", ["--quiet", "--return", "--command", line, "/dev/null"], {
      cwd: checkout,
      env: { ...shipway.env, TERM: "xterm" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    const sees = (text: string) => () => {
      if (!out.includes(text)) throw new Error(`it shows ${JSON.stringify(out)}`);
      return true;
    };
    await until("the terminal's size", sees("33 91"), { withinMs: 20_000 });
    child.stdin.write("typed\r");
    const [code] = (await once(child, "exit")) as [number];
    expect({ code, out }).toMatchObject({ code: 6, out: expect.stringMatching(/\/dev\/pts\/\d+[\s\S]*got typed/) });
  });

  it("exec: ends what it started when its client is killed, and the task serves on", async () => {
    const client = stay(["sh", "-c", "sleep 611 & sleep 612"]);
    await runningSleep("611");
    client.kill("SIGKILL");
    await noSleep("611");
    await noSleep("612");
    await until("it being told as cut off", async () => (await lastEvent("exec.ended"))?.data.status === "cut-off");
    expect(await shipway.page("web.production.shop.localhost")).toMatchObject({ status: 200 });
  });

  it("exec: is ended after a restart when Shipway itself was killed", async () => {
    const client = stay(["sleep", "613"]);
    let told = "";
    client.stderr.on("data", (chunk: Buffer) => {
      told += chunk.toString();
    });
    await runningSleep("613");
    const gone = once(client, "exit");
    await shipway.kill("SIGKILL");
    expect(await gone).toEqual([75, null]);
    expect(told).toContain("The connection to");
    await shipway.start();
    await noSleep("613");
    const { execId } = (await lastEvent("exec.started"))?.data ?? {};
    const ended = await until("its end on the record", async () => {
      const event = await lastEvent("exec.ended");
      return event?.data.execId === execId && event;
    });
    expect(ended?.data).toMatchObject({ status: "cut-off" });
    expect(await shipway.containers({ "shipway.role": "helper" })).toEqual([]);
  });
});
