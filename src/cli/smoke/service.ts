import { createHash } from "node:crypto";
import type { Place, Release, ReleaseService } from "../../rollout/release.ts";

/** Port of the test's own service. */
const PORT = 8080;

/**
 * A server in one line of Node.js: any image that has Node.js will do, and none has to be built or pushed for it. It says which release it is and what
 * secret it got (as a hash), waits `?ms=` before it answers, and keeps connections longer than the load balancer does, which otherwise sends
 * requests into one that is just being closed (Elastic Load Balancing, idle timeout: 60 s).
 */
const PROGRAM = `
const { createHash } = require("node:crypto");
const release = process.env.SHIPWAY_RELEASE;
const secret = createHash("sha256").update(process.env.SMOKE_SECRET ?? "").digest("hex");
const server = require("node:http").createServer((request, response) => {
  const ms = Number(new URL(request.url, "http://it").searchParams.get("ms") ?? 0);
  setTimeout(() => response.end(JSON.stringify({ release, secret })), ms);
});
server.keepAliveTimeout = 75000;
server.headersTimeout = 80000;
server.listen(${PORT}, () => console.log("the smoke test's " + release + " is up"));
`;

const WORKER = `
console.log("the smoke test's worker of " + process.env.SHIPWAY_RELEASE + " is up");
process.on("SIGTERM", () => process.exit(0));
setInterval(() => undefined, 1000);
`;

export const SECRET_NAME = "SMOKE_SECRET";
/** What a release that cannot work ends with. */
export const BROKEN_EXIT = 7;

export const secretHash = (secret: string): string => createHash("sha256").update(secret).digest("hex");
export const upLine = (release: number): string => `the smoke test's r${release} is up`;
export const migratedLine = (release: number): string => `release command of r${release}`;

/** Two tasks that serve, one worker: as small as Fargate has them. A broken release ends at once. */
export function smokeRelease(
  place: Place,
  number: number,
  {
    image,
    host,
    scheme,
    isBroken = false,
  }: { image: string; host: string; scheme: "http" | "https"; isBroken?: boolean },
): Release {
  const common = {
    image,
    cpu: 256,
    memoryMiB: 512,
    env: { SHIPWAY_RELEASE: `r${number}`, SHIPWAY_SMOKE: isBroken ? "broken" : "works" },
    stopTimeoutMs: 10_000,
    volumes: [],
    acceptsDowntime: false,
  };
  const program = (text: string) => [
    "node",
    "-e",
    isBroken ? `console.log("cannot work"); process.exit(${BROKEN_EXIT})` : text,
  ];
  const web: ReleaseService = {
    ...common,
    name: "web",
    command: program(PROGRAM),
    port: PORT,
    count: 2,
    secrets: [SECRET_NAME],
    hosts: [host],
    scheme,
    health: { path: "/", interval: 5_000, timeout: 2_000, healthy: 2, unhealthy: 2, grace: 60_000 },
    // Only once: it takes a task of its own, and so a minute.
    ...(number === 1 && { releaseCommand: ["sh", "-c", `echo ${migratedLine(number)}`] }),
  };
  const worker: ReleaseService = {
    ...common,
    name: "worker",
    command: program(WORKER),
    count: 1,
    secrets: [],
    hosts: [],
  };
  return { app: place.app, number, services: [web, worker] };
}
