import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import type { Place, ReleaseService } from "../../release.ts";
import type { RolloutTarget } from "../../target.ts";
import { newService } from "../../testing.ts";
import type { Behaviour } from "../contract.ts";
import { dockerTarget } from "./docker-target.ts";
import { haproxyRouter } from "./haproxy/haproxy-router.ts";
import { ADMIN_SOCKET } from "./haproxy/render-config.ts";
import { LABEL } from "./names.ts";
import type { Router } from "./router.ts";

/** A real engine, a real router and a target on a prefix of their own. */
export type DockerStage = {
  docker: Docker;
  router: Router;
  target: RolloutTarget;
  instance: string;
  httpPort: number;
  /** Of the router, as somebody on the machine reaches it. */
  adminSocket: string;
  cleanUp(): Promise<void>;
};

export async function newDockerStage(): Promise<DockerStage> {
  const docker = new Docker({ socketPath: "/var/run/docker.sock" });
  const instance = `t${randomBytes(3).toString("hex")}`;
  const dir = await mkdtemp(join(tmpdir(), "shipway-rollout-"));
  const httpPort = await freePort();
  const router = haproxyRouter({
    docker,
    image: "haproxy:2.6",
    dir,
    httpPort,
    bindAddress: "127.0.0.1",
    name: `shipway-router-${instance}`,
    network: `0-shipway-base-${instance}`,
    labels: { [LABEL.instance]: instance },
  });
  const target = dockerTarget({
    docker,
    router,
    instance,
    subnetPool: "10.212.0.0/16",
    toolImage: "haproxy:2.6",
    quietMs: 0,
  });
  return {
    docker,
    router,
    target,
    instance,
    httpPort,
    adminSocket: join(dir, ADMIN_SOCKET),
    async cleanUp() {
      await router.remove();
      await removeLeftovers(docker, instance);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Which release answers at the router for this host. */
export function askRelease(httpPort: number, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: "127.0.0.1", port: httpPort, path: "/", headers: { host }, agent: false },
      (answer) => {
        let body = "";
        answer.on("data", (chunk) => {
          body += chunk;
        });
        answer.on("end", () => {
          const release = /^r(\d+)$/.exec(body)?.[1];
          resolve(answer.statusCode === 200 && release !== undefined ? Number(release) : undefined);
        });
      },
    );
    asked.on("error", reject);
    asked.setTimeout(5_000, () => asked.destroy(new Error("the router did not answer")));
    asked.end();
  });
}

/** Programs for node in the image, as small as they can be. */
const PROGRAMS: Record<Behaviour, string> = {
  web: serverThat("r.end(process.env.SHIPWAY_RELEASE)"),
  "web-broken": serverThat("r.statusCode=500;r.end('the database is away')"),
  "web-exits": "console.error('cannot find module');process.exit(1)",
  "web-crashes": serverThat(
    "r.end(process.env.SHIPWAY_RELEASE)",
    "setTimeout(()=>{console.error('boom');process.exit(1)},1500)",
  ),
  worker: "console.log('working');process.on('SIGTERM',()=>process.exit(0));setInterval(()=>{},1000)",
  "worker-exits": "console.error('no queue');setTimeout(()=>process.exit(1),200)",
};

function serverThat(answers: string, afterStart = ""): string {
  return (
    `const s=require('http').createServer((q,r)=>{${answers}});` +
    "s.listen(process.env.PORT,()=>console.log('web says hello'));" +
    `process.on('SIGTERM',()=>process.exit(0));${afterStart}`
  );
}

const NODE_IMAGE = "node:20-bookworm-slim";

export function dockerService(
  place: Place,
  name: string,
  behaviour: Behaviour,
  changes: Partial<ReleaseService> = {},
): ReleaseService {
  const isWorker = behaviour.startsWith("worker");
  return newService(name, {
    image: NODE_IMAGE,
    command: ["node", "-e", PROGRAMS[behaviour]],
    health: {
      interval: 200,
      timeout: 1_000,
      healthy: 2,
      unhealthy: 3,
      ...(isWorker ? { grace: 1_000 } : { path: "/" }),
      ...(behaviour === "web-broken" ? { grace: 1_500 } : {}),
    },
    hosts: isWorker ? [] : [hostOf(place, name)],
    cpu: 1_024,
    ...(isWorker ? { port: undefined } : {}),
    ...changes,
  });
}

export function hostOf(place: Place, service: string): string {
  return `${service}.${place.environment}.${place.app}.localhost`;
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

/** What a failed test left behind. */
async function removeLeftovers(docker: Docker, instance: string): Promise<void> {
  const filters = { label: [`${LABEL.instance}=${instance}`] };
  for (const { Id } of await docker.listContainers({ all: true, filters })) {
    await docker.getContainer(Id).remove({ force: true, v: true });
  }
  for (const { Id } of await docker.listNetworks({ filters })) await docker.getNetwork(Id).remove();
  for (const { Name } of (await docker.listVolumes({ filters })).Volumes) await docker.getVolume(Name).remove();
}
