import { z } from "zod";
import { MetricsBody } from "../http/metrics-schemas.ts";
import { HookBody, NotifyDeliveryBody } from "../http/notify-schemas.ts";
import {
  AccountSecretBody,
  type ApiEvent,
  type ApiLogLine,
  AppBody,
  BackingBody,
  ContinuedBody,
  type Deployment,
  DeploymentBody,
  EnvironmentBody,
  EnvironmentCostBody,
  EventBody,
  LogLineBody,
  PipelineBody,
  PipelineSecretBody,
  PipelineVariableBody,
  ReleaseBody,
  RemovedBody,
  ReviewBody,
  type Role,
  SecretBody,
  StartedBody,
  StatusBody,
  type TaskLogLine,
  TaskLogLineBody,
  TaskRunBody,
  type TaskRunRequest,
  TeardownBody,
  type TeardownRequestBody,
  TokenBody,
  VariableBody,
} from "../http/schemas.ts";
import type { KeptData } from "../rollout/target.ts";
import { type ExecAsk, type ExecIo, exec } from "./exec-client.ts";
import { type FollowOptions, followStream } from "./follow.ts";
import { infraClient } from "./infra-client.ts";
import { parseAnswer, type Query, type Server, send } from "./request.ts";

export type ApiClient = ReturnType<typeof apiClient>;
export type TaskLogQuery = {
  service?: string | undefined;
  release?: number | undefined;
  since?: string | undefined;
};
export type EventQuery = { after?: number | undefined; app?: string | undefined; deliveryId?: string | undefined };

type ListedDeployments = {
  environment?: string | undefined;
  status?: Deployment["status"] | undefined;
  limit?: number;
};
type TaskRunAsk = z.input<typeof TaskRunRequest>;

const NewTokenBody = TokenBody.extend({ token: z.string() });
const NewHookBody = HookBody.extend({ secret: z.string() });
const ReadyBody = z.object({ ready: z.boolean(), version: z.string() });
const TIMEOUT_MS = 60_000;
/** Removing an app drains and stops all of its tasks first. */
const REMOVAL_TIMEOUT_MS = 600_000;
/** A database may have its image pulled and its data prepared first; the server itself gives that three minutes. */
const BACKING_TIMEOUT_MS = 600_000;
/** How far back a broken log stream is read again: as far as lines of two tasks arrive out of order, which on AWS is some seconds. */
const LOG_OVERLAP_MS = 15_000;

