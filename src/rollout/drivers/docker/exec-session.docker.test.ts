import { text } from "node:stream/consumers";
import type Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../../shared/until.ts";
import { newService } from "../../testing.ts";
import { prefixed } from "./names.ts";
import { type DockerStage, newDockerStage } from "./testing.ts";

const place = { app: "shop", environment: "exec" };
const TASK = "shop.exec.worker.r1-1";
const service = newService("worker", { image: "debian:bookworm-slim", command: ["sleep", "600"], port: undefined });
const release = { app: "shop", number: 1, services: [service] };

describe("a command inside a running container", () => {
  let stage: DockerStage;
  beforeAll(async () => {
    stage = await newDockerStage();
    await stage.target.prepare(place, release);
    await stage.target.startService(place, release, service, { env: { COLOR: "blue" }, secrets: {} });
  });
  afterAll(() => stage?.cleanUp());

  const exec = async (id: string, line: string, terminal?: { columns: number; rows: number; type?: string }) => {
    const session = await stage.target.exec(place, TASK, { id, command: ["sh", "-c", line], terminal });
    return { session, output: Promise.all([text(session.stdout), text(session.stderr)]) };
  };
  const container = (): Docker.Container => stage.docker.getContainer(prefixed(stage.instance, TASK));
  const lines = async () => {
    const { Processes } = (await container().top()) as { Processes: string[][] };
    return Processes.map((one) => one.at(-1) ?? "");
  };

  it("keeps stdout and stderr apart, and has the task's own variables", async () => {
    const { session, output } = await exec("apart", "echo $COLOR; echo oops >&2; exit 7");
    expect(await output).toEqual(["blue\n", "oops\n"]);
    expect(await session.ended).toBe(7);
  });

  it("carries megabytes both ways without losing or mixing any", async () => {
    const { session, output } = await exec("much", "cat; head -c 3000000 /dev/zero | tr '\\0' y >&2");
    session.stdin.end("x".repeat(3_000_000));
    const [out, err] = await output;
    expect([out.length, err.length]).toEqual([3_000_000, 3_000_000]);
    expect([new Set(out), new Set(err)]).toEqual([new Set("x"), new Set("y")]);
    expect(await session.ended).toBe(0);
  });

  it("has a terminal of the wanted kind and size, which can be changed, and takes Ctrl-C", async () => {
    const script =
      "echo $TERM; until stty size | grep 91; do sleep 0.05; done; trap 'stty size; exit 5' INT; while :; do sleep 0.05; done";
    const { session, output } = await exec("tty", script, { columns: 91, rows: 33, type: "vt100" });
    let seen = "";
    session.stdout.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await until("it being ready", () => seen.includes("33 91\r\n"));
    await session.resize({ columns: 120, rows: 40 });
    session.stdin.write("\u0003");
    expect(await session.ended).toBe(5);
    expect((await output)[0].replace(/\r/g, "")).toMatch(/^vt100\n33 91\n(\^C)?40 120\n$/);
  });

  it("says 126 or 127, as the engine has it, of a program that is not there", async () => {
    const session = await stage.target.exec(place, TASK, { id: "none", command: ["no-such-program"] });
    expect(await text(session.stdout)).toContain("no-such-program");
    expect([126, 127]).toContain(await session.ended);
  });

  it("ends what it left running: its children, those that ignore SIGTERM, those of another user; and nothing else", async () => {
    const left = "trap '' TERM HUP; setpriv --reuid 1000 --clear-groups sleep 621 & sleep 622 & wait";
    await exec("left", left);
    await exec("other", "sleep 623");
    await until(
      "all of them running",
      async () => (await lines()).filter((line) => line.startsWith("sleep 62")).length === 3,
    );
    await stage.target.endExec(place, TASK, "left");
    expect((await lines()).filter((line) => line.startsWith("sleep")).sort()).toEqual(["sleep 600", "sleep 623"]);
    await stage.target.endExec(place, TASK, "other");
    expect((await lines()).filter((line) => line.startsWith("sleep"))).toEqual(["sleep 600"]);
    const filters = { label: [`shipway.instance=${stage.instance}`, "shipway.role=helper"] };
    expect(await stage.docker.listContainers({ all: true, filters })).toEqual([]);
  });

  it("refuses a container that is paused, as a standby is", async () => {
    await container().pause();
    const refused = stage.target.exec(place, TASK, { id: "paused", command: ["true"] });
    await expect(refused).rejects.toMatchObject({
      code: "TASK_NOT_RUNNING",
      hint: expect.stringContaining("shipway run"),
    });
    await stage.target.endExec(place, TASK, "paused");
    await container().unpause();
  });
});
