import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errorCode } from "../../../shared/errors.ts";
import type { LogLine } from "../../../shared/log-line.ts";
import { until } from "../../../shared/until.ts";
import type { OneOffRun } from "../../target.ts";
import { newService } from "../../testing.ts";
import { LABEL } from "./names.ts";
import { type DockerStage, newDockerStage } from "./testing.ts";

const place = { app: "shop", environment: "runs" };
const service = newService("web", { image: "debian:bookworm-slim", stopTimeoutMs: 5_000 });
const release = { app: "shop", number: 1, services: [service] };

describe("a command that a person asked for, on a real engine", () => {
  let stage: DockerStage;
  beforeAll(async () => {
    stage = await newDockerStage();
    await stage.target.prepare(place, release);
  });
  afterAll(() => stage?.cleanUp());

  const ask = async (
    key: string,
    command: string[],
    more: Partial<OneOffRun["asked"] & object> = {},
    signal?: AbortSignal,
  ) => {
    const lines: LogLine[] = [];
    const asked = { wasBegun: false, begin: async () => undefined, ...more };
    const run = { key, service: "web", command, variables: { env: {}, secrets: {} }, deadlineMs: 30_000, asked };
    const result = stage.target.runOnce(place, release, run, (some) => void lines.push(...some), signal);
    return { result, lines };
  };
  const containerOf = async (key: string) => {
    const filters = { label: [`${LABEL.instance}=${stage.instance}`, `${LABEL.run}=${key}`] };
    return (await stage.docker.listContainers({ all: true, filters }))[0];
  };
  const startedContainer = (key: string) =>
    until("its container running", async () => {
      const found = await containerOf(key);
      return found?.State === "running" && found;
    });

  it("tells stdout from stderr, and passes the exit code", async () => {
    const { result, lines } = await ask("streams", ["sh", "-c", "echo one; echo two >&2; exit 9"]);
    expect(await result).toEqual({ exitCode: 9, outOfMemory: false, timedOut: false });
    expect(lines.map(({ stream, text }) => `${stream} ${text}`).sort()).toEqual(["err two", "out one"]);
  });

  it("says 127 of a program that is not there and 126 of one that is none, with the engine's words", async () => {
    const { result, lines } = await ask("missing", ["no-such-program"]);
    expect((await result).exitCode).toBe(127);
    expect(lines).toMatchObject([{ stream: "err", text: expect.stringMatching(/no-such-program.*not found/) }]);
    expect((await (await ask("folder", ["/etc"])).result).exitCode).toBe(126);
  });

  it("gets SIGTERM when nobody wants it any more, and the time to end well", async () => {
    const stop = new AbortController();
    const reason = new Error("canceled");
    const script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    const { result, lines } = await ask("graceful", ["sh", "-c", script], {}, stop.signal);
    const rejected = expect(result).rejects.toBe(reason);
    await until("it being ready", () => lines.some(({ text }) => text === "ready"));
    stop.abort(reason);
    await rejected;
    expect((await containerOf("graceful"))?.Status).toMatch(/^Exited \(0\)/);
  });

  it("is found again while it runs, with its whole output, and is not run twice", async () => {
    const script = "echo begun; sleep 2; echo done";
    const { result, lines } = await ask("again", ["sh", "-c", script]);
    await startedContainer("again");
    const second = await ask("again", ["sh", "-c", "echo other"], { wasBegun: true });
    expect(await result).toEqual(await second.result);
    const said = (some: LogLine[]) => some.map(({ text }) => text);
    expect(said(lines)).toEqual(["begun", "done"]);
    expect(said(second.lines)).toEqual(["begun", "done"]);
  });

  it("is never begun again when somebody removes its container, while it runs or after", async () => {
    const { result } = await ask("lost", ["sleep", "30"]);
    // The engine kills it first: whoever looks in that moment sees the signal, whoever looks later nothing.
    const outcome = result.then(
      ({ exitCode }) => exitCode,
      (error: unknown) => errorCode(error),
    );
    await stage.docker.getContainer((await startedContainer("lost")).Id).remove({ force: true });
    expect([137, "RUN_OUTCOME_UNKNOWN"]).toContain(await outcome);
    const again = await ask("lost", ["sleep", "30"], { wasBegun: true });
    await expect(again.result).rejects.toMatchObject({ code: "RUN_OUTCOME_UNKNOWN" });
    expect(await containerOf("lost")).toBeUndefined();
  });

  it("is confined like a task: the same memory, no more rights, no restart", async () => {
    await (await ask("confined", ["true"])).result;
    const { Id = "" } = (await containerOf("confined")) ?? {};
    const { HostConfig } = await stage.docker.getContainer(Id).inspect();
    expect(HostConfig).toMatchObject({
      Memory: service.memoryMiB * 1024 * 1024,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      RestartPolicy: { Name: "no" },
    });
    await stage.target.forgetRun(place, "confined");
    expect(await containerOf("confined")).toBeUndefined();
  });
});
