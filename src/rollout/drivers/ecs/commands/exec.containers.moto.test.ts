import { buffer, text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../../shared/new-id.ts";
import { until } from "../../../../shared/until.ts";
import { type Place, type Release, type ReleaseService, taskName } from "../../../release.ts";
import type { ExecRequest, RolloutTarget } from "../../../target.ts";
import { newService } from "../../../testing.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { type AwsStage, hasEngine, newAwsStage, targetOptions, withExec } from "../testing.ts";

const place: Place = { app: "shop", environment: "inside" };
const DEBIAN = "debian:bookworm-slim";
const WITHIN = { withinMs: 60_000, everyMs: 200 };

describe.skipIf(!hasEngine)("ECS Exec into real containers", { timeout: 120_000 }, () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  const worker = newService("worker", { image: DEBIAN, command: ["sleep", "1000"], port: undefined });
  beforeAll(async () => {
    stage = await newAwsStage({ containers: "docker" });
    target = await openEcsTarget(
      targetOptions(stage, {
        settings: withExec(stage.settings),
        times: { ...targetOptions(stage).times, startAllowanceMs: 90_000, execAgentMs: 30_000 },
      }),
    );
    await start(1, [worker]);
  }, 180_000);
  afterAll(() => stage?.cleanUp());
  afterEach(async () => {
    expect(await stage?.exec()).toEqual([]);
  });

  async function start(number: number, services: ReleaseService[]): Promise<void> {
    const release: Release = { app: place.app, number, services };
    await target.prepare(place, release);
    for (const service of services)
      await target.startService(place, release, service, { env: { COLOR: "blue" }, secrets: {} });
    const report = await target.awaitHealthy(place, release, services, {
      deadlineMs: 90_000,
      onProgress: () => undefined,
    });
    expect(report).toMatchObject({ status: "healthy" });
  }
  const exec = async (line: string, request: Partial<ExecRequest> = {}) => {
    const id = newId("x");
    const asked = { id, command: ["sh", "-c", line], ...request };
    const session = await target.exec(place, taskName(place, "worker", 1, 1), asked);
    return { id, session, output: Promise.all([text(session.stdout), text(session.stderr)]) };
  };
  const printed = async (line: string) => (await (await exec(line)).output)[0];

  it("is in the container itself, as root, with its variables", async () => {
    const { session, output } = await exec(
      "hostname; id -u; echo $COLOR; cat /proc/1/cmdline | tr '\\0' ' '; echo oops >&2; exit 9",
    );
    const [out, err] = await output;
    expect(out).toMatch(/^\S+\n0\nblue\n.*sleep 1000 $/);
    expect(err).toBe("oops\n");
    expect(await session.ended).toBe(9);
  });

  it("has a terminal that follows the window, and takes Ctrl-C", async () => {
    const line = "echo $TERM; stty size; trap 'stty size; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    const { session, output } = await exec(line, { terminal: { columns: 91, rows: 33, type: "vt100" } });
    let seen = "";
    session.stdout.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await until("it being ready", () => seen.includes("ready"), WITHIN);
    await session.resize({ columns: 120, rows: 40 });
    session.stdin.write("\u0003");
    expect(await session.ended).toBe(5);
    expect((await output)[0].replaceAll("\r", "")).toMatch(/^vt100\n33 91\nready\n(\^C)?40 120\n$/);
  });

  it("carries a file of half a megabyte into a container, and out of it again", async () => {
    const into = await exec("cat >/tmp/file; sha256sum </tmp/file");
    const bytes = Buffer.alloc(500_000, "\u0000\u0001\u001e.\r\n\u00ff", "latin1");
    into.session.stdin.end(bytes);
    const [sum] = await into.output;
    const id = newId("x");
    const out = await target.exec(place, taskName(place, "worker", 1, 1), { id, command: ["cat", "/tmp/file"] });
    expect((await buffer(out.stdout)).equals(bytes)).toBe(true);
    expect(await printed("sha256sum </tmp/file")).toBe(sum);
  });

  it("ends what it left running: children, those that ignore signals, those of another user; and nothing else", async () => {
    const left = await exec("trap '' TERM HUP; setpriv --reuid 1000 --clear-groups sleep 621 & sleep 622 & wait");
    const other = await exec("sleep 623");
    const sleeps = async () =>
      (await printed("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null; echo; done"))
        .split("\n")
        .filter((line) => /^sleep \d+ $/.test(line))
        .map((line) => line.trim())
        .sort();
    await until("all of them running", async () => (await sleeps()).length === 4, WITHIN);
    await target.endExec(place, taskName(place, "worker", 1, 1), left.id);
    expect(await sleeps()).toEqual(["sleep 1000", "sleep 623"]);
    await target.endExec(place, taskName(place, "worker", 1, 1), other.id);
    expect(await sleeps()).toEqual(["sleep 1000"]);
    for (const { session } of [left, other]) await session.ended.catch(() => undefined);
  });

  it("goes with its task, and says so", async () => {
    await start(2, [{ ...worker, name: "brief" }]);
    const task = taskName(place, "brief", 2, 1);
    const id = newId("x");
    const session = await target.exec(place, task, { id, command: ["sleep", "600"] });
    session.stdout.resume();
    session.stderr.resume();
    await target.stop(place, 2, ["brief"]);
    await expect(session.ended).rejects.toMatchObject({ code: "EXEC_CUT_OFF" });
    await target.endExec(place, task, id);
    await expect(target.exec(place, task, { id, command: ["true"] })).rejects.toMatchObject({
      code: "TASK_NOT_RUNNING",
    });
  });
});
