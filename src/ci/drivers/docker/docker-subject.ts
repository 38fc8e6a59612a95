import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { newId } from "../../../shared/new-id.ts";
import { runProgram } from "../../../shared/run-program.ts";
import type { PipelineContext } from "../../executor.ts";
import type { ContractSubject } from "../contract.ts";
import { dockerExecutor } from "./docker-executor.ts";

const ENGINE = "/var/run/docker.sock";

export type DockerSubject = ContractSubject & {
  docker: Docker;
  workDir: string;
  repositoryDir: string;
  instance: string;
};

/** A Docker executor for tests with a repository, a work directory and a name of its own; the engine is real. */
export async function openDockerSubject(options: { serviceDeadlineMs?: number } = {}): Promise<DockerSubject> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-ci-"));
  const instance = newId("test").replace("_", "");
  const workDir = join(dir, "work");
  const repositoryDir = join(dir, "repository");
  const docker = new Docker({ socketPath: ENGINE });
  const commit = await newRepository(repositoryDir);
  const context = newContext(repositoryDir, commit);
  const lines: { close(): Promise<void> }[] = [];
  const executorThrough = async () => {
    const line = await openLine(join(dir, `engine-${lines.length}.sock`));
    lines.push(line);
    const through = new Docker({ socketPath: line.path });
    return dockerExecutor({ docker: through, instance, workDir, searchPath: process.env.PATH ?? "", ...options });
  };
  const list = () => docker.listContainers({ all: true, filters: { label: [`shipway.instance=${instance}`] } });
  return {
    executor: await executorThrough(),
    docker,
    workDir,
    repositoryDir,
    instance,
    image: "debian:bookworm-slim",
    unreachable: "DOCKER_UNREACHABLE",
    context,
    async crash() {
      await lines.at(-1)?.close();
      return executorThrough();
    },
    left: async () => (await list()).length,
    async close() {
      for (const { Id } of await list()) await docker.getContainer(Id).remove({ force: true, v: true });
      for (const line of lines) await line.close();
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A run of its own. */
export const newContext = (repositoryDir: string, commit: string): PipelineContext => ({
  runId: newId("run"),
  app: "shop",
  repositoryDir,
  commit,
  refKind: "branch",
  refName: "main",
  buildNumber: 7,
  variables: {},
  secrets: {},
});

/** A bare-bones repository with one commit on `main`. */
export async function newRepository(dir: string): Promise<string> {
  const git = (...args: string[]) =>
    runProgram([
      "git",
      "-c",
      "user.name=t",
      "-c",
      "user.email=t@example.org",
      "-c",
      "init.defaultBranch=main",
      ...args,
    ]);
  await git("init", "--quiet", dir);
  await writeFile(join(dir, "README.md"), "hello\n");
  await writeFile(join(dir, "package-lock.json"), "{}\n");
  return commitAll(dir, "first");
}

export async function commitAll(dir: string, message: string): Promise<string> {
  const git = (...args: string[]) =>
    runProgram(["git", "-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org", ...args]);
  await git("add", "--all");
  await git("commit", "--quiet", "--message", message);
  return (await git("rev-parse", "HEAD")).stdout.trim();
}

/** A way to the engine that can be cut, as a crash of Shipway cuts it: what the engine runs goes on. */
async function openLine(path: string): Promise<{ path: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(ENGINE);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
