import { z } from "zod";
import {
  declareEnvironment,
  getEnvironment,
  listEnvironments,
  resumeEnvironment,
} from "../../environment/environments.ts";
import { removeInitialised } from "../../infra/workspace.ts";
import { listDeployments } from "../../release/deployments.ts";
import { getRelease, listReleases } from "../../release/releases.ts";
import { removeEnvironment } from "../../release/remove-environment.ts";
import { requestRollback } from "../../release/rollback.ts";
import { runtimesOf } from "../../release/runtimes.ts";
import { errorCode, toProblem } from "../../shared/errors.ts";
import { getApp } from "../../source/apps.ts";
import { Name } from "../../source/name.ts";
import { servedSecrets } from "../../workflow/account-secrets.ts";
import { askRuntime } from "../ask-runtime.ts";
import type { Platform } from "../platform.ts";
import {
  AccountSecretBody,
  DataQuery,
  DeclareEnvironmentRequest,
  EnvironmentBody,
  RemovedBody,
  RollbackRequest,
  SecretBody,
  SetSecretRequest,
  StartedBody,
} from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewEnvironment, viewSecret } from "../views.ts";

/** What runs there is one thing of several that are shown. */
const LOOKS_FOR_MS = 5_000;

export function environmentRoutes(server: TypedServer, platform: Platform): void {
  const { store, secrets, target, engine, infra } = platform;
  const params = z.object({ app: z.string(), environment: z.string() });
  // A secret may be set before the environment's first deployment, so what names one is checked here.
  const secretParams = params.extend({
    environment: Name,
    name: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "use letters, digits and underscores"),
  });

  const view = async (row: Awaited<ReturnType<typeof getEnvironment>>) => {
    const place = { app: row.app, environment: row.name };
    const looking = askRuntime(platform, place, LOOKS_FOR_MS, target.observe(place));
    // What the store knows is shown even while Docker or AWS is away.
    const looked = looking.then(
      (observed) => ({ observed }),
      (error: unknown) => {
        if (errorCode(error) === undefined) throw error;
        return { observed: undefined, problem: toProblem(error) };
      },
    );
    const number = row.live_release ?? row.stopped_release;
    const [last, newest, { current, all }, [waiting], seen] = await Promise.all([
      number === null ? undefined : getRelease(store.db, row.app, number),
      number === null ? listReleases(store.db, row.app, 1) : [],
      runtimesOf(store.db, place),
      listDeployments(store.db, row.app, { environment: row.name, status: "waiting", limit: 1 }),
      looked,
    ]);
    const live = row.live_release === null ? undefined : last;
    // Where nothing was ever live it is what the last attempt was for.
    const runtime = last === undefined ? (all.at(-1) ?? current) : current;
    const declaring = last ?? newest[0];
    const { httpPort } = platform;
    return viewEnvironment(row, { live, declaring, waiting, runtime: runtime.kind, httpPort, ...seen });
  };

  server.get(
    "/api/apps/:app/environments",
    {
      config: { role: "viewer", forRuns: true },
      schema: {
        summary: "Environments of an app",
        params: z.object({ app: z.string() }),
        response: { 200: z.array(EnvironmentBody) },
      },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      return Promise.all((await listEnvironments(store.db, request.params.app)).map(view));
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment",
    {
      config: { role: "viewer", forRuns: true },
      schema: { summary: "What runs in an environment", params, response: { 200: EnvironmentBody } },
    },
    async (request) => view(await getEnvironment(store.db, request.params)),
  );

  server.put(
    "/api/apps/:app/environments/:environment",
    {
      config: { role: "operator", forRuns: true },
      schema: {
        summary: "Declare an environment; it needs no entry in shipway.yml",
        params: params.extend({ environment: Name }),
        body: DeclareEnvironmentRequest,
        response: { 200: EnvironmentBody },
      },
    },
    async (request) => {
      const { branch = null, tag = null } = request.body;
      await getApp(store.db, request.params.app);
      return view(await declareEnvironment(store.db, request.params, { branch, tag }, identityOf(request).name));
    },
  );

  server.delete(
    "/api/apps/:app/environments/:environment",
    {
      config: { role: "operator", forRuns: true },
      schema: {
        summary: "Stop and remove all that runs in an environment; its history stays",
        params,
        querystring: DataQuery,
        response: { 200: RemovedBody },
      },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      const deps = { db: store.db, target };
      const remarks = await removeEnvironment(deps, request.params, request.query.data, identityOf(request).name);
      await removeInitialised(infra.dir, request.params);
      return { remarks };
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/rollback",
    {
      config: { role: "developer" },
      schema: {
        summary: "Go back to an earlier release",
        params,
        body: RollbackRequest,
        response: { 202: StartedBody },
      },
    },
    async (request, reply) => {
      const { to } = request.body;
      const { start, ...started } = await requestRollback(store.db, request.params, to, identityOf(request).name);
      if (start) await engine.startDeployment(start);
      return reply.status(202).send(started);
    },
  );

  server.post(
    "/api/apps/:app/environments/:environment/resume",
    {
      config: { role: "developer" },
      schema: { summary: "Let pushes deploy again after a rollback", params, response: { 204: z.null() } },
    },
    async (request, reply) => {
      await resumeEnvironment(store.db, request.params, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/secrets",
    {
      config: { role: "developer", forRuns: true },
      schema: { summary: "Names of secrets; values are never shown", params, response: { 200: z.array(SecretBody) } },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      return (await secrets.list(request.params)).map(viewSecret);
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/account-secrets",
    {
      config: { role: "developer" },
      schema: {
        summary: "Secrets of the AWS account that tasks of the release that serves get: where they lie, never a value",
        params,
        response: { 200: z.array(AccountSecretBody) },
      },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      const used = await servedSecrets(store, request.params);
      return Object.entries(used)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, { from, version, isPinned }]) => ({ name, from, version, isPinned }));
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/secrets/:name",
    {
      config: { role: "developer", forRuns: true },
      schema: {
        summary: "Whether a secret is set, never its value",
        params: secretParams,
        response: { 200: SecretBody },
      },
    },
    async (request) => {
      const { name, ...place } = request.params;
      await getApp(store.db, place.app);
      return viewSecret(await secrets.get(place, name));
    },
  );

  server.put(
    "/api/apps/:app/environments/:environment/secrets/:name",
    {
      config: { role: "developer", forRuns: true },
      schema: {
        summary: "Set a secret; tasks get it with the next deployment",
        params: secretParams,
        body: SetSecretRequest,
        response: { 200: SecretBody },
      },
    },
    async (request) => {
      await getApp(store.db, request.params.app);
      const { name, ...place } = request.params;
      return viewSecret(await secrets.set(place, name, request.body.value, identityOf(request).name));
    },
  );

  server.delete(
    "/api/apps/:app/environments/:environment/secrets/:name",
    {
      config: { role: "developer", forRuns: true },
      schema: { summary: "Remove a secret", params: secretParams, response: { 204: z.null() } },
    },
    async (request, reply) => {
      const { name, ...place } = request.params;
      await getApp(store.db, place.app);
      await secrets.remove(place, name, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
