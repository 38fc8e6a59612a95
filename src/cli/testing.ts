import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { ApiEvent, Deployment, Environment, Status } from "../http/schemas.ts";
import type { CliContext, ExitCode } from "./context.ts";
import { writeCredentials } from "./credentials.ts";
import { runCli } from "./run-cli.ts";

/** A real HTTP server that answers from memory. Routes are added by the test; what was asked is in `requests`. */
export type TestServer = {
  url: string;
  app: FastifyInstance;
  requests: { method: string; url: string; headers: FastifyRequest["headers"]; body: unknown }[];
  close(): Promise<void>;
};

export const TOKEN = "tok_test";

export async function startTestServer(routes: (app: FastifyInstance) => void): Promise<TestServer> {
  const app = Fastify({ forceCloseConnections: true });
  const requests: TestServer["requests"] = [];
  app.addHook("preHandler", async (request, reply) => {
    requests.push({ method: request.method, url: request.url, headers: request.headers, body: request.body });
    if (request.headers.authorization !== `Bearer ${TOKEN}`) {
      await reply.status(401).send(errorBody("TOKEN_INVALID", "This token is not known.", "Sign in: `shipway login`"));
    }
  });
  routes(app);
  await app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = app.server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, app, requests, close: () => app.close() };
}

export const errorBody = (code: string, message: string, hint?: string) => ({
  error: { code, message, ...(hint === undefined ? {} : { hint }), requestId: "req-1" },
});

/** Sends these events as a stream and then, unless told to stay, closes it. */
export function sendEvents(
  reply: FastifyReply,
  events: readonly { id?: number; event: string; data: unknown }[],
): void {
  reply.hijack();
  reply.raw.writeHead(200, { "content-type": "text/event-stream" });
  reply.raw.write(": open\n\n");
  for (const { id, event, data } of events) {
    reply.raw.write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }
}

/** A command line with its own directory and credentials. */
export type TestCli = {
  dir: string;
  credentialsFile: string;
  run(argv: readonly string[], changes?: Partial<CliContext>): Promise<{ code: ExitCode; out: string; err: string }>;
  close(): Promise<void>;
};

const NOW = Date.parse("2026-11-23T12:00:00Z");

/** With `serverUrl`, as after `shipway login`. */
export async function newTestCli(serverUrl?: string): Promise<TestCli> {
  const dir = await mkdtemp(join(tmpdir(), "shipway-cli-"));
  const credentialsFile = join(dir, "home", "credentials.json");
  if (serverUrl !== undefined) {
    await writeCredentials(credentialsFile, { servers: { [serverUrl]: { token: TOKEN } }, default: serverUrl });
  }
  const run: TestCli["run"] = async (argv, changes = {}) => {
    const text = { out: "", err: "" };
    const code = await runCli(argv, {
      version: "1.2.3",
      environment: {},
      credentialsFile,
      home: join(dir, "home"),
      cwd: dir,
      selfCommand: ["shipway"],
      out: (chunk) => {
        text.out += chunk;
      },
      err: (chunk) => {
        text.err += chunk;
      },
      isTTY: { in: false, out: false, err: false },
      columns: 80,
      now: () => NOW,
      interrupted: new AbortController().signal,
      readStdin: async () => "",
      promptSecret: async () => undefined,
      confirm: async () => false,
      openUrl: async () => {},
      raw: {
        stdin: Readable.from([]),
        out: textWriter((chunk) => {
          text.out += chunk;
        }),
        err: textWriter((chunk) => {
          text.err += chunk;
        }),
        setRaw: () => undefined,
        size: () => ({ columns: 80, rows: 24 }),
        onResize: () => () => undefined,
      },
      actions: {
        up: async () => 0,
        demo: async () => 0,
        doctor: async () => [],
        doctorAws: async () => [],
        smokeAws: async () => [],
      },
      ...changes,
    });
    return { code, ...text };
  };
  return { dir, credentialsFile, run, close: () => rm(dir, { recursive: true, force: true }) };
}

export function newEvent(
  id: number,
  kind: string,
  data: Record<string, unknown>,
  more: Partial<ApiEvent> = {},
): ApiEvent {
  return {
    id,
    at: "2026-11-23T11:59:00.000Z",
    app: "launches",
    environment: null,
    subject: "change:c_1",
    deliveryId: "c_1",
    kind,
    actor: "maria",
    data,
    ...more,
  };
}

export function newEnvironment(changes: Partial<Environment> = {}): Environment {
  return {
    app: "launches",
    name: "production",
    runtime: "docker",
    rule: "branch main",
    liveRelease: 7,
    standbyRelease: 6,
    frozen: null,
    addresses: ["http://web.production.launches.localhost:8080"],
    services: [
      {
        name: "web",
        running: 2,
        wanted: 2,
        image: "shipway/launches/web:1",
        addresses: ["http://web.production.launches.localhost:8080"],
      },
    ],
    runningDeployment: null,
    waitingDeployment: null,
    stopped: null,
    problem: null,
    declared: null,
    ...changes,
  };
}

export function newDeployment(changes: Partial<Deployment> = {}): Deployment {
  return {
    id: "d_1",
    app: "launches",
    environment: "production",
    release: 7,
    kind: "deploy",
    status: "succeeded",
    actor: "maria",
    deliveryId: "c_1",
    createdAt: "2026-11-23T11:58:00.000Z",
    startedAt: "2026-11-23T11:58:00.000Z",
    endedAt: "2026-11-23T11:58:09.000Z",
    liveAfterMs: 2300,
    phases: [{ name: "prove", durationMs: 1900 }],
    phase: null,
    problem: null,
    evidence: [],
    rolledBack: false,
    addresses: ["http://web.production.launches.localhost:8080"],
    infra: null,
    approval: null,
    ...changes,
  };
}

export function newStatus(changes: Partial<Status> = {}): Status {
  return {
    version: "1.2.3",
    instance: "test",
    apiUrl: "http://localhost:7420",
    httpPort: 8080,
    dataDir: "/data",
    uptimeMs: 3_600_000,
    docker: { used: true, reachable: true, version: "20.10.24" },
    apps: [],
    ...changes,
  };
}

const textWriter = (onText: (text: string) => void) =>
  new Writable({
    write(chunk: Buffer, _encoding, done) {
      onText(chunk.toString("utf8"));
      done();
    },
  });
