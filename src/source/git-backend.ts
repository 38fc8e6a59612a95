import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { fail } from "../shared/errors.ts";
import type { GitCommand } from "./git-command.ts";

/** What the CGI program is told of a request (git-http-backend(1), "ENVIRONMENT"). */
export type BackendRequest = {
  repositoryDir: string;
  method: string;
  /** Inside the repository: `info/refs`. */
  path: string;
  query: string;
  contentType: string | undefined;
  /** The `Git-Protocol` header. */
  protocol: string | undefined;
  actor: string;
  address: string;
  /** The largest pack taken in, in bytes. */
  maxPackBytes: number;
};

export type BackendHeaders = { status: number; headers: Record<string, string> };

/** A running `git http-backend`. */
export type Backend = {
  input: Writable;
  /** Reads up to the end of the headers; to be called once, before `output`. */
  headers(): Promise<BackendHeaders>;
  /** What follows the headers. */
  output(): AsyncIterable<Buffer>;
  /** Resolves when the process has ended, with what it wrote to standard error. */
  ended: Promise<{ exitCode: number | null; stderr: string }>;
  /** Ends the process and all it started. git then leaves an unfinished pack behind; ending `input` is the clean way. */
  stop(signal?: NodeJS.Signals): void;
};

const MAX_HEADER_BYTES = 64 * 1024;
const MAX_STDERR_CHARS = 8_192;

/** @throws GIT_FAILED when the program cannot be started */
export async function startBackend(program: string, git: GitCommand, request: BackendRequest): Promise<Backend> {
  const child = spawn(program, [], {
    env: backendEnvironment(git, request),
    stdio: ["pipe", "pipe", "pipe"],
    // A process group of its own: an interrupt typed at Shipway's terminal does not cut off a push that is being stored,
    // and `stop` reaches the processes that git starts in its turn.
    detached: true,
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_CHARS);
  });
  // A backend that refuses early closes its input; its answer tells why.
  child.stdin.on("error", () => {});
  let running = true;
  const ended = new Promise<{ exitCode: number | null; stderr: string }>((resolve) => {
    child.once("close", (exitCode) => {
      running = false;
      resolve({ exitCode, stderr: stderr.trim() });
    });
  });
  await once(child, "spawn").catch((cause) => {
    throw fail("GIT_FAILED", {
      message: `${program} cannot be started: ${String(cause)}`,
      hint: "Install git together with its http-backend.",
      cause,
    });
  });
  return {
    input: child.stdin,
    ...cgiOutput(child.stdout),
    ended,
    stop(signal = "SIGTERM") {
      // Later the number may be another process's.
      if (running) stopGroup(child.pid, signal);
    },
  };
}

function stopGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has ended already.
  }
}

function backendEnvironment(git: GitCommand, request: BackendRequest): Record<string, string> {
  const { repositoryDir, path } = request;
  return {
    ...git.environment({ "receive.maxInputSize": String(request.maxPackBytes) }),
    GIT_PROJECT_ROOT: repositoryDir,
    PATH_INFO: `/${path}`,
    GIT_HTTP_EXPORT_ALL: "1",
    REQUEST_METHOD: request.method,
    QUERY_STRING: request.query,
    // No CONTENT_LENGTH: the end of the input says it as well, and http-backend then hands its input to git instead of
    // copying it. Told a length, git 2.39 spins for ever when a broken connection brings fewer bytes (seen).
    ...optional("CONTENT_TYPE", request.contentType),
    ...optional("GIT_PROTOCOL", request.protocol),
    REMOTE_USER: printable(request.actor),
    REMOTE_ADDR: printable(request.address),
  };
}

function optional(name: string, value: string | undefined): Record<string, string> {
  return value === undefined ? {} : { [name]: printable(value) };
}

function printable(text: string): string {
  return text.replace(/[\x00-\x1f\x7f]/g, "");
}

/** Splits a CGI answer (RFC 3875, 6) into its headers and the rest. */
function cgiOutput(stdout: Readable): Pick<Backend, "headers" | "output"> {
  const chunks: AsyncIterator<Buffer> = stdout[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  return {
    async headers() {
      for (;;) {
        const end = rest.indexOf("\r\n\r\n");
        if (end >= 0) {
          const head = rest.toString("latin1", 0, end);
          rest = rest.subarray(end + 4);
          return parseHeaders(head);
        }
        const next = rest.length > MAX_HEADER_BYTES ? { done: true as const } : await chunks.next();
        if (next.done) throw fail("GIT_FAILED", { message: "git http-backend ended without an answer." });
        rest = Buffer.concat([rest, next.value]);
      }
    },
    async *output() {
      if (rest.length > 0) yield rest;
      for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
    },
  };
}

function parseHeaders(head: string): BackendHeaders {
  const pairs = head.split("\r\n").map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()] as const;
  });
  const status = Number.parseInt(pairs.find(([name]) => name.toLowerCase() === "status")?.[1] ?? "200", 10);
  return { status, headers: Object.fromEntries(pairs.filter(([name]) => name.toLowerCase() !== "status")) };
}
