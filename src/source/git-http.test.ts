import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import Fastify, { type FastifyInstance } from "fastify";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sleep, until } from "../shared/until.ts";
import type { ReceivedPush } from "./change.ts";
import { type GitHttpOptions, gitHttp } from "./git-http.ts";
import { encodePacket, FLUSH } from "./pkt-line.ts";
import { gitRepositories, type Repositories } from "./repositories.ts";

const TOKENS: Record<string, { write: boolean; apps: string[] }> = {
  "dev-token": { write: true, apps: ["shop", "blog"] },
  "view-token": { write: false, apps: ["shop"] },
};

let root: string;
let server: FastifyInstance;
let repositories: Repositories;
let work: string;
let pushes: ReceivedPush[];
let signals: AbortSignal[];
let logged: { level: string; data: object; message: string }[];
let progress: (push: ReceivedPush) => AsyncIterable<string>;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "shipway-git-http-"));
  work = join(root, "work");
  pushes = [];
  signals = [];
  logged = [];
  progress = async function* () {};
  repositories = gitRepositories({ dir: join(root, "repositories") });
  await repositories.create("shop");
  server = await startServer({});
  await git(root, "init", "--quiet", "--initial-branch=main", work);
});

afterEach(async () => {
  await server.close();
  await rm(root, { recursive: true, force: true });
});

async function startServer(options: Partial<GitHttpOptions>): Promise<FastifyInstance> {
  const fastify = Fastify();
  const log = (level: string) => (data: object, message: string) => void logged.push({ level, data, message });
  await fastify.register(gitHttp, {
    repositories,
    authenticate: async ({ password }) => {
      const token = TOKENS[password];
      return token && { actor: "ann", canRead: (app) => token.apps.includes(app), canWrite: () => token.write };
    },
    onPush: async (push, signal) => {
      pushes.push(push);
      signals.push(signal);
      return progress(push);
    },
    log: { info: log("info"), warn: log("warn"), error: log("error") },
    ...options,
  });
  await fastify.listen({ host: "127.0.0.1", port: 0 });
  return fastify;
}

async function restart(options: Partial<GitHttpOptions>): Promise<void> {
  await server.close();
  server = await startServer(options);
}

function port(): number {
  const bound = server.server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

function address(app = "shop.git", token = "dev-token"): string {
  return `http://ann:${token}@127.0.0.1:${port()}/git/${app}`;
}

const CLIENT_ENV = {
  PATH: process.env.PATH,
  HOME: "/nonexistent",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0",
  GIT_AUTHOR_NAME: "Ann",
  GIT_AUTHOR_EMAIL: "ann@example.com",
  GIT_COMMITTER_NAME: "Ann",
  GIT_COMMITTER_EMAIL: "ann@example.com",
};

type Ran = { exitCode: number; stdout: string; stderr: string };

/** Runs the user's git; a failure is a result. */
function tryGit(cwd: string, ...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile("git", args, { cwd, env: CLIENT_ENV, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

async function git(cwd: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tryGit(cwd, ...args);
  if (exitCode !== 0) throw new Error(`git ${args.join(" ")} ended with ${exitCode}: ${stderr}`);
  return stdout.trim();
}

async function commit(message = "Change something", dir = work): Promise<string> {
  await git(dir, "commit", "--quiet", "--allow-empty", "-m", message);
  return git(dir, "rev-parse", "HEAD");
}

async function commitRandomFile(megabytes: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    const args = ["if=/dev/urandom", "of=random.bin", "bs=1M", `count=${megabytes}`];
    execFile("dd", args, { cwd: work }, (error) => (error ? reject(error) : resolve()));
  });
  await git(work, "add", "random.bin");
  return commit("Add a large file");
}

function push(...args: string[]): Promise<Ran> {
  return tryGit(work, "push", address(), ...args);
}

/** A push that the test can kill; `stderr()` is what its user has seen so far. */
function startPush(...args: string[]): { child: ChildProcess; stderr(): string } {
  let seen = "";
  const child = spawn("git", ["push", address(), ...args], { cwd: work, env: CLIENT_ENV, detached: true });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    seen += text;
  });
  return { child, stderr: () => seen };
}

