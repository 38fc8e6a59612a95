import { setTimeout as wait } from "node:timers/promises";
import * as z from "zod/mini";
import { ProviderProblem } from "./protocol/diagnostics.ts";

export type ApiOptions = {
  server: string;
  token: string;
  /** Of the provider; the server's log shows it. */
  version: string;
  fetch?: typeof fetch;
  /** Between tries. Rejects when the signal aborts. */
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
};

/** Shipway's API as the resources need it. What is not there is undefined; everything else that goes wrong is a ProviderProblem. */
export type Api = ReturnType<typeof newApi>;
type Place = { app: string; environment: string };
type Named = Place & { name: string };

/** Each try; the network or the server is given this many chances. */
const TRIES = 4;
const FIRST_PAUSE_MS = 250;
const TIMEOUT_MS = 60_000;
/** A database's first start may pull its image; fetch itself waits 300 s for an answer to begin (undici, `headersTimeout`). */
const SLOW_TIMEOUT_MS = 290_000;

// Answers may have more in them: the server may be newer than the provider. zod/mini, for each process that Terraform starts has to load it.
const Timestamp = z.string();
const AppAnswer = z.object({
  name: z.string(),
  gitUrl: z.string(),
  createdAt: Timestamp,
  environments: z.array(z.string()),
});
const EnvironmentAnswer = z.object({
  app: z.string(),
  name: z.string(),
  liveRelease: z.nullable(z.number()),
  addresses: z.array(z.string()),
  declared: z.nullable(z.object({ branch: z.nullable(z.string()), tag: z.nullable(z.string()) })),
});
const VariableAnswer = z.object({ name: z.string(), value: z.string(), updatedAt: Timestamp });
const SecretAnswer = z.object({ name: z.string(), version: z.number(), updatedAt: Timestamp });
const BackingAnswer = z.object({
  name: z.string(),
  engine: z.string(),
  version: z.string(),
  host: z.string(),
  port: z.number(),
  variables: z.array(z.string()),
  state: z.enum(["running", "stopped", "missing", "starting"]),
});
export type BackingAnswer = z.infer<typeof BackingAnswer>;
export type EnvironmentAnswer = z.infer<typeof EnvironmentAnswer>;
const ErrorAnswer = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    hint: z.optional(z.string()),
    requestId: z.optional(z.string()),
  }),
});

/** What the API says of an object that is not there. A route that is not there is another matter: that server is too old. */
const ABSENT = new Set(["NOT_FOUND", "APP_NOT_FOUND", "ENVIRONMENT_NOT_FOUND"]);

export function newApi(options: ApiOptions) {
  const ask = newCaller(options);
  const read = <S extends z.ZodMiniType>(schema: S, path: string, signal: AbortSignal) =>
    ask(schema, { method: "GET", path, signal, absent: "undefined" });
  const put = async <S extends z.ZodMiniType>(
    schema: S,
    path: string,
    body: object,
    signal: AbortSignal,
    timeoutMs = TIMEOUT_MS,
  ) => present(await ask(schema, { method: "PUT", path, body, signal, timeoutMs }));
  const remove = async (path: string, signal: AbortSignal) => {
    // Some answer with remarks for a person; here only that it is gone matters.
    await ask(z.unknown(), { method: "DELETE", path, signal, absent: "undefined", timeoutMs: SLOW_TIMEOUT_MS });
  };

  const variablePath = (at: Named) => `${environmentPath(at)}/variables/${segment(at.name)}`;
  const secretPath = (at: Named) => `${environmentPath(at)}/secrets/${segment(at.name)}`;
  const backingPath = (at: Named) => `${environmentPath(at)}/backing/${segment(at.name)}`;

  return {
    findApp: (app: string, signal: AbortSignal) => read(AppAnswer, appPath(app), signal),
    // Not to be repeated blindly: the second one would say that the app exists.
    createApp: async (name: string, signal: AbortSignal) =>
      present(await ask(AppAnswer, { method: "POST", path: "/api/apps", body: { name }, signal })),
    removeApp: (app: string, signal: AbortSignal) => remove(appPath(app), signal),

    findEnvironment: (place: Place, signal: AbortSignal) => read(EnvironmentAnswer, environmentPath(place), signal),
    putEnvironment: (place: Place, rules: { branch: string | null; tag: string | null }, signal: AbortSignal) =>
      put(EnvironmentAnswer, environmentPath(place), rules, signal),
    removeEnvironment: (place: Place, signal: AbortSignal) => remove(`${environmentPath(place)}?data=keep`, signal),

    findVariable: (at: Named, signal: AbortSignal) => read(VariableAnswer, variablePath(at), signal),
    putVariable: (at: Named, value: string, signal: AbortSignal) =>
      put(VariableAnswer, variablePath(at), { value }, signal),
    removeVariable: (at: Named, signal: AbortSignal) => remove(variablePath(at), signal),

    findSecret: (at: Named, signal: AbortSignal) => read(SecretAnswer, secretPath(at), signal),
    putSecret: (at: Named, value: string, signal: AbortSignal) => put(SecretAnswer, secretPath(at), { value }, signal),
    removeSecret: (at: Named, signal: AbortSignal) => remove(secretPath(at), signal),

    findBacking: (at: Named, signal: AbortSignal) => read(BackingAnswer, backingPath(at), signal),
    putBacking: (at: Named, spec: { engine: string; version?: string }, signal: AbortSignal) =>
      put(BackingAnswer, backingPath(at), spec, signal, SLOW_TIMEOUT_MS),
    removeBacking: (at: Named, data: "keep" | "remove", signal: AbortSignal) =>
      remove(`${backingPath(at)}?data=${data}`, signal),
  };
}

