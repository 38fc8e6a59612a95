import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../dist/main.js", import.meta.url));

/** A Shipway of its own, run from `dist/` and used as a user does: by its commands, by git and over its API. */
export async function newInstallation(docker) {
  const dir = await mkdtemp(join(tmpdir(), "shipway-bench-"));
  // Postgres runs under an account of its own when we are root, and has to get through.
  await chmod(dir, 0o711);
  const [port, httpPort] = [await freePort(), await freePort()];
  const apiUrl = `http://127.0.0.1:${port}`;
  await writeFile(
    join(dir, "gitconfig"),
    "[user]\nname = Ada\nemail = ada@example.com\n[init]\ndefaultBranch = main\n",
  );
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    XDG_CONFIG_HOME: join(dir, "config"),
    GIT_CONFIG_GLOBAL: join(dir, "gitconfig"),
    GIT_TERMINAL_PROMPT: "0",
    SHIPWAY_LOG: process.env.SHIPWAY_LOG ?? "warn",
  };
  let server;
  let token;
  let instance;

  async function api(path, { method = "GET", body } = {}) {
    token ??= JSON.parse(await readFile(join(dir, "config/shipway/credentials.json"), "utf8")).servers[apiUrl].token;
    const answer = await fetch(`${apiUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  }

  /** Starts it and returns how long it took, from the start of the process to its own "is up". */
  async function up() {
    const startedAt = performance.now();
    server = spawn(
      process.execPath,
      [MAIN, "up", "--data", join(dir, "data"), "--port", String(port), "--http-port", String(httpPort)],
      { env, stdio: ["ignore", "ignore", "pipe"] },
    );
    let output = "";
    const upMs = await new Promise((resolve, reject) => {
      server.stderr.on("data", (chunk) => {
        output += chunk;
        if (output.includes("Shipway is up")) resolve(performance.now() - startedAt);
      });
      server.once("exit", (code) => reject(new Error(`shipway up ended with ${code}:\n${output}`)));
    });
    if (process.env.SHIPWAY_LOG !== undefined) server.stderr.on("data", (chunk) => process.stderr.write(chunk));
    instance ??= (await api("/api/status")).instance;
    return upMs;
  }

  async function down() {
    if (server === undefined || server.exitCode !== null) return;
    const gone = once(server, "exit");
    server.kill("SIGINT");
    await gone;
  }

  async function commit(checkout, files, message) {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(checkout, path)), { recursive: true });
      await writeFile(join(checkout, path), text);
    }
    await run("git", ["add", "--all"], { cwd: checkout, env });
    await run("git", ["commit", "--quiet", "--message", message], { cwd: checkout, env });
  }

  return {
    dir,
    httpPort,
    api,
    up,
    down,
    commit,
    async newApp(name, files) {
      const checkout = join(dir, name);
      await mkdir(checkout);
      await run("git", ["init", "--quiet"], { cwd: checkout, env });
      await commit(checkout, files, "First");
      await run(process.execPath, [MAIN, "app", "create", name], { cwd: checkout, env });
      return checkout;
    },
    push: (checkout) => run("git", ["push", "--quiet", "shipway", "main"], { cwd: checkout, env }),
    /** The control plane and what it started: Postgres with all of its processes. */
    async processes() {
      const postmaster = await readFile(join(dir, "data/postgres/data/postmaster.pid"), "utf8");
      return [
        ...new Set([...(await descendants(server.pid)), ...(await descendants(Number(postmaster.split("\n")[0])))]),
      ];
    },
    async remove() {
      await down();
      if (instance !== undefined) await removeFromDocker(docker, { label: [`shipway.instance=${instance}`] });
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Containers, images, networks and volumes that carry a label. */
export async function removeFromDocker(docker, filters) {
  const containers = await docker.listContainers({ all: true, filters });
  for (const { Id } of containers) await docker.getContainer(Id).remove({ force: true, v: true });
  for (const { Id } of await docker.listNetworks({ filters })) await docker.getNetwork(Id).remove();
  for (const { Name } of (await docker.listVolumes({ filters })).Volumes ?? []) await docker.getVolume(Name).remove();
  for (const image of new Set(containers.map(({ Image }) => Image))) {
    if (/^shipway-[a-z0-9]{6}\//.test(image)) await removeImages(docker, image.slice(0, image.indexOf("/")));
  }
}

async function removeImages(docker, namespace) {
  for (const { RepoTags } of await docker.listImages()) {
    for (const name of (RepoTags ?? []).filter((one) => one.startsWith(`${namespace}/`))) {
      await docker.getImage(name).remove();
    }
  }
}

/** Runs a program to its end. @throws with its output when it fails */
export async function run(program, args, { cwd, env }) {
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${code}:\n${output}`);
  return output;
}

async function descendants(root) {
  const parents = new Map();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, "utf8").catch(() => undefined);
    // The program's name stands in brackets and may hold blanks; the parent follows the state.
    const parent = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[1];
    if (parent !== undefined) parents.set(Number(name), Number(parent));
  }
  const isBelow = (pid) => pid === root || (parents.has(pid) && pid > 1 && isBelow(parents.get(pid)));
  return [...parents.keys()].filter(isBelow);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