/** Ends git and its helpers at once, as a closed laptop does. */
function kill({ child }: { child: ChildProcess }): void {
  if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
}

/** Processes that work on a repository of this test. */
async function gitProcesses(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const read = (pid: string, file: string) =>
    new Promise<string>((resolve) => {
      let text = "";
      const stream = createReadStream(`/proc/${pid}/${file}`, { encoding: "utf8" });
      stream.on("data", (part) => {
        text += part;
      });
      stream.on("close", () => resolve(text));
      stream.on("error", () => resolve(""));
    });
  const all = await Promise.all(
    pids.map(async (pid) => `${await read(pid, "cmdline")} ${await read(pid, "environ")}`.replaceAll("\0", " ")),
  );
  return all.filter((text) => text.includes("git") && text.includes(join(root, "repositories")));
}

async function leftovers(): Promise<string[]> {
  const objects = await readdir(join(repositories.dirOf("shop"), "objects"), { recursive: true });
  return objects.filter((name) => /tmp|incoming/.test(name));
}

const settled = () => until("git's processes ended", async () => (await gitProcesses()).length === 0);

// --- pushes

test("a pushed branch is stored and told with its commit", async () => {
  const head = await commit();
  const { exitCode, stderr } = await push("main");
  expect(stderr).toContain("[new branch]");
  expect(exitCode).toBe(0);
  expect(await repositories.refs("shop")).toEqual(new Map([["refs/heads/main", head]]));
  expect(pushes).toEqual([
    {
      app: "shop",
      actor: "ann",
      options: [],
      refs: [
        {
          ref: "refs/heads/main",
          refKind: "branch",
          refName: "main",
          oldCommit: undefined,
          newCommit: head,
          forced: false,
        },
      ],
    },
  ]);
});

test("the address works without .git too", async () => {
  await commit();
  expect((await tryGit(work, "push", address("shop"), "main")).exitCode).toBe(0);
  expect(pushes).toHaveLength(1);
});

test("an annotated tag is told as the commit it names, also through a tag of a tag", async () => {
  const head = await commit();
  await git(work, "tag", "-a", "v1", "-m", "First");
  await git(work, "tag", "-a", "v1-signed-off", "-m", "Again", "v1");
  await git(work, "tag", "light");
  await push("--tags");
  expect(pushes[0]?.refs.map(({ refKind, refName, newCommit }) => [refKind, refName, newCommit])).toEqual([
    ["tag", "light", head],
    ["tag", "v1", head],
    ["tag", "v1-signed-off", head],
  ]);
});

test("a tag that names a file is stored but is no tag of a commit", async () => {
  await writeFile(join(work, "a.txt"), "text");
  await git(work, "add", "a.txt");
  await commit();
  await git(work, "tag", "text", "HEAD:a.txt");
  await push("text");
  expect(pushes[0]?.refs).toMatchObject([{ refKind: "other", refName: "refs/tags/text" }]);
  expect(await repositories.refs("shop")).toEqual(new Map());
});

test("120 refs in one push are told in one push", async () => {
  const head = await commit();
  const specs = Array.from({ length: 120 }, (_, n) => `HEAD:refs/heads/branch-${n}`);
  await push(...specs);
  expect(pushes).toHaveLength(1);
  expect(new Set(pushes[0]?.refs.map(({ newCommit }) => newCommit))).toEqual(new Set([head]));
  expect(pushes[0]?.refs).toHaveLength(120);
});

