import { access, constants } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import type {} from "@fastify/swagger";
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from "fastify";
import { fail, toProblem } from "../shared/errors.ts";
import { sleep } from "../shared/until.ts";
import { type Backend, type BackendRequest, startBackend } from "./git-backend.ts";
import { feed, isReadable, newOutlet, type Outlet, requestBody } from "./http-stream.ts";
import { PacketError } from "./pkt-line.ts";
import { type OnPush, receivePush } from "./receive-push.ts";
import type { Repositories } from "./repositories.ts";

export type GitCredentials = { username: string; password: string };

/** Who makes a git request, and what they may do in a repository. */
export type GitUser = {
  actor: string;
  canRead(repository: string): boolean | Promise<boolean>;
  canWrite(repository: string): boolean | Promise<boolean>;
};

/** The part of a pino logger that is used. */
export type GitHttpLog = Record<"info" | "warn" | "error", (data: object, message: string) => void>;

export type GitHttpOptions = {
  repositories: Repositories;
  /** undefined: the token is wrong. Called for every request, so two or three times in a push. */
  authenticate(credentials: GitCredentials): Promise<GitUser | undefined>;
  onPush: OnPush;
  log: GitHttpLog;
  /** The largest pack taken in; default 2 GiB. */
  maxPushBytes?: number;
  /** How long a client may send or take nothing; default 5 min. */
  idleMs?: number;
  keepAliveMs?: number;
  /** How long closing the server waits for running pushes and fetches; default 10 s. */
  closeMs?: number;
};

const DEFAULTS = { maxPushBytes: 2 * 1024 ** 3, idleMs: 300_000, keepAliveMs: 5_000, closeMs: 10_000 };

// An unread body up to this size is read and dropped, so that the connection can be used again.
const SMALL_BODY_BYTES = 2 * 1024 * 1024;

/**
 * Serves the hosted repositories to git at `/git/APP.git` and `/git/APP`, by `git http-backend`.
 * The server must not limit the time of a whole request (Fastify's default does not). Register it outside of hooks that
 * authenticate or read bodies: it does both itself, with answers that git shows to its user.
 */
export const gitHttp: FastifyPluginAsync<GitHttpOptions> = async (fastify, given) => {
  const options = { ...DEFAULTS, ...given };
  const running = new Set<Running>();
  const closing = new AbortController();
  const program = await findBackend(options.repositories);

  // A pack is neither JSON nor text to be kept in memory: the handler reads the request itself.
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser("*", (_request, _payload, done) => done(null));

  fastify.route({
    method: ["GET", "POST"],
    url: "/git/*",
    exposeHeadRoute: false,
    schema: { hide: true },
    handler: async (request, reply) => {
      const target = parseTarget(request);
      if (target === undefined) return say(request, reply, 404, NOT_A_REPOSITORY);
      if (!isReadable(request.raw)) return say(request, reply, 415, "Send the body plain or gzipped.");
      const admitted = await admit(options, request, target);
      if ("status" in admitted) return say(request, reply, admitted.status, admitted.text);
      reply.hijack();
      await track(running, (task) =>
        serve({ options, program, target, actor: admitted.actor, closing }, request, reply, task),
      );
    },
  });

  fastify.addHook("preClose", async () => {
    closing.abort(new Error("the server closes"));
    await settle(running, options.closeMs);
  });
};

/** @throws GIT_FAILED when git or its http-backend is not installed: better at start than at the first push */
async function findBackend({ git }: Repositories): Promise<string> {
  const { stdout } = await git.run(["--exec-path"]);
  const program = `${stdout.toString("utf8").trim()}/git-http-backend`;
  await access(program, constants.X_OK).catch((cause) => {
    throw fail("GIT_FAILED", {
      message: `git is installed without its HTTP server: there is no ${program}.`,
      hint: "Install it; on Alpine Linux it is in the package git-daemon.",
      cause,
    });
  });
  return program;
}

// --- who may do what

type Service = "git-upload-pack" | "git-receive-pack";
type Target = { app: string; path: string; service: Service };

const NOT_A_REPOSITORY = "There is no repository at this address. Its form is /git/APP.git.";
const NO_TOKEN = [
  "This token is not valid, or there was none.",
  "Give a token as the password; the user name does not matter. Make one: `shipway token create`.",
].join("\n");