const segment = encodeURIComponent;
const appPath = (app: string) => `/api/apps/${segment(app)}`;
const environmentPath = ({ app, environment }: Place) => `${appPath(app)}/environments/${segment(environment)}`;

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the server answered nothing");
  return value;
}

type Call = {
  method: "GET" | "PUT" | "POST" | "DELETE";
  path: string;
  body?: object;
  signal: AbortSignal;
  /** What "there is no such thing" comes to; by default it is a problem like any other. */
  absent?: "undefined";
  timeoutMs?: number;
};
type Outcome = { done: Response } | { again: ProviderProblem };

/** One call with its tries. */
function newCaller(options: ApiOptions) {
  const base = options.server.replace(/\/+$/, "");
  const send = options.fetch ?? fetch;
  const sleep = options.sleep ?? ((ms, signal) => wait(ms, undefined, { signal }));

  async function attempt(call: Call): Promise<Outcome> {
    const { method, path, body, timeoutMs = TIMEOUT_MS } = call;
    try {
      const response = await send(`${base}${path}`, {
        method,
        headers: {
          accept: "application/json",
          authorization: `Bearer ${options.token}`,
          "user-agent": `terraform-provider-shipway/${options.version}`,
          ...(body && { "content-type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([call.signal, AbortSignal.timeout(timeoutMs)]),
      });
      if (!mayPass(method, response.status)) return { done: response };
      return { again: await problemOf(base, response) };
    } catch (error) {
      call.signal.throwIfAborted();
      const gone = unreachable(base, error);
      // A request that was sent and not answered may have been carried out; only what was never sent, or may be carried out twice, is sent again.
      if (method === "POST" && codeOf(error) !== "ECONNREFUSED") throw gone;
      return { again: gone };
    }
  }

  return async <S extends z.ZodMiniType>(schema: S, call: Call): Promise<z.output<S> | undefined> => {
    for (let tried = 1; ; tried++) {
      const outcome = await attempt(call);
      if ("done" in outcome) return answerOf(base, schema, call, outcome.done);
      if (tried === TRIES) throw outcome.again;
      await pause(sleep, pauseMs(tried, Math.random()), call.signal);
    }
  };
}

async function pause(sleep: NonNullable<ApiOptions["sleep"]>, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, signal);
  } finally {
    signal.throwIfAborted();
  }
}

/** Doubling, and each a little off, so that objects that Terraform handles side by side do not come back all at once. */
export const pauseMs = (tried: number, chance: number): number =>
  Math.round(FIRST_PAUSE_MS * 2 ** (tried - 1) * (0.75 + chance / 2));

/** Answers of a server that is starting, overloaded or behind a proxy that lost it. */
const mayPass = (method: Call["method"], status: number): boolean =>
  status === 429 || status === 503 || (method !== "POST" && (status === 502 || status === 504));

async function answerOf<S extends z.ZodMiniType>(
  base: string,
  schema: S,
  call: Call,
  response: Response,
): Promise<z.output<S> | undefined> {
  if (!response.ok) {
    const answer = await response.json().catch(() => undefined);
    const known = ErrorAnswer.safeParse(answer);
    if (call.absent && response.status === 404 && known.success && ABSENT.has(known.data.error.code)) return undefined;
    throw problemIn(base, response.status, answer);
  }
  if (response.status === 204) return undefined;
  const parsed = schema.safeParse(await response.json().catch(() => undefined));
  if (parsed.success) return parsed.data;
  throw new ProviderProblem(`${base} answered something that this version of the provider does not understand`, {
    detail: "Use the provider that comes with that version of Shipway, and check the address.",
    cause: parsed.error,
  });
}

const problemOf = async (base: string, response: Response): Promise<ProviderProblem> =>
  problemIn(base, response.status, await response.json().catch(() => undefined));

function problemIn(base: string, status: number, answer: unknown): ProviderProblem {
  const parsed = ErrorAnswer.safeParse(answer);
  if (!parsed.success) {
    return new ProviderProblem(`${base} answered ${status}, but not as Shipway does`, {
      detail: "Check the provider's `server`, and what stands between here and there.",
    });
  }
  const { message, hint, requestId } = parsed.data.error;
  const trace = requestId === undefined ? "" : `Request ${requestId} in the server's log.`;
  return new ProviderProblem(message, { detail: [hint, status >= 500 && trace].filter(Boolean).join("\n") });
}

function unreachable(base: string, error: unknown): ProviderProblem {
  const timedOut = error instanceof Error && error.name === "TimeoutError";
  const reason = timedOut ? "it did not answer in time" : (codeOf(error) ?? String(error));
  return new ProviderProblem(`No Shipway answers at ${base}: ${reason}`, {
    detail: "Start it, or name another with the provider's `server` or SHIPWAY_SERVER.",
    cause: error,
  });
}

/** fetch hides the reason in the cause, or in one error per address that was tried. */
function codeOf(error: unknown): string | undefined {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : undefined;
}
