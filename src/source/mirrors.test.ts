import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Fastify, { type FastifyInstance } from "fastify";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Secret } from "../shared/secret.ts";
import { until } from "../shared/until.ts";
import { gitCommand } from "./git-command.ts";
import { gitHttp } from "./git-http.ts";
import { gitMirrors, type Mirrors } from "./mirrors.ts";
import type { Remote } from "./remote-git.ts";
import { gitRepositories, type Repositories } from "./repositories.ts";
import { commitTo } from "./testing.ts";

const TOKEN = "shw_only-for-reading-1234567890";

let dir: string;
let elsewhere: Repositories;
let host: FastifyInstance;
let mirrors: Mirrors;
let remote: Remote;
let asked: { user: string; processes: string[] }[];
let waits: number[];
const git = () => elsewhere.git;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "shipway-mirrors-"));
  elsewhere = gitRepositories({ dir: join(dir, "elsewhere") });
  await elsewhere.create("infra");
  asked = [];
  waits = [];
  host = Fastify();
  await host.register(gitHttp, {
    repositories: elsewhere,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    onPush: async () => (async function* () {})(),
    authenticate: async ({ username, password }) => {
      asked.push({ user: username, processes: await commandLines() });
      return password === TOKEN ? { actor: "shipway", canRead: () => true, canWrite: () => false } : undefined;
    },
  });
  await host.listen({ port: 0, host: "127.0.0.1" });
  mirrors = newMirrors();
  remote = remoteAt(host.server.address() as AddressInfo);
});
afterEach(async () => {
  await host.close();
  await rm(dir, { recursive: true, force: true });
});

const newMirrors = (deadlineMs = 20_000) =>
  gitMirrors({
    dir: join(dir, "mirrors"),
    git: git(),
    remote: { deadlineMs, sleep: async (ms) => void waits.push(ms) },
  });

const remoteAt = ({ port }: AddressInfo, token = TOKEN): Remote => ({
  url: `http://127.0.0.1:${port}/git/infra.git`,
  over: "http",
  host: `127.0.0.1:${port}`,
  credential: new Secret("INFRA_TOKEN", token),
});

/** What every process of this machine was started with, as anybody on it can read. */
async function commandLines(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")));
}

const push = (message: string, ref = "refs/heads/main", parent?: string) =>
  commitTo(elsewhere, "infra", { ref, message, files: { "main.tf": message }, ...(parent && { parent }) });

