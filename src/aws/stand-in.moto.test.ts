import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findFreePort } from "../shared/free-port.ts";
import { until } from "../shared/until.ts";
import { startStandIn } from "./stand-in.ts";
import { hasMoto } from "./testing.ts";

const ENGINE = "/var/run/docker.sock";
const ROOT = join(import.meta.dirname, "../..");
const canRun = hasMoto && existsSync(ENGINE);
if (!canRun) console.warn("SKIPPED: what a stand-in for AWS leaves behind. It needs moto and a Docker Engine.");

/** Starts the stand-in given as its arguments, as a test or the demo does, and holds its standard input. */
const OWNER = `
const args = process.argv.slice(1);
const child = require("node:child_process").spawn("python3", args, { stdio: ["pipe", "ignore", "inherit"], detached: true });
console.log(child.pid);
setInterval(() => {}, 1e6);`;
const WITHIN = { withinMs: 90_000, everyMs: 200 };
const docker = new Docker({ socketPath: ENGINE });

describe.skipIf(!canRun)("a stand-in for AWS with real containers", { timeout: 240_000 }, () => {
  let owner: ChildProcess;
  let pid: number;
  let stage: string;
  beforeEach(async () => {
    const [port, control] = [await findFreePort(), await findFreePort()];
    const scheduler = join(ROOT, "test/aws/scheduler.py");
    const args = [scheduler, String(port), String(control), "--until-stdin-ends", "--containers", ENGINE];
    owner = spawn(process.execPath, ["-e", OWNER, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    pid = await new Promise((resolve) =>
      owner.stdout?.once("data", (said: Buffer) => resolve(Number(said.toString()))),
    );
    const ask = async (path: string) => (await fetch(`http://127.0.0.1:${control}${path}`)).json();
    stage = await until("it answers", async () => ((await ask("/endpoint")) as { stage: string }).stage, WITHIN);
    // Its own database and cache run on the engine: containers, a volume and a network.
    await until("moto answers", async () => (await fetch(`http://127.0.0.1:${port}/moto-api/`)).ok, WITHIN);
    await ask("/backing");
    await until(
      "they run",
      async () =>
        (await docker.listContainers({ filters: ofStage() })).filter(({ State }) => State === "running").length === 2,
      WITHIN,
    );
  }, 200_000);
  afterEach(() => {
    owner.kill("SIGKILL");
  });

  const ofStage = () => ({ label: [`shipway.aws-stage=${stage}`] });

  async function left(): Promise<string[]> {
    const filters = ofStage();
    const [containers, networks, { Volumes }] = await Promise.all([
      docker.listContainers({ all: true, filters }),
      docker.listNetworks({ filters }),
      docker.listVolumes({ filters }),
    ]);
    return [
      ...containers.map(({ Id }) => `container ${Id}`),
      ...networks.map(({ Name }) => `network ${Name}`),
      ...(Volumes ?? []).map(({ Name }) => `volume ${Name}`),
    ];
  }

  it("removes all it made when whoever started it is killed", async () => {
    owner.kill("SIGKILL");
    await until("nothing is left", async () => (await left()).length === 0, WITHIN);
  });

  it("is swept up by the next one when it was killed itself", async () => {
    process.kill(pid, "SIGKILL");
    expect((await left()).length).toBeGreaterThan(3);
    const next = await startStandIn({ projectDir: ROOT, containers: ENGINE, environment: process.env });
    await next.close();
    expect(await left()).toEqual([]);
  });
});