/** The API of one server. Every answer is parsed by the schemas that the server itself answers with; every error is a ShipwayError with the API's code. */
export function apiClient(server: Server) {
  const call = (method: string, path: string, options: { query?: Query; body?: unknown; timeoutMs?: number } = {}) =>
    send(server, method, path, { ...options, signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS) });
  const get = async <S extends z.ZodType>(schema: S, path: string, query: Query = {}) =>
    parseAnswer(server, await call("GET", path, { query }), schema);
  const change = async <S extends z.ZodType>(schema: S, method: string, path: string, body: unknown) =>
    parseAnswer(server, await call(method, path, { body }), schema);

  return {
    ...infraClient(server),
    baseUrl: server.baseUrl,
    exec: (app: string, environment: string, start: ExecAsk, io: ExecIo) =>
      exec(server, `${environmentPath(app, environment)}/exec`, start, io),
    ready: () => get(ReadyBody, "/api/ready"),
    status: async (options: { timeoutMs?: number } = {}) =>
      parseAnswer(server, await call("GET", "/api/status", options), StatusBody),

    listApps: () => get(z.array(AppBody), "/api/apps"),
    createApp: (name: string) => change(AppBody, "POST", "/api/apps", { name }),
    getApp: (app: string) => get(AppBody, appPath(app)),
    removeApp: async (app: string, query: { images: "keep" | "remove" }) =>
      parseAnswer(server, await call("DELETE", appPath(app), { query, timeoutMs: REMOVAL_TIMEOUT_MS }), RemovedBody),

    listEnvironments: (app: string) => get(z.array(EnvironmentBody), `${appPath(app)}/environments`),
    getEnvironment: (app: string, environment: string) => get(EnvironmentBody, environmentPath(app, environment)),
    declareEnvironment: (app: string, environment: string, rules: { branch?: string; tag?: string }) =>
      change(EnvironmentBody, "PUT", environmentPath(app, environment), rules),
    tearDown: (app: string, environment: string, request: z.input<typeof TeardownRequestBody>) =>
      change(TeardownBody, "POST", `${environmentPath(app, environment)}/teardowns`, request),
    getTeardown: (id: string) => get(TeardownBody, `/api/teardowns/${encodeURIComponent(id)}`),
    environmentCost: (
      app: string,
      environment: string,
      query: { release?: number | undefined; region?: string | undefined },
    ) => get(EnvironmentCostBody, `${environmentPath(app, environment)}/cost`, query),
    metrics: (app: string, environment: string, query: { service?: string | undefined; since?: string | undefined }) =>
      get(MetricsBody, `${environmentPath(app, environment)}/metrics`, query),
    resume: async (app: string, environment: string) => {
      await call("POST", `${environmentPath(app, environment)}/resume`);
    },

    deploy: (app: string, request: { environment: string; ref?: string; release?: number }) =>
      change(StartedBody, "POST", `${appPath(app)}/deployments`, request),
    rollback: (app: string, environment: string, request: { to?: number }) =>
      change(StartedBody, "POST", `${environmentPath(app, environment)}/rollback`, request),
    listDeployments: (app: string, query: ListedDeployments = {}) =>
      get(z.array(DeploymentBody), `${appPath(app)}/deployments`, query),
    getDeployment: (id: string) => get(DeploymentBody, `/api/deployments/${encodeURIComponent(id)}`),
    reviewDeployment: (id: string) => get(ReviewBody, `/api/deployments/${encodeURIComponent(id)}/review`),
    approveDeployment: (id: string, request: { comment?: string }) =>
      change(StartedBody, "POST", `/api/deployments/${encodeURIComponent(id)}/approve`, request),
    rejectDeployment: async (id: string, reason: string) => {
      await call("POST", `/api/deployments/${encodeURIComponent(id)}/reject`, { body: { reason } });
    },
    cancelDeployment: async (id: string) => {
      await call("POST", `/api/deployments/${encodeURIComponent(id)}/cancel`);
    },
    listReleases: (app: string, query: { limit?: number } = {}) =>
      get(z.array(ReleaseBody), `${appPath(app)}/releases`, query),
    listPipelines: (app: string, query: { limit?: number } = {}) =>
      get(z.array(PipelineBody), `${appPath(app)}/pipelines`, query),
    continuePipeline: (id: string, request: { step?: string }) =>
      change(ContinuedBody, "POST", `/api/pipelines/${encodeURIComponent(id)}/continue`, request),
    getPipeline: (id: string) => get(PipelineBody, `/api/pipelines/${encodeURIComponent(id)}`),

    startRun: (app: string, environment: string, request: TaskRunAsk) =>
      change(TaskRunBody, "POST", `${environmentPath(app, environment)}/runs`, request),
    listRuns: (app: string, query: { environment?: string | undefined; limit?: number } = {}) =>
      get(z.array(TaskRunBody), `${appPath(app)}/runs`, query),
    getRun: (id: string) => get(TaskRunBody, `/api/runs/${encodeURIComponent(id)}`),
    cancelRun: async (id: string) => {
      await call("POST", `/api/runs/${encodeURIComponent(id)}/cancel`);
    },

    listSecrets: (app: string, environment: string) =>
      get(z.array(SecretBody), `${environmentPath(app, environment)}/secrets`),
    listAccountSecrets: (app: string, environment: string) =>
      get(z.array(AccountSecretBody), `${environmentPath(app, environment)}/account-secrets`),
    setSecret: (app: string, environment: string, name: string, value: string) =>
      change(SecretBody, "PUT", secretPath(app, environment, name), { value }),
    removeSecret: async (app: string, environment: string, name: string) => {
      await call("DELETE", secretPath(app, environment, name));
    },

    listPipelineSecrets: async (app: string, options: { timeoutMs?: number } = {}) =>
      parseAnswer(server, await call("GET", `${appPath(app)}/pipeline-secrets`, options), z.array(PipelineSecretBody)),
    setPipelineSecret: (app: string, environment: string | undefined, name: string, value: string) =>
      change(PipelineSecretBody, "PUT", pipelinePath(app, "secrets", name, environment), { value }),
    removePipelineSecret: async (app: string, environment: string | undefined, name: string) => {
      await call("DELETE", pipelinePath(app, "secrets", name, environment));
    },

    listPipelineVariables: async (app: string, options: { timeoutMs?: number } = {}) =>
      parseAnswer(
        server,
        await call("GET", `${appPath(app)}/pipeline-variables`, options),
        z.array(PipelineVariableBody),
      ),
    setPipelineVariable: (app: string, environment: string | undefined, name: string, value: string) =>
      change(PipelineVariableBody, "PUT", pipelinePath(app, "variables", name, environment), { value }),
    removePipelineVariable: async (app: string, environment: string | undefined, name: string) => {
      await call("DELETE", pipelinePath(app, "variables", name, environment));
    },

    listVariables: (app: string, environment: string) =>
      get(z.array(VariableBody), `${environmentPath(app, environment)}/variables`),
    setVariable: (app: string, environment: string, name: string, value: string) =>
      change(VariableBody, "PUT", variablePath(app, environment, name), { value }),
    removeVariable: async (app: string, environment: string, name: string) => {
      await call("DELETE", variablePath(app, environment, name));
    },

    listBacking: (app: string, environment: string) =>
      get(z.array(BackingBody), `${environmentPath(app, environment)}/backing`),
    declareBacking: async (
      app: string,
      environment: string,
      name: string,
      wanted: { engine: string; version?: string },
    ) =>
      parseAnswer(
        server,
        await call("PUT", backingPath(app, environment, name), { body: wanted, timeoutMs: BACKING_TIMEOUT_MS }),
        BackingBody,
      ),
    removeBacking: async (app: string, environment: string, name: string, query: { data: KeptData }) => {
      await call("DELETE", backingPath(app, environment, name), { query });
    },

    listTokens: () => get(z.array(TokenBody), "/api/tokens"),
    createToken: (request: { name: string; role: Role; app?: string }) =>
      change(NewTokenBody, "POST", "/api/tokens", request),
    revokeToken: async (id: string) => {
      await call("DELETE", `/api/tokens/${encodeURIComponent(id)}`);
    },

    addHook: (request: { url: string; app?: string; format: "json" | "slack"; on?: string[] }) =>
      change(NewHookBody, "POST", "/api/notify/hooks", request),
    listHooks: (app?: string) => get(z.array(HookBody), "/api/notify/hooks", { app }),
    testHook: async (id: string) => parseAnswer(server, await call("POST", `${hookPath(id)}/test`), NotifyDeliveryBody),
    listNotifyDeliveries: (id: string, limit: number) =>
      get(z.array(NotifyDeliveryBody), `${hookPath(id)}/deliveries`, { limit }),
    removeHook: async (id: string) => {
      await call("DELETE", hookPath(id));
    },

    listEvents: (query: EventQuery & { limit?: number } = {}) => get(z.array(EventBody), "/api/events", query),
    readLog: (id: string, from = 0) => get(z.array(LogLineBody), "/api/logs", { id, from, follow: false }),
    readTaskLogs: (app: string, environment: string, query: TaskLogQuery = {}) =>
      get(z.array(TaskLogLineBody), `${environmentPath(app, environment)}/logs`, { ...query, follow: false }),

    /** Events as they happen, each once and in order, across lost connections. With neither `after` nor a delivery: from now on. */
    followEvents: (query: EventQuery, options: FollowOptions = {}) => followEvents(server, query, options),
    /** Lines of a stored log as they come, each once; ends when the log is closed. */
    followLog: (id: string, from = 0, options: FollowOptions = {}) => followLog(server, id, from, options),
    /** Output of an environment's tasks as it comes, each line once. */
    followTaskLogs: (app: string, environment: string, query: TaskLogQuery = {}, options: FollowOptions = {}) =>
      followTaskLogs(server, `${environmentPath(app, environment)}/logs`, query, options),
  };
}

