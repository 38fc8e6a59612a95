import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TaskRun } from "../http/schemas.ts";
import { newDeliveredApp, newTestPlatform, type TestPlatform } from "../http/testing.ts";
import { until } from "../shared/until.ts";
import { runTask } from "../workflow/task-run.ts";
import type { CliContext } from "./context.ts";
import { newTestCli, type TestCli } from "./testing.ts";

let test: TestPlatform;
let cli: TestCli;
let url: string;
let operator: string;
beforeAll(async () => {
  test = await newTestPlatform();
  const { platform, server } = test;
  await newDeliveredApp(test, "shop");
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  platform.engine.startTaskRun = async (id) => {
    void runTask({ ...platform, sealer: platform.infra.sealer, log }, id, (_name, fn) => fn());
  };
  await server.listen({ port: 0, host: "127.0.0.1" });
  url = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
  operator = await test.tokenFor("operator");
  cli = await newTestCli();
});
afterAll(async () => {
  await cli?.close();
  await test?.close();
});

const shipway = (argv: string[], changes: Partial<CliContext> = {}, token = operator) =>
  cli.run(["--server", url, "--token", token, ...argv], changes);
const inShop = ["--app", "shop"];
const listed = async (): Promise<TaskRun[]> => JSON.parse((await shipway(["runs", ...inShop, "--json"])).out);

describe("shipway run", () => {
  it("shows what the command prints and passes its exit code on", async () => {
    const ended = await shipway(["run", "web", ...inShop, "--", "sh", "-c", "echo hello; exit 3"]);
    expect(ended).toMatchObject({ code: 3, out: "hello\n" });
    const [run] = await listed();
    expect(ended.err).toBe(
      `✗ ${run?.id} exited with 3 after ${ended.err.match(/after (.*)\./)?.[1]}.\n  → Its output is kept: \`shipway logs --run ${run?.id}\`\n`,
    );
    expect(run).toMatchObject({
      actor: "operator",
      command: "sh -c 'echo hello; exit 3'",
      status: "failed",
      exitCode: 3,
      release: 2,
    });
    expect((await shipway(["logs", "--run", run?.id ?? ""])).out).toBe("hello\n");
  });

  it("says nothing of its own when the command succeeds", async () => {
    expect(await shipway(["run", "web", ...inShop, "--", "echo done"])).toEqual({ code: 0, out: "done\n", err: "" });
  });

  it("leaves the options behind the dashes to the command", async () => {
    const line = ["run", ...inShop, "web", "--", "echo", "--token", "--app", "-x"];
    expect((await shipway(line)).code).toBe(0);
    expect((await listed())[0]?.command).toBe("echo --token --app -x");
  });

  it("gives the ended run as JSON, and nothing else on stdout", async () => {
    const ended = await shipway(["run", "web", ...inShop, "--json", "--release", "r1", "--", "echo hi; exit 2"]);
    expect(ended.code).toBe(2);
    expect(JSON.parse(ended.out)).toMatchObject({ status: "failed", exitCode: 2, release: 1 });
    expect(ended.err).toContain("hi\n");
  });

  it("stops the command at Ctrl-C, waits for its end, and exits with 130", async () => {
    const stop = new AbortController();
    const running = shipway(["run", "web", ...inShop, "--", "sleep 60"], { interrupted: stop.signal });
    await until("it running", async () => (await listed())[0]?.command === "'sleep 60'");
    stop.abort();
    expect(await running).toMatchObject({ code: 130, err: expect.stringContaining("was stopped") });
    expect((await listed())[0]).toMatchObject({ status: "canceled", canceledBy: "operator" });
  });

  it("stops the command when its time is over, and exits as `timeout` does", async () => {
    const ended = await shipway(["run", "web", ...inShop, "--timeout", "1s", "--", "sleep 60"]);
    expect(ended).toMatchObject({ code: 124, err: expect.stringContaining("its time was over") });
  });

  it("returns at once when asked to, and the run can be followed and stopped", async () => {
    const { out, code, err } = await shipway(["run", "web", ...inShop, "--detach", "--", "echo begun; sleep 60"]);
    const id = out.trim();
    expect({ code, id, err }).toMatchObject({
      code: 0,
      id: expect.stringMatching(/^run_/),
      err: expect.stringContaining(id),
    });
    expect((await shipway(["runs", ...inShop])).out).toMatch(new RegExp(`${id} .*running`));
    await until("its first line", async () => (await shipway(["logs", "--run", id])).out === "begun\n");
    expect((await shipway(["cancel", id])).code).toBe(0);
    const shown = await shipway(["runs", id]);
    expect(shown.out).toContain("begun\n  canceled");
    expect((await shipway(["cancel", id])).code).toBe(2);
  });

  it.each([
    [["run", "web", ...inShop], "`shipway run web -- COMMAND`"],
    [["run", "web", "ls", ...inShop], "`shipway run SERVICE -- COMMAND`"],
    [["run", "api", ...inShop, "--", "ls"], "Its services are web."],
    [["run", "web", ...inShop, "--env", "nowhere", "--", "ls"], "ENVIRONMENT"],
    [["run", "web", ...inShop, "--timeout", "2", "--", "ls"], "--help"],
    [["runs", "run_none"], "`shipway runs` lists"],
  ])("refuses %j with the next thing to do", async (argv, hint) => {
    const refused = await shipway(argv);
    expect(refused.code).toBe(2);
    expect(refused.err).toContain(hint === "ENVIRONMENT" ? "has no environment nowhere" : hint);
  });

  it("needs an operator; whoever may look sees who ran what", async () => {
    const tester = await test.tokenFor("tester");
    const refused = await shipway(["run", "web", ...inShop, "--", "ls"], {}, tester);
    expect(refused).toMatchObject({ code: 2, err: expect.stringContaining("this needs operator") });
    expect((await shipway(["runs", ...inShop], {}, tester)).code).toBe(0);
    expect((await shipway(["events", ...inShop], {}, tester)).out).toMatch(
      /run\.started .*by operator .*command=sh -c/,
    );
  });
});