/** Only the three requests of git's smart protocol are served; everything else of a repository stays where it is. */
function parseTarget(request: FastifyRequest): Target | undefined {
  const [path = "", query = ""] = (request.raw.url ?? "").split("?", 2);
  const match = /\/git\/([a-z0-9-]+)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(path);
  const [, app, inside] = match ?? [];
  if (app === undefined || inside === undefined) return undefined;
  const service = inside === "info/refs" ? new URLSearchParams(query).get("service") : inside;
  if (service !== "git-upload-pack" && service !== "git-receive-pack") return undefined;
  if (request.method !== (inside === "info/refs" ? "GET" : "POST")) return undefined;
  return { app, path: inside, service };
}

async function admit(
  { authenticate, repositories }: GitHttpOptions,
  request: FastifyRequest,
  { app, service }: Target,
): Promise<{ actor: string } | { status: number; text: string }> {
  const credentials = parseCredentials(request.headers.authorization);
  const user = credentials && (await authenticate(credentials));
  if (user === undefined) return { status: 401, text: NO_TOKEN };
  const unknown = `There is no app ${app} here. Create it: \`shipway app create ${app}\`.`;
  // Whoever may not read an app is not told whether it exists.
  if (!(await user.canRead(app)))
    return { status: 404, text: `${unknown}\nIf it exists, ask an admin for a role in it.` };
  if (!(await repositories.exists(app))) return { status: 404, text: unknown };
  if (service === "git-receive-pack" && !(await user.canWrite(app))) {
    const text = `${user.actor} may read ${app} but not push to it: that takes the role developer. Ask an admin of ${app}.`;
    return { status: 403, text };
  }
  return { actor: user.actor };
}

function parseCredentials(header: string | undefined): GitCredentials | undefined {
  const [, scheme = "", value = ""] = /^(basic|bearer) +(\S+) *$/i.exec(header ?? "") ?? [];
  if (scheme.toLowerCase() === "bearer") return { username: "", password: value };
  if (scheme === "") return undefined;
  const decoded = Buffer.from(value, "base64").toString("utf8");
  const colon = decoded.indexOf(":");
  if (colon < 0) return undefined;
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** git shows a plain text answer to its user, each line behind `remote: `. */
function say(request: FastifyRequest, reply: FastifyReply, status: number, text: string): FastifyReply {
  if (status === 401) reply.header("WWW-Authenticate", 'Basic realm="Shipway", charset="UTF-8"');
  if (!hasSmallBody(request.raw)) reply.header("Connection", "close");
  return reply.code(status).header("Cache-Control", "no-store").type("text/plain; charset=utf-8").send(`${text}\n`);
}

function hasSmallBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] === undefined && Number(headers["content-length"] ?? 0) <= SMALL_BODY_BYTES;
}

// --- serving

type Running = { backend?: Backend; outlet?: Outlet; done: Promise<void> };

type Serving = {
  options: Required<GitHttpOptions>;
  program: string;
  target: Target;
  actor: string;
  closing: AbortController;
};

async function track(running: Set<Running>, work: (task: Running) => Promise<void>): Promise<void> {
  const task: Running = { done: Promise.resolve() };
  running.add(task);
  task.done = work(task).finally(() => running.delete(task));
  await task.done;
}

/** Waits for what runs, then ends it, at most 2 s later. */
async function settle(running: Set<Running>, closeMs: number): Promise<void> {
  const allDone = Promise.allSettled([...running].map(({ done }) => done)).then(() => true);
  const within = (ms: number) => {
    const over = new AbortController();
    return Promise.race([allDone, sleep(ms, over.signal).catch(() => {})]).finally(() => over.abort());
  };
  if (await within(closeMs)) return;
  // An upload that ends early makes git give up and clean up by itself.
  for (const { outlet } of running) outlet?.cut();
  if (await within(1_000)) return;
  for (const { backend } of running) backend?.stop("SIGTERM");
  if (await within(1_000)) return;
  for (const { backend } of running) backend?.stop("SIGKILL");
}