describe("a mirror of a repository elsewhere", () => {
  it("gives the newest commit of the default branch, of a branch, of a tag and of a commit id", async () => {
    const first = await push("one");
    expect(await mirrors.resolve("shop", remote, undefined)).toEqual({ commit: first, refName: "main" });
    const second = await push("two");
    const other = await push("three", "refs/heads/feature/x");
    await push("four", "refs/tags/v1");
    expect((await mirrors.resolve("shop", remote, undefined)).commit).toBe(second);
    expect((await mirrors.resolve("shop", remote, "feature/x")).commit).toBe(other);
    expect((await mirrors.resolve("shop", remote, "v1")).refName).toBe("v1");
    expect((await mirrors.resolve("shop", remote, other.slice(0, 12))).commit).toBe(other);
  });

  it("follows a branch that was rewritten, and one that became a folder of branches", async () => {
    await push("one", "refs/heads/next");
    await mirrors.resolve("shop", remote, "next");
    await git().run([`--git-dir=${elsewhere.dirOf("infra")}`, "update-ref", "-d", "refs/heads/next"]);
    const nested = await push("two", "refs/heads/next/one");
    expect((await mirrors.resolve("shop", remote, "next/one")).commit).toBe(nested);
    await expect(mirrors.resolve("shop", remote, "next")).rejects.toMatchObject({ code: "COMMIT_NOT_FOUND" });
  });

  it("hands the token to git where no process list and no configuration shows it", async () => {
    await push("one");
    await mirrors.resolve("shop", remote, "main");
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.every(({ user }) => user === "x-token-auth")).toBe(true);
    const seen = asked.flatMap(({ processes }) => processes).filter((line) => line.includes(remote.url));
    expect(seen.length).toBeGreaterThan(0);
    const files = await readdir(join(dir, "mirrors"), { recursive: true, withFileTypes: true });
    const kept = await Promise.all(
      files.filter((one) => one.isFile()).map((one) => readFile(join(one.parentPath, one.name), "latin1")),
    );
    const basic = Buffer.from(`x-token-auth:${TOKEN}`).toString("base64");
    for (const text of [...asked.flatMap(({ processes }) => processes), ...kept]) {
      expect(text).not.toContain(TOKEN);
      expect(text).not.toContain(basic);
    }
  });

  it("sends a user name that the secret brings along", async () => {
    await push("one");
    await mirrors.resolve("shop", { ...remote, credential: new Secret("X", `ada:${TOKEN}`) }, "main");
    expect(new Set(asked.map(({ user }) => user))).toEqual(new Set(["ada"]));
  });

  it("says what to do when access is refused, without the token", async () => {
    await push("one");
    const wrong = { ...remote, credential: new Secret("INFRA_TOKEN", "wrong-token-987654") };
    const refused = await mirrors.resolve("shop", wrong, "main").catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      hint: expect.stringContaining("`shipway secret set INFRA_TOKEN`"),
    });
    expect(JSON.stringify([refused, String(refused)])).not.toContain("wrong-token");
    await expect(mirrors.resolve("shop", { ...remote, credential: undefined }, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      hint: expect.stringContaining("infra: { credential: INFRA_TOKEN }"),
    });
    const missing = { ...remote, url: remote.url.replace("infra.git", "nothing.git") };
    await expect(mirrors.resolve("shop", missing, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      message: expect.stringMatching(/There is no repository .*nothing\.git, or it is hidden from the credential/),
    });
    expect(waits).toEqual([]);
  });

  it.each(["nothing", "main~1", "--upload-pack=x", "@{-1}", "a..b"])("has no ref %s", async (ref) => {
    await push("one");
    await expect(mirrors.resolve("shop", remote, ref)).rejects.toMatchObject({
      code: "COMMIT_NOT_FOUND",
      hint: expect.stringContaining("git ls-remote"),
    });
  });

  it("says that nothing was pushed to an empty repository", async () => {
    await expect(mirrors.resolve("shop", remote, undefined)).rejects.toMatchObject({ code: "COMMIT_NOT_FOUND" });
  });

  it("is asked for three times when the other side is away, and keeps what it has", async () => {
    const commit = await push("one");
    await mirrors.resolve("shop", remote, "main");
    await host.close();
    await expect(mirrors.resolve("shop", remote, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_UNREACHABLE",
      message: expect.stringContaining(remote.url),
    });
    expect(waits).toEqual([300, 1_000]);
    await mirrors.ensure("shop", remote, commit);
    expect(await mirrors.has("shop", remote.url, commit)).toBe(true);
    expect(await mirrors.has("blog", remote.url, commit)).toBe(false);
    await mirrors.remove("shop");
    expect(await mirrors.has("shop", remote.url, commit)).toBe(false);
  });

  it("fetches a commit that is wanted and not here", async () => {
    const commit = await push("one");
    await mirrors.ensure("shop", remote, commit);
    expect(await mirrors.has("shop", remote.url, commit)).toBe(true);
  });

  it("does not wait longer than its deadline, and leaves no process behind", async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const slow = remoteAt(silent.address() as AddressInfo);
    const startedAt = Date.now();
    await expect(newMirrors(700).resolve("shop", slow, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_UNREACHABLE",
      message: expect.stringContaining("did not answer within 0.7 s"),
    });
    expect(Date.now() - startedAt).toBeLessThan(15_000);
    await until("git being gone", async () => !(await commandLines()).some((line) => line.includes(slow.url)));
    await closed(silent);
  });

  it("speaks ssh with no question asked, and says whose key it needs", async () => {
    const commit = await push("one");
    // In place of ssh: notes its arguments, and runs the command here instead of there.
    const bin = join(dir, "bin");
    await mkdir(bin);
    const script = (last: string) =>
      `#!/bin/sh\nfor word in "$@"; do echo "$word" >> ${join(dir, "words")}; command=$word; done\n${last}\n`;
    const ssh = async (last: string) => writeFile(join(bin, "ssh"), script(last), { mode: 0o755 });
    const overSsh = gitMirrors({ dir: join(dir, "mirrors"), git: gitCommand(`${bin}:/usr/bin:/bin`) });
    const url = `ssh://git@git.example.com:7999${elsewhere.dirOf("infra")}`;
    const there: Remote = { url, over: "ssh", host: "git.example.com", credential: undefined };
    await ssh('exec sh -c "$command"');
    expect(await overSsh.resolve("shop", there, undefined)).toEqual({ commit, refName: "main" });
    const words = (await readFile(join(dir, "words"), "utf8")).split("\n");
    expect(words).toContain("BatchMode=yes");
    expect(words.slice(words.indexOf("-p"), words.indexOf("-p") + 3)).toEqual(["-p", "7999", "git@git.example.com"]);
    await ssh('echo "git@git.example.com: Permission denied (publickey)." >&2; exit 255');
    await expect(overSsh.resolve("shop", there, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      hint: expect.stringContaining("~/.ssh"),
    });
    await ssh('echo "Host key verification failed." >&2; exit 255');
    await expect(overSsh.resolve("shop", there, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      hint: expect.stringContaining("ssh-keyscan git.example.com"),
    });
  });

  it("takes a token to no other host", async () => {
    const headers: (string | undefined)[] = [];
    const other = createServer((request, response) => {
      headers.push(request.headers.authorization);
      response.writeHead(404).end();
    });
    const moved = createServer((request, response) => {
      const { port } = other.address() as AddressInfo;
      response.writeHead(301, { location: `http://127.0.0.1:${port}${request.url}` }).end();
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    await new Promise<void>((resolve) => moved.listen(0, "127.0.0.1", resolve));
    const from = remoteAt(moved.address() as AddressInfo);
    await expect(mirrors.resolve("shop", from, "main")).rejects.toMatchObject({
      code: "INFRA_REPOSITORY_REFUSED",
      message: expect.stringContaining("has moved"),
    });
    expect(headers).toEqual([]);
    await Promise.all([closed(other), closed(moved)]);
  });

  it("is fetched by one at a time: two at once both get what they asked for", async () => {
    const [main, other] = [await push("one"), await push("two", "refs/heads/other")];
    const both = await Promise.all(["main", "other"].map((ref) => mirrors.resolve("shop", remote, ref)));
    expect(both.map(({ commit }) => commit)).toEqual([main, other]);
  });

  it("goes on after a git that was killed while it held a lock long ago", async () => {
    await push("one");
    await mirrors.resolve("shop", remote, "main");
    const lock = join(mirrors.dirOf("shop", remote.url), "refs", "heads", "main.lock");
    await writeFile(lock, "");
    await utimes(lock, new Date(0), new Date(0));
    const second = await push("two");
    expect((await mirrors.resolve("shop", remote, "main")).commit).toBe(second);
  });
});

const closed = (server: Server) =>
  new Promise<void>((resolve) => {
    server.closeAllConnections();
    server.close(() => resolve());
  });