test("a forced push says that history was rewritten, an ordinary one does not", async () => {
  const first = await commit("First");
  await push("main");
  const second = await commit("Second");
  await push("main");
  await git(work, "commit", "--quiet", "--amend", "--allow-empty", "-m", "Other");
  const amended = await git(work, "rev-parse", "HEAD");
  expect((await push("main")).stderr).toContain("non-fast-forward");
  await push("--force", "main");
  expect(pushes.map(({ refs }) => refs.map((ref) => [ref.oldCommit, ref.newCommit, ref.forced]))).toEqual([
    [[undefined, first, false]],
    [[first, second, false]],
    [[second, amended, true]],
  ]);
});

test("a deleted branch has no new commit", async () => {
  const head = await commit();
  await push("main", "main:old");
  await push("--delete", "old");
  expect(pushes[1]?.refs).toEqual([
    {
      ref: "refs/heads/old",
      refKind: "branch",
      refName: "old",
      oldCommit: head,
      newCommit: undefined,
      forced: false,
    },
  ]);
});

test("a push with nothing new is told to nobody", async () => {
  await commit();
  await push("main");
  const { exitCode, stderr } = await push("main");
  expect(stderr).toContain("Everything up-to-date");
  expect(exitCode).toBe(0);
  expect(pushes).toHaveLength(1);
});

test("a repository that has no main checks out the branch it has when it is cloned", async () => {
  await commit();
  await push("main:master", "main:another");
  await git(root, "clone", "--quiet", address(), join(root, "clone"));
  expect(await git(join(root, "clone"), "branch", "--show-current")).toBe("master");
});

test("push options arrive", async () => {
  await commit();
  const { exitCode } = await push("-o", "skip-ci", "-o", "no-wait", "main");
  expect(exitCode).toBe(0);
  expect(pushes[0]?.options).toEqual(["skip-ci", "no-wait"]);
});

test("of a push that git takes only in part, only the stored refs are told", async () => {
  await commit();
  await push("main");
  const clone = join(root, "clone");
  await git(root, "clone", "--quiet", address(), clone);
  const ahead = await commit("Ahead");
  await push("main");
  await commit("Elsewhere", clone);
  await git(repositories.dirOf("shop"), "config", "receive.denyNonFastForwards", "true");
  const { exitCode, stderr } = await tryGit(clone, "push", "--force", address(), "main", "main:side");
  expect(exitCode).toBe(1);
  expect(stderr).toContain("denying non-fast-forward refs/heads/main");
  expect(pushes.at(-1)?.refs.map(({ refName }) => refName)).toEqual(["side"]);
  expect((await repositories.refs("shop")).get("refs/heads/main")).toBe(ahead);
});

test("a shallow clone can push", async () => {
  for (const message of ["One", "Two", "Three"]) await commit(message);
  await push("main");
  const shallow = join(root, "shallow");
  await git(root, "clone", "--quiet", "--depth=1", address(), shallow);
  const head = await commit("Four", shallow);
  expect((await tryGit(shallow, "push", address(), "main")).exitCode).toBe(0);
  expect(pushes[1]?.refs).toMatchObject([{ newCommit: head, forced: false }]);
});

test("two pushes at once to different branches are both stored and told", async () => {
  await commit();
  await push("main");
  const results = await Promise.all([push("HEAD:refs/heads/left"), push("HEAD:refs/heads/right")]);
  expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  const told = pushes.flatMap(({ refs }) => refs.map(({ refName }) => refName));
  expect(told.sort()).toEqual(["left", "main", "right"]);
});

test("of two pushes at once to one branch, exactly those that git stored are told", async () => {
  await commit();
  await push("main");
  await git(work, "checkout", "--quiet", "-b", "a");
  await commit("A");
  await git(work, "checkout", "--quiet", "-b", "b", "main");
  await commit("B");
  const results = await Promise.all([push("a:main"), push("b:main")]);
  expect(results.filter(({ exitCode }) => exitCode === 0)).toHaveLength(1);
  expect(pushes).toHaveLength(2);
  expect((await repositories.refs("shop")).get("refs/heads/main")).toBe(pushes[1]?.refs[0]?.newCommit);
});

