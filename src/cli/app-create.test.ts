import { chmod, mkdir, stat, writeFile } from "node:fs/promises";
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

  it("lets git ask for the token by the helper alone, through a path that needs quotes", async () => {
    const helper = join(cli.dir, "it's a helper.sh");
    await writeFile(helper, '#!/bin/sh\ncat >/dev/null\necho "username=$*"\necho password=from-helper\n');
    await chmod(helper, 0o755);
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    const ask = join(cli.dir, "ask.sh");
    const { protocol, host } = new URL(server.url);
    await writeFile(
      ask,
      `#!/bin/sh\nprintf 'protocol=${protocol.slice(0, -1)}\\nhost=${host}\\n\\n' | git credential fill\n`,
    );
    const { stdout } = await runProgram(["sh", ask], { cwd: checkout });
    expect(stdout).toContain(`username=git-credential --file ${cli.credentialsFile} get\n`);
    expect(stdout).toContain("password=from-helper\n");
    expect((await git("config", "--local", "--get-all", `credential.${server.url}.helper`)).split("\n")).toHaveLength(
      1,
    );
  });

  it("starts no program when git only wants to store or erase the token", async () => {
    const helper = join(cli.dir, "helper.sh");
    const called = join(cli.dir, "called");
    await writeFile(helper, `#!/bin/sh\necho "$*" >> '${called}'\n`);
    await chmod(helper, 0o755);
    await cli.run(["app", "create", "launches"], { cwd: checkout, selfCommand: [helper] });
    const { protocol, host } = new URL(server.url);
    const ask = join(cli.dir, "ask.sh");
    const given = `printf 'protocol=${protocol.slice(0, -1)}\\nhost=${host}\\nusername=a\\npassword=b\\n\\n'`;
    await writeFile(ask, `#!/bin/sh\n${given} | git credential approve\n${given} | git credential reject\n`);
    await runProgram(["sh", ask], { cwd: checkout });
    await expect(stat(called)).rejects.toMatchObject({ code: "ENOENT" });
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
