import { z } from "zod";
import {
  type DestroyInfraRequest,
  IgnoredDriftBody,
  InfraBody,
  InfraRepositoryBody,
  InfraRunBody,
  InfraStartedBody,
  type RecoverRequest,
  RecoveryBody,
  StateBody,
  StateDiffBody,
  StateVersionBody,
} from "../http/infra-schemas.ts";
import { parseAnswer, type Query, type Server, send } from "./request.ts";

const TIMEOUT_MS = 60_000;

/** The part of the API about infrastructure. */
export function infraClient(server: Server) {
  const call = (method: string, path: string, options: { query?: Query; body?: unknown } = {}) =>
    send(server, method, path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const get = async <S extends z.ZodType>(schema: S, path: string, query: Query = {}) =>
    parseAnswer(server, await call("GET", path, { query }), schema);
  const post = async <S extends z.ZodType>(schema: S, path: string, body?: unknown) =>
    parseAnswer(server, await call("POST", path, { ...(body !== undefined && { body }) }), schema);

  return {
    startInfra: (
      app: string,
      environment: string,
      body: { kind: "plan" | "apply" | "drift"; ref?: string; again?: true },
    ) => post(InfraStartedBody, `${infraPath(app, environment)}/runs`, body),
    destroyInfra: (app: string, environment: string, body: z.input<typeof DestroyInfraRequest>) =>
      post(InfraStartedBody, `${infraPath(app, environment)}/destroy`, body),
    createInfraRepository: (app: string, name: string) => post(InfraRepositoryBody, repositoriesPath(app), { name }),
    listInfraRepositories: (app: string) => get(z.array(InfraRepositoryBody), repositoriesPath(app)),
    removeInfraRepository: async (app: string, name: string) => {
      await call("DELETE", `${repositoriesPath(app)}/${encodeURIComponent(name)}`);
    },
    getInfra: (app: string, environment: string) => get(InfraBody, infraPath(app, environment)),
    listInfraRuns: (app: string, query: { environment?: string | undefined; limit: number }) =>
      get(z.array(InfraRunBody), `/api/apps/${encodeURIComponent(app)}/infra/runs`, query),
    getInfraRun: (id: string) => get(InfraRunBody, runPath(id)),
    approveInfraRun: (id: string) => post(InfraStartedBody, `${runPath(id)}/approve`),
    rejectInfraRun: async (id: string) => {
      await call("POST", `${runPath(id)}/reject`);
    },
    cancelInfraRun: (id: string, force: boolean) => post(InfraRunBody, `${runPath(id)}/cancel${force ? "/force" : ""}`),
    listStates: (app: string, environment: string, limit: number) =>
      get(z.array(StateVersionBody), `${infraPath(app, environment)}/states`, { limit }),
    getState: (app: string, environment: string, version: string) =>
      get(StateBody, statePath(app, environment, version)),
    getRawState: (app: string, environment: string, version: string) =>
      get(z.unknown(), `${statePath(app, environment, version)}/raw`),
    diffStates: (app: string, environment: string, version: string, from: string | undefined) =>
      get(StateDiffBody, `${statePath(app, environment, version)}/diff`, { from }),
    restoreState: (app: string, environment: string, version: string) =>
      post(StateVersionBody, `${statePath(app, environment, version)}/restore`),
    acceptDrift: (app: string, environment: string, targets: string[]) =>
      post(InfraStartedBody, `${infraPath(app, environment)}/drift/accept`, { targets }),
    listIgnoredDrift: (app: string, environment: string) =>
      get(z.array(IgnoredDriftBody), `${infraPath(app, environment)}/drift/ignored`),
    ignoreDrift: async (
      app: string,
      environment: string,
      body: { what: string; reason: string; for?: string | undefined },
    ) => {
      await call("POST", `${infraPath(app, environment)}/drift/ignore`, { body });
    },
    unignoreDrift: async (app: string, environment: string, what: string) => {
      await call("POST", `${infraPath(app, environment)}/drift/unignore`, { body: { what } });
    },
    unlockState: async (app: string, environment: string, lockId: string) => {
      await call("POST", `${infraPath(app, environment)}/unlock`, { body: { lockId } });
    },
    getRecovery: (app: string, environment: string) => get(RecoveryBody, `${infraPath(app, environment)}/recovery`),
    recover: (app: string, environment: string, body: z.input<typeof RecoverRequest>) =>
      post(z.object({ runId: z.string().nullable() }), `${infraPath(app, environment)}/recover`, body),
  };
}

const infraPath = (app: string, environment: string) =>
  `/api/apps/${encodeURIComponent(app)}/environments/${encodeURIComponent(environment)}/infra`;
const repositoriesPath = (app: string) => `/api/apps/${encodeURIComponent(app)}/infra/repositories`;
const runPath = (id: string) => `/api/infra/runs/${encodeURIComponent(id)}`;
const statePath = (app: string, environment: string, version: string) =>
  `${infraPath(app, environment)}/states/${encodeURIComponent(version)}`;