test("a push of 60 MB arrives whole while the server's memory stays small", async () => {
  const head = await commitRandomFile(60);
  const before = process.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 20);
  const { exitCode } = await push("main").finally(() => clearInterval(watch));
  expect(exitCode).toBe(0);
  expect(pushes[0]?.refs[0]?.newCommit).toBe(head);
  expect((peak - before) / 1e6).toBeLessThan(45);
}, 60_000);

test("a pack larger than allowed is refused with a reason and stores nothing", async () => {
  await restart({ maxPushBytes: 1024 * 1024 });
  await commitRandomFile(3);
  const { exitCode, stderr } = await push("main");
  expect(exitCode).toBe(1);
  expect(stderr).toContain("remote: This push is larger than the 1 MiB that this Shipway takes in at once.");
  expect(pushes).toEqual([]);
  await settled();
  expect(await leftovers()).toEqual([]);
});

test("what git refuses is shown in git's own words", async () => {
  await commit();
  const long = "x".repeat(300);
  const { exitCode, stderr } = await push(`main:refs/heads/${long}`);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("! [remote rejected]");
  expect(pushes).toEqual([]);
});

test("refs that rewrite history behind one's back or belong to the platform are refused", async () => {
  const head = await commit();
  for (const ref of [`refs/replace/${head}`, "refs/shipway/x"]) {
    const { exitCode, stderr } = await push(`main:${ref}`);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("deny updating a hidden ref")]);
  }
  expect(pushes).toEqual([]);
});

// --- progress

test("what follows a push is shown line by line while it happens", async () => {
  await commit();
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  progress = async function* () {
    yield "CI runs.";
    await gate;
    yield "Done:\nr1 serves.";
  };
  const running = startPush("main");
  await until("the first line is seen", () => running.stderr().includes("remote: CI runs."));
  expect(running.stderr()).not.toContain("r1 serves");
  go();
  await until("git ended", () => running.child.exitCode === 0);
  expect(running.stderr()).toMatch(/remote: CI runs\. *\nremote: Done: *\nremote: r1 serves\./);
});

test("a line longer than a packet arrives whole", async () => {
  await commit();
  const line = `start ${"ü".repeat(100_000)} end`;
  progress = async function* () {
    yield line;
  };
  const { stderr } = await push("main");
  expect(stderr).toContain(line);
});

test("silence is bridged by packets that git does not show", async () => {
  await restart({ keepAliveMs: 20 });
  const head = await commit();
  progress = async function* () {
    await sleep(300);
    yield "At last.";
  };
  const answer = await post(Buffer.concat([pushHead(head), await packOf(head)]));
  const keptAlive = answer.body.toString("latin1").split("0005\x02").length - 1;
  expect(keptAlive).toBeGreaterThan(3);
  expect(answer.body.toString("latin1")).toMatch(/000e\x02At last\.\n0000$/);

  await commit();
  const { stderr } = await push("--force", "HEAD:main");
  const remoteLines = stderr.split("\n").filter((line) => line.startsWith("remote:"));
  expect(remoteLines.map((line) => line.trim())).toEqual(["remote: At last."]);
});

test("a push whose recording fails says so, and the next start finds it", async () => {
  const head = await commit();
  await restart({
    onPush: async () => {
      throw new Error("the database is away");
    },
  });
  const { exitCode, stderr } = await push("main");
  expect(exitCode).toBe(0);
  expect(stderr).toContain("remote: Your push is stored, but what follows it could not be started");
  expect(stderr).not.toContain("the database is away");
  expect(logged.filter(({ level }) => level === "error").map(({ message }) => message)).toEqual([
    "a stored push was not recorded",
  ]);
  const missed = await repositories.unrecordedRefs("shop", new Map());
  expect(missed).toMatchObject([{ ref: "refs/heads/main", newCommit: head }]);
});

