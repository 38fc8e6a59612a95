import { access, constants, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { totalmem } from "node:os";
import { dirname, join } from "node:path";
import type Docker from "dockerode";
import { z } from "zod";
import { runProgram } from "../shared/run-program.ts";
import type { DoctorDeps } from "./doctor.ts";

const ReadyBody = z.object({ ready: z.boolean() });
const VersionBody = z.object({ Version: z.string() });
const InfoBody = z.object({ SystemTime: z.string(), DockerRootDir: z.string() });
const QUICK_MS = 3_000;

/** Answers the doctor from the machine it runs on. Reads only. `ownPorts` are those of a router that is known to be ours. */
export function machineFacts(docker: Docker, ownPorts: () => Promise<readonly number[]>): DoctorDeps {
  return {
    async docker() {
      const [version, info, images] = await Promise.all([docker.version(), docker.info(), docker.listImages()]);
      return {
        version: VersionBody.parse(version).Version,
        clockMs: Date.parse(InfoBody.parse(info).SystemTime),
        rootDir: InfoBody.parse(info).DockerRootDir,
        images: images.flatMap(({ RepoTags }) => RepoTags ?? []),
      };
    },
    async versionOf(argv) {
      const found = await runProgram(argv, { signal: AbortSignal.timeout(QUICK_MS) }).catch(() => undefined);
      return found?.stdout.split("\n")[0]?.trim();
    },
    async hasGitHttpBackend() {
      const { stdout } = await runProgram(["git", "--exec-path"], { signal: AbortSignal.timeout(QUICK_MS) });
      return isExecutable(join(stdout.trim(), "git-http-backend"));
    },
    async portOwner(port) {
      if (await isFree(port)) return "free";
      const own = await Promise.all([ownPorts(), routerPorts(docker)]).catch((): number[][] => []);
      if (own.flat().includes(port)) return "ours";
      return (await answersAsShipway(port)) ? "ours" : "other";
    },
    freeBytes: freeBytesAt,
    totalMemoryBytes: totalmem,
    now: Date.now,
  };
}

/** Free bytes of the file system that holds `path`, or that would hold it once it is made. */
async function freeBytesAt(path: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!missing || path === dirname(path)) throw error;
    return freeBytesAt(dirname(path));
  }
}

/** Whether we could listen on the port. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Host ports of the routers that carry the traffic of apps: they answer for apps, not as Shipway. */
async function routerPorts(docker: Docker): Promise<number[]> {
  const routers = await docker.listContainers({ filters: { label: ["shipway.role=router"] } });
  return routers.flatMap(({ Ports }) => Ports.flatMap(({ PublicPort }) => PublicPort ?? []));
}

async function answersAsShipway(port: number): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${port}/api/ready`, { signal: AbortSignal.timeout(QUICK_MS) }).catch(
    () => undefined,
  );
  const body: unknown = await response?.json().catch(() => undefined);
  return ReadyBody.safeParse(body).success;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
