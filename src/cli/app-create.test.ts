import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runProgram } from "../shared/run-program.ts";
import { rememberServer } from "./credentials.ts";
import { newTestCli, startTestServer, type TestCli, type TestServer, TOKEN } from "./testing.ts";

let server: TestServer;
let cli: TestCli;
let checkout: string;

beforeEach(async () => {
  server = await startTestServer((app) => {
    app.post<{ Body: { name: string } }>("/api/apps", async ({ body }, reply) =>
      reply.status(201).send({
        name: body.name,
        gitUrl: `${server.url}/git/${body.name}.git`,
        createdAt: "2026-11-23T10:00:00.000Z",
        environments: [],
      }),
    );
  });
  cli = await newTestCli(server.url);
  checkout = join(cli.dir, "check out");
  await mkdir(checkout);
  await git("init", "--quiet", "--initial-branch", "trunk");
});
afterEach(async () => {
  await server.close();
  await cli.close();
});

const git = async (...args: string[]) => (await runProgram(["git", ...args], { cwd: checkout })).stdout.trim();
const create = (...args: string[]) => cli.run(["app", "create", ...args], { cwd: checkout });

describe("app create in a checkout", () => {
  it("adds the remote and says how to push", async () => {
    const { code, err } = await create("launches");
    expect(code).toBe(0);
    expect(await git("remote", "get-url", "shipway")).toBe(`${server.url}/git/launches.git`);
    expect(err).toContain("The git remote `shipway` was added.\n  Next: `git push shipway trunk`\n");
  });

  it("changes a remote that leads elsewhere", async () => {
    await git("remote", "add", "shipway", "http://elsewhere/x.git");
    expect((await create("launches")).err).toContain("was changed");
    expect(await git("remote", "get-url", "shipway")).toBe(`${server.url}/git/launches.git`);
  });

  it("writes the token into no git configuration", async () => {
    await create("launches");
    expect(await git("config", "--local", "--list")).not.toContain(TOKEN);
  });

  /** What git finds for this server, or what it does when told to keep or drop a token. */
  async function credential(operation: "fill" | "approve" | "reject", given = ""): Promise<string> {
    const { protocol, host } = new URL(server.url);
    const ask = join(cli.dir, "ask.sh");
    const input = `protocol=${protocol.slice(0, -1)}\\nhost=${host}\\n${given}\\n`;
    await writeFile(ask, `#!/bin/sh\nprintf '${input}' | git credential ${operation}\n`);
    return (await runProgram(["sh", ask], { cwd: checkout })).stdout;
  }

  /** A program that is no token of ours, at a path that needs quotes, and that leaves a trace. */
  async function newHelper(): Promise<{ helper: string; calls(): Promise<string> }> {
    const [helper, called] = [join(cli.dir, "it's a helper.sh"), join(cli.dir, "called")];
    await writeFile(
      helper,
      `#!/bin/sh\ncat >/dev/null\necho "$*" >>'${called}'\necho username=a\necho password=from-helper\n`,
    );
    await chmod(helper, 0o755);
    return { helper, calls: () => readFile(called, "utf8").catch(() => "") };
  }

  it("lets git find the token in the user's file, with no program started", async () => {
    const { helper, calls } = await newHelper();
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    expect(await credential("fill")).toContain(`username=shipway\npassword=${TOKEN}\n`);
    await credential("approve", "username=a\\npassword=b\\n");
    await credential("reject", "username=a\\npassword=b\\n");
    expect(await calls()).toBe("");
    expect((await git("config", "--local", "--get-all", `credential.${server.url}.helper`)).split("\n")).toHaveLength(
      1,
    );
  });

  it("lets git ask the program when the file does not know the server as written", async () => {
    const { helper, calls } = await newHelper();
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    await writeFile(cli.credentialsFile, JSON.stringify({ servers: { [server.url]: { token: TOKEN } } }));
    expect(await credential("fill")).toContain("password=from-helper\n");
    expect(await calls()).toBe(`git-credential --file ${cli.credentialsFile} get\n`);
  });

  it("leaves the checkout alone with --no-remote", async () => {
    expect((await create("launches", "--no-remote")).code).toBe(0);
    expect(await git("remote")).toBe("");
  });

  it("takes the name from shipway.yml, and warns when another is given", async () => {
    await writeFile(join(checkout, "shipway.yml"), "app: shop\nservices: {}\n");
    expect((await create()).err).toContain("The app shop is there");
    expect((await create("launches")).err).toContain("change it to `app: launches` before you push");
  });
});

describe("git-credential", () => {
  const ask = (operation: string, text: string, environment = {}) =>
    cli.run(["git-credential", operation, "--file", cli.credentialsFile], { readStdin: async () => text, environment });
  const question = (url: string) =>
    `protocol=${new URL(url).protocol.slice(0, -1)}\nhost=${new URL(url).host}\nwwwauth[]=Basic\n\n`;

  it("answers for the stored server", async () => {
    expect(await ask("get", question(server.url))).toEqual({
      code: 0,
      out: `username=shipway\npassword=${TOKEN}\n`,
      err: "",
    });
  });

  it.each(["http://127.0.0.1:9", "https://shipway.example.com"])("says nothing to %s", async (url) => {
    const environment = { SHIPWAY_SERVER: "http://localhost:7420", SHIPWAY_TOKEN: "other" };
    expect(await ask("get", question(url), environment)).toEqual({ code: 0, out: "", err: "" });
  });

  it("answers from the environment for the environment's server", async () => {
    const environment = { SHIPWAY_SERVER: "http://localhost:7420", SHIPWAY_TOKEN: "other" };
    expect((await ask("get", question("http://localhost:7420"), environment)).out).toContain("password=other\n");
  });

  it("stores and erases nothing", async () => {
    await rememberServer(cli.credentialsFile, server.url, TOKEN);
    expect(await ask("erase", question(server.url))).toEqual({ code: 0, out: "", err: "" });
    expect((await ask("get", question(server.url))).out).toContain(TOKEN);
  });
});