test("progress that breaks does not make the push fail", async () => {
  await commit();
  progress = async function* () {
    yield "CI runs.";
    throw new Error("lost");
  };
  const { exitCode, stderr } = await push("main");
  expect(exitCode).toBe(0);
  expect(stderr).toContain("remote: The progress cannot be shown any further");
});

// --- clients that leave

test("a client killed in the middle of its upload leaves nothing behind", async () => {
  await commitRandomFile(40);
  await git(work, "config", "http.postBuffer", "65536");
  const running = startPush("main");
  await until("git receives objects", async () => (await leftovers()).length > 0, { everyMs: 5 });
  kill(running);
  await settled();
  expect(await leftovers()).toEqual([]);
  expect(await repositories.refs("shop")).toEqual(new Map());
  expect(pushes).toEqual([]);
});

test("a client killed while it watches has its push stored, told once, and its progress ended", async () => {
  const head = await commit();
  let released = false;
  progress = async function* () {
    try {
      for (let n = 0; ; n++) {
        yield `line ${n}`;
        await sleep(10);
      }
    } finally {
      released = true;
    }
  };
  const running = startPush("main");
  await until("progress is seen", () => running.stderr().includes("remote: line 3"));
  kill(running);
  await until("the progress is released", () => released);
  expect(signals[0]?.aborted).toBe(true);
  expect(pushes).toHaveLength(1);
  expect((await repositories.refs("shop")).get("refs/heads/main")).toBe(head);
  await settled();
});

test("a client that leaves after the whole pack arrived has its push stored and told", async () => {
  const head = await commit();
  const pack = await packOf(head);
  const body = Buffer.concat([pushHead(head), pack]);
  const client = httpRequest(address("shop.git/git-receive-pack").replace("ann:dev-token@", ""), {
    method: "POST",
    headers: { ...BASIC, "Content-Type": "application/x-git-receive-pack-request", "Content-Length": body.length },
  });
  client.on("error", () => {});
  client.on("response", (response) => response.destroy());
  client.end(body);
  await until("the push is told", () => pushes.length === 1);
  expect((await repositories.refs("shop")).get("refs/heads/main")).toBe(head);
});

test("a client that falls silent in the middle of its upload is cut off", async () => {
  await restart({ idleMs: 200 });
  const head = await commit();
  const client = httpRequest(address("shop.git/git-receive-pack").replace("ann:dev-token@", ""), {
    method: "POST",
    headers: { ...BASIC, "Content-Type": "application/x-git-receive-pack-request", "Content-Length": 10_000 },
  });
  let ended = "";
  client.on("error", (error) => {
    ended = error.message;
  });
  client.on("response", (response) => response.on("error", (error) => (ended = error.message)).resume());
  client.write(Buffer.concat([pushHead(head), Buffer.from("PACK")]));
  await until("the connection is cut", () => ended !== "");
  await settled();
  expect(pushes).toEqual([]);
});

// --- other clients

const BASIC = { Authorization: `Basic ${Buffer.from("ann:dev-token").toString("base64")}` };

function pushHead(newId: string, capabilities = "report-status side-band-64k"): Buffer {
  return Buffer.concat([encodePacket(`${"0".repeat(40)} ${newId} refs/heads/main\0${capabilities}`), FLUSH]);
}

async function packOf(commitId: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { cwd: work, env: CLIENT_ENV, encoding: "buffer" as const };
    const child = execFile("git", ["pack-objects", "--stdout", "--revs"], options, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
    child.stdin?.end(`${commitId}\n`);
  });
}

async function post(body: Buffer, headers: Record<string, string> = {}): Promise<{ status: number; body: Buffer }> {
  const url = address("shop.git/git-receive-pack").replace("ann:dev-token@", "");
  const type = { "Content-Type": "application/x-git-receive-pack-request" };
  const response = await fetch(url, { method: "POST", headers: { ...BASIC, ...type, ...headers }, body });
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
}

