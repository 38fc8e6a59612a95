import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../../shared/new-id.ts";
import { Secret } from "../../../../shared/secret.ts";
import { until } from "../../../../shared/until.ts";
import { type Place, type Release, taskName } from "../../../release.ts";
import type { ExecRequest, RolloutTarget } from "../../../target.ts";
import { openEcsTarget } from "../ecs-target.ts";
import { serviceName } from "../names.ts";
import { type AwsStage, ecsService, hasMoto, newAwsStage, targetOptions, withExec } from "../testing.ts";

const place: Place = { app: "shop", environment: "exec" };
const variables = { env: { COLOR: "blue" }, secrets: { KEY: new Secret("KEY", "swordfish") } };
const WELL = { agent: "RUNNING", reason: null, connected: true, faults: {} } as const;

describe.skipIf(!hasMoto)("ECS Exec on the emulator, with an agent of ours", () => {
  let stage: AwsStage;
  let target: RolloutTarget;
  const opened = (changes: object = {}) =>
    openEcsTarget(targetOptions(stage, { settings: withExec(stage.settings), ...changes }));
  beforeAll(async () => {
    stage = await newAwsStage();
    target = await opened();
    await run(1, ["web", "worker"]);
  });
  afterAll(() => stage?.cleanUp());
  afterEach(async () => {
    expect(await stage?.exec(WELL)).toEqual([]);
  });

  const releaseOf = (number: number, services: string[], at = place): Release => ({
    app: at.app,
    number,
    services: services.map((name) => ecsService(at, name, name === "web" ? "web" : "worker", { count: 2 })),
  });
  const run = async (number: number, services: string[], by = target, at = place) => {
    const release = releaseOf(number, services, at);
    await by.prepare(at, release);
    for (const service of release.services) await by.startService(at, release, service, variables);
    await by.awaitHealthy(at, release, release.services, { deadlineMs: 30_000, onProgress: () => undefined });
    return release;
  };
  const TASK = taskName(place, "web", 1, 1);
  const exec = async (line: string, request: Partial<ExecRequest> = {}, by = target, task = TASK) => {
    const id = newId("x");
    const session = await by.exec(place, task, { id, command: ["sh", "-c", line], ...request });
    return { id, session, output: Promise.all([text(session.stdout), text(session.stderr)]) };
  };
  const codeOf = (running: Promise<unknown>) =>
    running.then(
      () => "began",
      (error: { code: string }) => error.code,
    );

  it("goes into a task by its number or by its id in lines of output, with the task's variables and secrets", async () => {
    const { session, output } = await exec("echo $COLOR $KEY");
    expect(await output).toEqual(["blue swordfish\n", ""]);
    expect(await session.ended).toBe(0);
    const { aws, settings } = stage;
    const { taskArns } = await aws.ecs.listTasks({
      cluster: settings.cluster,
      serviceName: serviceName("test", place, "web", "b"),
    });
    const id = taskArns?.[0]?.split("/").at(-1)?.slice(0, 8);
    expect(await (await exec("exit 4", {}, target, `shop.exec.web.r1-${id}`)).session.ended).toBe(4);
  });

  it("has the session's own words only in the call to AWS, and nothing of the command", async () => {
    const calls: { command: string; input: unknown }[] = [];
    const watching = await opened({
      aws: {
        endpoint: stage.endpoint,
        attempts: 1,
        speed: 1_000,
        onCall: (call: { command: string; input: unknown }) => void calls.push(call),
      },
    });
    const { id, session, output } = await exec("echo a-secret-in-the-command", {}, watching);
    expect((await output)[0]).toBe("a-secret-in-the-command\n");
    await session.ended;
    const [call] = calls.filter(({ command }) => command === "ExecuteCommand");
    expect(call?.input).toMatchObject({
      interactive: true,
      container: "web",
      command: expect.stringContaining(`SHIPWAY_EXEC=${id}`),
    });
    expect(JSON.stringify(calls)).not.toContain("a-secret-in-the-command");
  });

  it("waits for an agent that is just starting, and for one that AWS reaches only in a moment", async () => {
    for (const [before, after] of [
      [{ agent: "PENDING" }, { agent: "RUNNING" }],
      [{ connected: false }, { connected: true }],
    ] as const) {
      await stage.exec(before);
      const running = exec("exit 3");
      let began = false;
      void running.then(() => {
        began = true;
      });
      await stage.exec();
      expect(began).toBe(false);
      await stage.exec(after);
      expect(await (await running).session.ended).toBe(3);
    }
  });

  it("says why there is no agent, in AWS's words, or that AWS does not reach it", async () => {
    await stage.exec({ agent: "STOPPED", reason: "CannotStartContainerError" });
    await expect(exec("true")).rejects.toMatchObject({
      code: "EXEC_AGENT_DOWN",
      message: expect.stringContaining("STOPPED (CannotStartContainerError)"),
      hint: expect.stringContaining("task-exec.json"),
    });
    const hurried = await opened({ times: { ...targetOptions(stage).times, execAgentMs: 300 } });
    await stage.exec({ agent: "RUNNING", connected: false });
    await expect(exec("true", {}, hurried)).rejects.toMatchObject({
      code: "EXEC_AGENT_DOWN",
      message: expect.stringContaining("AWS does not reach it"),
    });
  });

  it("says what to do where it is not enabled: turn it on, or deploy what was started before", async () => {
    const off = { app: "shop", environment: "off" };
    const without = await openEcsTarget(targetOptions(stage));
    await run(1, ["worker"], without, off);
    const into = (by: RolloutTarget) =>
      by.exec(off, taskName(off, "worker", 1, 1), { id: newId("x"), command: ["true"] });
    await expect(into(without)).rejects.toMatchObject({
      code: "EXEC_NOT_ENABLED",
      hint: expect.stringContaining("aws: { exec: true }"),
    });
    await expect(into(target)).rejects.toMatchObject({
      code: "EXEC_NOT_ENABLED",
      hint: expect.stringContaining("It was started before"),
    });
    await run(2, ["worker"], target, off);
    const { ended } = await target.exec(off, taskName(off, "worker", 2, 1), { id: newId("x"), command: ["true"] });
    expect(await ended).toBe(0);
    // What is not enabled has nothing to end.
    await target.endExec(off, taskName(off, "worker", 1, 1), newId("x"));
  });

  it("is refused in public codes: sessions with a key, a connection that is denied", async () => {
    await stage.exec({ faults: { encrypt: true } });
    expect(await codeOf(exec("true"))).toBe("EXEC_ENCRYPTED");
    await stage.exec({ faults: { deny: true } });
    await expect(exec("true")).rejects.toMatchObject({
      code: "AWS_DENIED",
      hint: expect.stringContaining(
        '"Action":"ssmmessages:OpenDataChannel","Resource":"arn:aws:ssm:eu-central-1:123456789012:session/ecs-execute-command-*"',
      ),
    });
  });

  it("rejects its end when AWS cuts it off, and what is left is ended by another process, in whichever task it is", async () => {
    await stage.exec({ faults: { cut_after: 500 } });
    const { id, session } = await exec(
      "while :; do echo line; sleep 0.02; done",
      {},
      target,
      taskName(place, "web", 1, 2),
    );
    session.stdout.resume();
    await expect(session.ended).rejects.toMatchObject({
      code: "EXEC_CUT_OFF",
      hint: expect.stringContaining("20 minutes"),
    });
    expect(await processesOf(id)).not.toEqual([]);
    await stage.exec(WELL);
    // Tasks are numbered by age: after one has gone, the name is another's. So all are looked into.
    await (await opened()).endExec(place, TASK, id);
    expect(await processesOf(id)).toEqual([]);
  });

  it("leaves the session of a client that is gone, and ends what it ran", async () => {
    const id = newId("x");
    const session = await target.exec(place, TASK, { id, command: ["yes"] });
    await until("more than is taken", () => session.stdout.readableLength > 0);
    await target.endExec(place, TASK, id);
    await session.ended.catch(() => undefined);
    expect(await processesOf(id)).toEqual([]);
    await target.endExec(place, TASK, id);
  });

  it("ends nothing where nothing began, whatever stands in the way", async () => {
    await stage.exec({ agent: "STOPPED" });
    const id = newId("x");
    await target.exec(place, TASK, { id, command: ["true"] }).catch(() => undefined);
    await target.endExec(place, TASK, id);
    await target.endExec(place, TASK, newId("x"));
    await target.endExec(place, "shop.exec.web.r9-1", newId("x"));
    await target.endExec(place, "nonsense", newId("x"));
  });

  it("is seen as drift when somebody turns it on or off", async () => {
    const at = { app: "shop", environment: "drift" };
    const live = await run(1, ["worker"], target, at);
    const drift = async (by: RolloutTarget) =>
      (await by.findDrift(at, { live: { release: live, variables: { worker: variables } }, inProgress: [] })).map(
        ({ kind, mendsItself, attributes }) => ({ kind, mendsItself, attributes }),
      );
    expect(await drift(target)).toEqual([]);
    const { aws, settings } = stage;
    const service = serviceName("test", at, "worker", "a");
    await aws.ecs.updateService({ cluster: settings.cluster, service, enableExecuteCommand: false });
    const changed = {
      kind: "changed",
      mendsItself: false,
      attributes: [{ path: "exec", before: "true", after: "false" }],
    };
    expect(await drift(target)).toEqual([changed, changed]);
  });

  async function processesOf(id: string): Promise<string[]> {
    const { session, output } = await exec(`grep -lzx SHIPWAY_EXEC=${id} /proc/[0-9]*/environ 2>/dev/null || :`);
    await session.ended;
    return (await output)[0].split("\n").filter((line) => line !== "");
  }
});
