import type { AddressInfo } from "node:net";
import { PassThrough, Readable } from "node:stream";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { readEvents } from "../events/event-stream.ts";
import { newDeliveredApp, newTestPlatform, type TestPlatform } from "../http/testing.ts";
import { openExecSession } from "../release/exec-sessions.ts";
import { newRelease, newService } from "../rollout/testing.ts";
import { until } from "../shared/until.ts";
import type { CliContext, RawIo } from "./context.ts";
import { newTestCli, type TestCli } from "./testing.ts";

const place = { app: "shop", environment: "production" };
const TASK = "shop.production.web.r2-1";
let test: TestPlatform;
let cli: TestCli;
let url: string;
let operator: string;
beforeAll(async () => {
  test = await newTestPlatform();
  await newDeliveredApp(test, "shop");
  await test.platform.secrets.set(place, "API_KEY", "s3cr3t-value", "ada");
  const { target } = test.platform;
  const nothing = { env: {}, secrets: {} };
  for (const number of [1, 2]) {
    const release = newRelease(number, [newService("web", { count: 2 })]);
    for (const service of release.services) await target.startService(place, release, service, nothing);
  }
  await test.server.listen({ port: 0, host: "127.0.0.1" });
  url = `http://127.0.0.1:${(test.server.server.address() as AddressInfo).port}`;
  operator = await test.tokenFor("operator");
  cli = await newTestCli();
});
afterEach(() => {
  test.onTargetCall.current = () => undefined;
});
afterAll(async () => {
  await cli?.close();
  await test?.close();
});

