import type { z } from "zod";
import { ErrorBody } from "../http/schemas.ts";
import { ERRORS, type ErrorCode, fail, ShipwayError } from "../shared/errors.ts";

export type Fetch = typeof fetch;
export type Server = { baseUrl: string; token: string; fetch?: Fetch | undefined };
export type Query = Record<string, string | number | boolean | undefined>;

/** Our server failed inside (a bug): the message it may show is poor, so the request id leads to its log. */
export class ServerFailure extends Error {
  readonly requestId: string | undefined;

  constructor(message: string, requestId: string | undefined) {
    super(message);
    this.name = "ServerFailure";
    this.requestId = requestId;
  }
}

/** Sends one request and returns the answer when it is a success. @throws the error the API answered with, or API_UNREACHABLE */
export async function send(
  server: Server,
  method: string,
  path: string,
  options: { query?: Query; body?: unknown; headers?: Record<string, string>; signal?: AbortSignal } = {},
): Promise<Response> {
  const url = withQuery(`${server.baseUrl}${path}`, options.query ?? {});
  const hasBody = options.body !== undefined;
  const response = await reach(server, url, {
    method,
    headers: {
      accept: "application/json",
      authorization: `Bearer ${server.token}`,
      ...(hasBody ? { "content-type": "application/json" } : {}),
      ...options.headers,
    },
    ...(hasBody ? { body: JSON.stringify(options.body) } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  if (!response.ok) throw await answeredError(server, response);
  return response;
}

/** The body of a success, in the type of `schema`. An answer of another shape is not Shipway's, or not of our version. */
export async function parseAnswer<S extends z.ZodType>(
  server: Server,
  response: Response,
  schema: S,
): Promise<z.output<S>> {
  const result = schema.safeParse(await response.json().catch(() => undefined));
  if (result.success) return result.data;
  throw fail("API_UNREACHABLE", {
    message: `${server.baseUrl} answered something that this version of the command line does not understand.`,
    hint: "Check the address (`--server`), and that client and server are of the same version: `shipway status`, `shipway --version`.",
    cause: result.error,
  });
}

async function reach(server: Server, url: string, init: RequestInit): Promise<Response> {
  try {
    return await (server.fetch ?? fetch)(url, init);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw unreachable(server, error);
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

export function unreachable(server: Server, cause: unknown): ShipwayError {
  if (isTimeout(cause))
    return fail("API_UNREACHABLE", {
      message: `Shipway at ${server.baseUrl} did not answer in time.`,
      hint: "It may be busy, or wait for something itself. Try again; its log says more.",
      cause,
    });
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(new URL(server.baseUrl).hostname);
  return fail("API_UNREACHABLE", {
    message: `No Shipway answers at ${server.baseUrl}: ${reasonOf(cause)}.`,
    hint: local
      ? "Start it: `shipway up`"
      : "Check the address and the network, then try again; `--server URL` names another server.",
    cause,
  });
}

const isTimeout = (error: unknown): boolean => error instanceof Error && error.name === "TimeoutError";

/** fetch hides the reason in the cause, or in one error per address that was tried. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : undefined;
  if (code === "ECONNREFUSED") return "the connection was refused";
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "the name is not known";
  return code ?? (cause instanceof Error ? cause.message : String(cause));
}

async function answeredError(server: Server, response: Response): Promise<Error> {
  return readError(server, response.status, await response.text().catch(() => ""));
}

/** What an answer that is no success says. */
export function readError(server: Server, status: number, body: string): Error {
  const parsed = ErrorBody.safeParse(parseJson(body));
  if (!parsed.success) {
    return fail("API_UNREACHABLE", {
      message: `${server.baseUrl} answered ${status}, but not as Shipway does.`,
      hint: "Check the address (`--server`), and what stands between here and there.",
    });
  }
  const { code, message, hint, requestId } = parsed.data.error;
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : genericCode(status);
  return known === undefined ? new ServerFailure(message, requestId) : new ShipwayError(known, { message, hint });
}

/** A newer server may know codes that we do not: keep what decides about the exit code. */
function genericCode(status: number): ErrorCode | undefined {
  if (status === 401) return "TOKEN_INVALID";
  if (status === 403) return "FORBIDDEN";
  if (status === 404) return "NOT_FOUND";
  if (status === 500) return undefined;
  return status > 500 ? "API_UNREACHABLE" : "REQUEST_INVALID";
}

function withQuery(url: string, query: Query): string {
  const pairs = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined) pairs.set(key, String(value));
  return pairs.size === 0 ? url : `${url}?${pairs}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