async function serve(serving: Serving, request: FastifyRequest, reply: FastifyReply, task: Running): Promise<void> {
  const { options, target, actor } = serving;
  const outlet = newOutlet(request.raw, reply.raw, options.idleMs);
  task.outlet = outlet;
  const startedAt = performance.now();
  const about = { app: target.app, actor, service: target.service };
  const start = async () => {
    task.backend = await startBackend(serving.program, options.repositories.git, backendRequest(serving, request));
    return task.backend;
  };
  try {
    const result = target.path === "git-receive-pack" ? await servePush(serving, request, outlet, start) : {};
    if (target.path !== "git-receive-pack") await passThrough(request, outlet, await start(), options.idleMs);
    const ms = Math.round(performance.now() - startedAt);
    options.log.info({ ...about, ...result, ms, clientLeft: outlet.gone.aborted }, "git request served");
  } catch (error) {
    const level = outlet.gone.aborted || isClientsFault(error) ? "info" : "error";
    options.log[level]({ ...about, err: error }, "git request failed");
    answerFailure(reply, outlet, error);
  } finally {
    outlet.end();
    await endBackend(task.backend, about, options.log);
  }
}

async function endBackend(backend: Backend | undefined, about: object, log: GitHttpLog): Promise<void> {
  if (backend === undefined) return;
  const { exitCode, stderr } = await backend.ended;
  if (stderr !== "") log.warn({ ...about, exitCode, stderr }, "git http-backend complained");
}

function backendRequest({ options, target, actor }: Serving, { method, raw, ip }: FastifyRequest): BackendRequest {
  const protocol = raw.headers["git-protocol"];
  return {
    repositoryDir: options.repositories.dirOf(target.app),
    method,
    path: target.path,
    query: target.path === "info/refs" ? `service=${target.service}` : "",
    contentType: raw.headers["content-type"],
    protocol: Array.isArray(protocol) ? protocol.join(":") : protocol,
    actor,
    address: ip,
    maxPackBytes: options.maxPushBytes,
  };
}

async function servePush(
  { options, target, actor, closing }: Serving,
  request: FastifyRequest,
  outlet: Outlet,
  start: () => Promise<Backend>,
): Promise<object> {
  const { maxPushBytes, keepAliveMs, idleMs } = options;
  const body = requestBody(request.raw, idleMs);
  const { problem, ...summary } = await receivePush(
    {
      app: target.app,
      actor,
      body,
      outlet,
      startBackend: start,
      maxPushBytes,
      keepAliveMs,
      closing: closing.signal,
    },
    options,
  );
  if (problem !== undefined) {
    options.log.error({ app: target.app, actor, refs: summary.refs, err: problem }, "a stored push was not recorded");
  }
  return summary;
}

/** Ref advertisements and fetches: git's answer as it comes. Nobody needs it any more when the client has gone. */
async function passThrough(request: FastifyRequest, outlet: Outlet, backend: Backend, idleMs: number): Promise<void> {
  const stop = () => backend.stop();
  outlet.gone.addEventListener("abort", stop, { once: true });
  const feeding = feed(backend.input, requestBody(request.raw, idleMs), outlet.cut);
  const { status, headers } = await backend.headers();
  outlet.start(status, headers);
  for await (const chunk of backend.output()) await outlet.send(chunk);
  const { exitCode } = await backend.ended;
  // An answer cut short must not look complete.
  if (exitCode !== 0) outlet.cut();
  else outlet.end();
  await feeding.done;
}

function answerFailure(reply: FastifyReply, outlet: Outlet, error: unknown): void {
  if (outlet.gone.aborted) return;
  if (outlet.started()) {
    outlet.cut();
    return;
  }
  const { status, text } = failureText(error);
  reply.raw.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", Connection: "close" });
  reply.raw.end(`${text}\n`);
}

function failureText(error: unknown): { status: number; text: string } {
  if (error instanceof PacketError)
    return { status: 400, text: `This is not a push that can be read: ${error.message}.` };
  if (isUnpackError(error))
    return { status: 400, text: "The body says that it is gzipped, but it cannot be unpacked." };
  const { code, message } = toProblem(error);
  if (code === "BUG") return { status: 500, text: "An error on the server; its log has the details." };
  return { status: 502, text: message };
}

function isClientsFault(error: unknown): boolean {
  return error instanceof PacketError || isUnpackError(error);
}

function isUnpackError(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("Z_");
}