/** What goes in and comes out, as a pipe or as a terminal. */
function newIo(stdin: Readable, terminal?: { columns: number; rows: number }) {
  const text = { out: "", err: "" };
  const rawModes: boolean[] = [];
  const listeners = new Set<() => void>();
  const size = { ...(terminal ?? { columns: 80, rows: 24 }) };
  const sink = (name: "out" | "err") =>
    new PassThrough().on("data", (chunk: Buffer) => {
      text[name] += chunk.toString("utf8");
    });
  const raw: RawIo = {
    stdin,
    out: sink("out"),
    err: sink("err"),
    setRaw: (on) => void rawModes.push(on),
    size: () => size,
    onResize(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  const isTTY = { in: terminal !== undefined, out: terminal !== undefined, err: terminal !== undefined };
  const resize = (columns: number, rows: number) => {
    Object.assign(size, { columns, rows });
    for (const listener of listeners) listener();
  };
  return { text, rawModes, listeners, resize, changes: { raw, isTTY } };
}

async function exec(argv: string[], changes: Partial<CliContext> = {}, token = operator) {
  return cli.run(["--server", url, "--token", token, "exec", "--app", "shop", ...argv], changes);
}
const execEvents = async () =>
  (await readEvents(test.platform.store.db, { app: "shop", limit: 1_000 })).filter(({ kind }) =>
    kind.startsWith("exec."),
  );

describe("shipway exec", () => {
  it("pipes stdin, stdout and stderr apart, as they are, and passes the exit code on", async () => {
    const bytes = Buffer.from([0, 255, 10, 1, 2, 254]);
    const chunks: Buffer[] = [];
    const { changes } = newIo(Readable.from([bytes, Buffer.from("end")]));
    changes.raw.out.on("pipe", () => undefined);
    (changes.raw.out as PassThrough).on("data", (chunk: Buffer) => chunks.push(chunk));
    expect((await exec(["web", "--", "cat"], changes)).code).toBe(0);
    expect(Buffer.concat(chunks)).toEqual(Buffer.concat([bytes, Buffer.from("end")]));

    const other = newIo(Readable.from([]));
    expect((await exec(["web", "--", "warn careful"], other.changes)).code).toBe(0);
    expect(other.text).toEqual({ out: "", err: "careful\n" });
    expect((await exec(["web", "--", "exit 42"], newIo(Readable.from([])).changes)).code).toBe(42);
  });

  it("takes megabytes through", async () => {
    const { text, changes } = newIo(Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(65_536, "x"))));
    expect((await exec(["web", "--", "cat"], changes)).code).toBe(0);
    expect(text.out.length).toBe(64 * 65_536);
  });

  it("gives the command a terminal where there is one, with its size, and puts ours back", async () => {
    const stdin = new PassThrough();
    const io = newIo(stdin, { columns: 100, rows: 30 });
    const running = exec(["web", "--", "size"], io.changes);
    await until("the first size", () => io.text.out === "100x30\n");
    io.resize(120, 40);
    await until("the second", () => io.text.out === "100x30\n120x40\n");
    stdin.end();
    expect((await running).code).toBe(0);
    expect(io.rawModes).toEqual([true, false]);
    expect(io.listeners.size).toBe(0);
  });

  it("gives none with --no-tty", async () => {
    const io = newIo(Readable.from([]), { columns: 100, rows: 30 });
    expect((await exec(["web", "--no-tty", "--", "size"], io.changes)).code).toBe(0);
    expect(io).toMatchObject({ text: { out: "" }, rawModes: [] });
  });

  it("goes into the first running task of the live release, or the one that is named, or a backing service", async () => {
    const into = async (...argv: string[]) => {
      const { code, err } = await exec([...argv, "--", "exit 0"]);
      return code === 0 ? test.platform.target.effects.at(-1) : err;
    };
    expect(await into("web")).toBe(`exec ${TASK}`);
    expect(await into("web", "--task", "shop.production.web.r2-2")).toBe("exec shop.production.web.r2-2");
    expect(await into("web", "--task", "shop.production.web.r1-1")).toBe("exec shop.production.web.r1-1");
    expect(await into("web", "--task", "none")).toContain("web has no running task none");
    expect(await into("db")).toContain("There are web.");
    await test.platform.backings.put(place, "db", { engine: "redis" }, { actor: "ada" });
    expect(await into("db")).toBe("exec db");
  });

  it("is on the record, with secrets masked, before it begins and when it has ended", async () => {
    const before = (await execEvents()).length;
    await exec(["web", "--", "sh", "-c", "echo s3cr3t-value; exit 3"]);
    const [started, ended, ...more] = (await execEvents()).slice(before);
    expect(started).toMatchObject({
      kind: "exec.started",
      actor: "operator",
      environment: "production",
      data: { service: "web", task: TASK, command: "sh -c 'echo ****; exit 3'", terminal: false },
    });
    expect(ended).toMatchObject({ kind: "exec.ended", data: { status: "exited", exitCode: 3, task: TASK } });
    expect(more).toEqual([]);
  });

  it("ends the command when its client leaves by Ctrl-C", async () => {
    const stop = new AbortController();
    const running = exec(["web", "--", "cat"], { ...newIo(new PassThrough()).changes, interrupted: stop.signal });
    const count = (await execEvents()).length;
    await until("it running", async () => (await execEvents()).length > count);
    stop.abort();
    expect((await running).code).toBe(130);
    const ended = await until("its end on the record", async () => {
      const last = (await execEvents()).at(-1);
      return last?.kind === "exec.ended" && last;
    });
    expect(ended.data).toMatchObject({ status: "cut-off" });
    expect(test.platform.target.effects.at(-1)).toBe(`end exec ${String(ended.data.execId)}`);
  });

  it("says so when the connection is lost", async () => {
    const running = exec(["web", "--", "cat"], newIo(new PassThrough()).changes);
    const count = (await execEvents()).length;
    await until("it running", async () => (await execEvents()).length > count);
    for (const client of test.server.websocketServer.clients) client.terminate();
    expect(await running).toMatchObject({
      code: 75,
      err: expect.stringContaining("was lost, and the command was ended"),
    });
  });

  it("ends after a restart what the process before left running, and nothing that goes on", async () => {
    const { store, execs } = test.platform;
    const shown = { service: "web", task: TASK, command: "cat", terminal: false, actor: "ada" };
    const { id } = await openExecSession(store.db, { ...place, ...shown });
    const live = await execs.open(place, { service: "web", command: ["cat"] }, "ada");
    await execs.endLeft();
    const ended = (await execEvents()).filter(({ kind }) => kind === "exec.ended");
    expect(ended.at(-1)?.data).toMatchObject({ execId: id, status: "cut-off" });
    expect(live.session.stdout.readableEnded).toBe(false);
    live.session.stdin.end();
    await live.end({ status: "exited", exitCode: 0 });
  });

  it("ends what it can when one of them is out of reach, and tries that one again", async () => {
    const { store, execs } = test.platform;
    const shown = { service: "web", task: TASK, command: "cat", terminal: false, actor: "ada" };
    const [one, other] = [
      await openExecSession(store.db, { ...place, ...shown }),
      await openExecSession(store.db, { ...place, ...shown }),
    ];
    let calls = 0;
    test.onTargetCall.current = (method) => {
      if (method === "endExec" && calls++ === 0) throw new Error("out of reach");
    };
    await expect(execs.endLeft()).rejects.toThrow("out of reach");
    const endedIds = async () =>
      (await execEvents()).flatMap(({ kind, data }) => (kind === "exec.ended" ? [data.execId] : []));
    expect((await endedIds()).filter((id) => id === one.id || id === other.id)).toHaveLength(1);
    await execs.endLeft();
    expect((await endedIds()).filter((id) => id === one.id || id === other.id)).toHaveLength(2);
  });

  it("leaves it to the runtime whether a task runs that is named as in lines of output", async () => {
    const named = (task: string) => exec(["web", "--task", task, "--", "ls"]);
    expect((await named("shop.production.web.r2-3fa9c1d2")).err).toContain(
      "shop.production.web.r2-3fa9c1d2 does not run now",
    );
    expect((await named("shop.production.web.r2-9")).err).toContain("web has no running task shop.production.web.r2-9");
    expect((await named("shop.production.api.r2-3fa9c1d2")).err).toContain("web has no running task");
  });

  it("notes a command that could not begin", async () => {
    test.onTargetCall.current = (method) => {
      if (method === "exec") throw new Error("the engine is confused");
    };
    expect(await exec(["web", "--", "cat"])).toMatchObject({ code: 70 });
    expect((await execEvents()).at(-1)?.data).toMatchObject({ status: "failed" });
  });

  it.each([
    [["web"], "`shipway exec web -- COMMAND`"],
    [["web", "--env", "nowhere", "--", "ls"], "has no environment nowhere"],
  ])("refuses %j with the next thing to do", async (argv, hint) => {
    expect(await exec(argv)).toMatchObject({ code: 2, err: expect.stringContaining(hint) });
  });

  it("needs an operator of the app, and a known token", async () => {
    const tester = await test.tokenFor("tester");
    const elsewhere = await test.tokenFor("admin", "blog");
    for (const token of [tester, elsewhere])
      expect(await exec(["web", "--env", "production", "--", "ls"], {}, token)).toMatchObject({
        code: 2,
        err: expect.stringContaining("this needs operator"),
      });
    expect((await exec(["web", "--env", "production", "--", "ls"], {}, "shw_none")).err).toContain(
      "unknown or was revoked",
    );
  });

  it("takes no more than ten at once in an environment", async () => {
    const { execs } = test.platform;
    const open = [];
    for (let n = 0; n < 10; n++) open.push(await execs.open(place, { service: "web", command: ["cat"] }, "ada"));
    expect(await exec(["web", "--", "ls"])).toMatchObject({ code: 2, err: expect.stringContaining("10 commands") });
    for (const one of open) await one.end({ status: "cut-off" });
  });
});