async function* followEvents(server: Server, query: EventQuery, options: FollowOptions): AsyncGenerator<ApiEvent> {
  let last = query.after;
  const resume = () => ({
    query: { ...query, after: last },
    ...(last === undefined ? {} : { lastEventId: String(last) }),
  });
  for await (const message of followStream(server, "/api/events", resume, options)) {
    const event = parseMessage(EventBody, message.data);
    if (event === undefined || (last !== undefined && event.id <= last)) continue;
    last = event.id;
    yield event;
  }
}

async function* followLog(
  server: Server,
  id: string,
  from: number,
  options: FollowOptions,
): AsyncGenerator<ApiLogLine> {
  let next = from;
  const resume = () => ({ query: { id, from: next, follow: true } });
  for await (const message of followStream(server, "/api/logs", resume, options)) {
    if (message.event === "end") return;
    const line = parseMessage(LogLineBody, message.data);
    if (line === undefined || line.line < next) continue;
    next = line.line + 1;
    yield line;
  }
}

async function* followTaskLogs(
  server: Server,
  path: string,
  query: TaskLogQuery,
  options: FollowOptions,
): AsyncGenerator<TaskLogLine> {
  const recent = newRecentLines();
  const resume = () => ({ query: { ...query, since: recent.rewind() ?? query.since, follow: true } });
  for await (const message of followStream(server, path, resume, options)) {
    const line = parseMessage(TaskLogLineBody, message.data);
    if (line !== undefined && recent.add(line)) yield line;
  }
}