test("a client without side-band gets git's plain report and its push is told", async () => {
  const head = await commit();
  progress = async function* () {
    yield "never seen";
  };
  const answer = await post(Buffer.concat([pushHead(head, "report-status"), await packOf(head)]));
  expect(answer.body.toString()).toBe("000eunpack ok\n0017ok refs/heads/main\n0000");
  expect(pushes).toHaveLength(1);
});

test("a client that asks for no report still has its push told", async () => {
  const head = await commit();
  const answer = await post(Buffer.concat([pushHead(head, "agent=old"), await packOf(head)]));
  expect(answer.body.toString()).toBe("");
  expect(pushes[0]?.refs).toMatchObject([{ ref: "refs/heads/main", newCommit: head }]);
});

test("a gzipped push is unpacked", async () => {
  const head = await commit();
  const body = gzipSync(Buffer.concat([pushHead(head), await packOf(head)]));
  expect((await post(body, { "Content-Encoding": "gzip" })).status).toBe(200);
  expect(pushes[0]?.refs).toMatchObject([{ newCommit: head }]);
});

test.each([
  ["is no push", Buffer.from("hello"), {}, 400],
  ["ends in its head", encodePacket("x").subarray(0, 3), {}, 400],
  ["is empty", Buffer.alloc(0), {}, 400],
  ["is signed", encodePacket("push-cert\0report-status\n"), {}, 400],
  ["claims to be gzipped", Buffer.from("hello"), { "Content-Encoding": "gzip" }, 400],
  ["is packed in an unknown way", Buffer.from("hello"), { "Content-Encoding": "br" }, 415],
])("a request that %s is refused and starts nothing", async (_, body, headers, status) => {
  expect((await post(body, headers)).status).toBe(status);
  expect(pushes).toEqual([]);
  expect(await gitProcesses()).toEqual([]);
});

// --- reading back

test.each(["0", "2"])("what was pushed can be cloned and fetched with protocol version %s", async (version) => {
  await commit("One");
  await push("main");
  const clone = join(root, "clone");
  await git(root, "-c", `protocol.version=${version}`, "clone", "--quiet", address(), clone);
  const second = await commit("Two");
  await push("main");
  await git(clone, "-c", `protocol.version=${version}`, "fetch", "--quiet", address(), "main");
  expect(await git(clone, "rev-parse", "FETCH_HEAD")).toBe(second);
});

test("a fetch whose negotiation is gzipped works", async () => {
  for (let n = 0; n < 60; n++) await commit(`Commit ${n}`);
  await push("main");
  const other = join(root, "other");
  await git(root, "clone", "--quiet", "--bare", work, other);
  await git(other, "update-ref", "-d", "refs/heads/main");
  const head = await commit("Newest");
  await push("main");
  await git(other, "-c", "protocol.version=0", "fetch", "--quiet", address(), "main");
  expect(await git(other, "rev-parse", "FETCH_HEAD")).toBe(head);
});

test("a partial clone gets its blobs when it needs them", async () => {
  await writeFile(join(work, "a.txt"), "text");
  await git(work, "add", "a.txt");
  await commit();
  await push("main");
  const clone = join(root, "clone");
  await git(root, "clone", "--quiet", "--filter=blob:none", address(), clone);
  expect(await git(clone, "show", "HEAD:a.txt")).toBe("text");
});

test("a read-only token can clone", async () => {
  await commit();
  await push("main");
  expect((await tryGit(root, "clone", address("shop.git", "view-token"), join(root, "clone"))).exitCode).toBe(0);
});

// --- refusals

test("a wrong token is told what to do", async () => {
  await commit();
  const { exitCode, stderr } = await tryGit(work, "push", address("shop.git", "wrong"), "main");
  expect(exitCode).toBe(128);
  expect(stderr).toContain("remote: This token is not valid, or there was none.");
  expect(stderr).toContain("remote: Give a token as the password");
  expect(stderr).toContain("Authentication failed");
});

test("an unknown app is told how to make it", async () => {
  await commit();
  const { exitCode, stderr } = await tryGit(work, "push", address("blog.git"), "main");
  expect(exitCode).toBe(128);
  expect(stderr).toContain("remote: There is no app blog here. Create it: `shipway app create blog`.");
});

test("an app that one may not read looks like one that is not there", async () => {
  const hidden = await tryGit(work, "ls-remote", address("blog.git", "view-token"));
  await repositories.create("blog");
  const there = await tryGit(work, "ls-remote", address("blog.git", "view-token"));
  expect(there.stderr).toBe(hidden.stderr);
  expect(there.stderr).toContain("ask an admin for a role in it");
});

test("a read-only token that pushes is refused with the reason", async () => {
  await commit();
  const { exitCode, stderr } = await tryGit(work, "push", address("shop.git", "view-token"), "main");
  expect(exitCode).toBe(128);
  expect(stderr).toContain("remote: ann may read shop but not push to it");
  expect(await repositories.refs("shop")).toEqual(new Map());
});

test.each([
  ["a path upwards", "/git/../shop.git/info/refs?service=git-upload-pack"],
  ["an encoded path upwards", "/git/%2e%2e/info/refs?service=git-upload-pack"],
  ["an encoded slash", "/git/..%2fshop.git/info/refs?service=git-upload-pack"],
  ["a name in capitals", "/git/Shop.git/info/refs?service=git-upload-pack"],
  ["a path upwards inside", "/git/shop.git/%2e%2e/info/refs?service=git-upload-pack"],
  ["a name with a slash", "/git/group/shop.git/info/refs?service=git-upload-pack"],
  ["a name of 300 letters", `/git/${"a".repeat(300)}.git/info/refs?service=git-upload-pack`],
  ["the configuration", "/git/shop.git/config"],
  ["the dumb protocol's HEAD", "/git/shop.git/HEAD"],
  ["the dumb protocol's packs", "/git/shop.git/objects/info/packs"],
  ["the dumb protocol's refs", "/git/shop.git/info/refs"],
  ["an unknown service", "/git/shop.git/info/refs?service=git-upload-archive"],
  ["the archive service", "/git/shop.git/git-upload-archive"],
  ["a push by GET", "/git/shop.git/git-receive-pack"],
])("%s is not found", async (_, url) => {
  const status = await new Promise<number | undefined>((resolve, reject) => {
    // http.request sends the path as it is; fetch would tidy it up first.
    const options = { host: "127.0.0.1", port: port(), path: url, headers: BASIC };
    const client = httpRequest(options, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    client.on("error", reject).end();
  });
  expect(status).toBe(404);
});

// --- closing

test("closing the server lets a running push finish and says that its progress goes on elsewhere", async () => {
  await commit();
  progress = async function* () {
    yield "CI runs.";
    await new Promise(() => {});
  };
  const running = startPush("main");
  await until("progress is seen", () => running.stderr().includes("CI runs."));
  await server.close();
  await until("git ended", () => running.child.exitCode !== null);
  expect(running.child.exitCode).toBe(0);
  expect(running.stderr()).toContain("remote: Shipway is restarting. Your push is stored");
  expect(await gitProcesses()).toEqual([]);
});

test("closing the server ends an upload that does not finish in time, with nothing left of it", async () => {
  await restart({ closeMs: 50 });
  const head = await commit();
  const client = httpRequest(address("shop.git/git-receive-pack").replace("ann:dev-token@", ""), {
    method: "POST",
    headers: { ...BASIC, "Content-Type": "application/x-git-receive-pack-request", "Content-Length": 10_000 },
  });
  client.on("error", () => {});
  client.write(Buffer.concat([pushHead(head), (await packOf(head)).subarray(0, 20)]));
  await until("git runs", async () => (await gitProcesses()).length > 0);
  await server.close();
  client.destroy();
  expect(await gitProcesses()).toEqual([]);
  expect(await leftovers()).toEqual([]);
});