/**
 * Lines of tasks have no number, only a time, and those of several tasks arrive a little out of order. So a stream that begins again is read from a few
 * seconds before its newest line, and the lines that were already shown are counted off. `add` says whether a line is new; `rewind` begins again and
 * gives the time to read from (undefined when nothing came yet).
 */
export function newRecentLines(): { add(line: TaskLogLine): boolean; rewind(): string | undefined } {
  let shown: { atMs: number; key: string }[] = [];
  let repeated = new Map<string, number>();
  let newestMs: number | undefined;
  const keyOf = (line: TaskLogLine) => JSON.stringify([line.task, line.at, line.stream, line.text]);
  return {
    add(line) {
      const key = keyOf(line);
      const again = repeated.get(key) ?? 0;
      if (again > 0) {
        repeated.set(key, again - 1);
        return false;
      }
      const atMs = Date.parse(line.at);
      newestMs = Math.max(newestMs ?? atMs, atMs);
      const oldest = newestMs - LOG_OVERLAP_MS;
      if ((shown[0]?.atMs ?? oldest) < oldest - LOG_OVERLAP_MS) shown = shown.filter((one) => one.atMs >= oldest);
      shown.push({ atMs, key });
      return true;
    },
    rewind() {
      if (newestMs === undefined) return undefined;
      repeated = new Map();
      for (const { key } of shown) repeated.set(key, (repeated.get(key) ?? 0) + 1);
      return new Date(newestMs - LOG_OVERLAP_MS).toISOString();
    },
  };
}

function parseMessage<S extends z.ZodType>(schema: S, data: string): z.output<S> | undefined {
  try {
    return schema.parse(JSON.parse(data));
  } catch {
    // A newer server may send kinds that we do not know; a stream must not end for one of them.
    return undefined;
  }
}

const appPath = (app: string) => `/api/apps/${encodeURIComponent(app)}`;
const environmentPath = (app: string, environment: string) =>
  `${appPath(app)}/environments/${encodeURIComponent(environment)}`;
const hookPath = (id: string) => `/api/notify/hooks/${encodeURIComponent(id)}`;
const variablePath = (app: string, environment: string, name: string) =>
  `${environmentPath(app, environment)}/variables/${encodeURIComponent(name)}`;
const pipelinePath = (app: string, kind: "variables" | "secrets", name: string, environment: string | undefined) =>
  `${appPath(app)}/pipeline-${kind}/${encodeURIComponent(name)}${environment === undefined ? "" : `?environment=${encodeURIComponent(environment)}`}`;
const backingPath = (app: string, environment: string, name: string) =>
  `${environmentPath(app, environment)}/backing/${encodeURIComponent(name)}`;
const secretPath = (app: string, environment: string, name: string) =>
  `${environmentPath(app, environment)}/secrets/${encodeURIComponent(name)}`;
