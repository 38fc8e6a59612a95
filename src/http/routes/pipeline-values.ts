import { z } from "zod";
import { pipelineScopes } from "../../environment/pipeline-values.ts";
import type { ValueScope } from "../../environment/value-scope.ts";
import { listVariables, removeVariable, setVariable } from "../../environment/variables.ts";
import { getApp } from "../../source/apps.ts";
import { Name } from "../../source/name.ts";
import type { Platform } from "../platform.ts";
import {
  PipelineSecretBody,
  PipelineVariableBody,
  SetSecretRequest,
  SetVariableRequest,
  VariableWord,
} from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewSecret, viewVariable } from "../views.ts";

/** Variables and secrets of pipeline steps: of every one, or of those with a deployment, which needs not be there yet. */
export function pipelineValueRoutes(server: TypedServer, { store, secrets }: Platform): void {
  const { db } = store;
  const params = z.object({ app: z.string() });
  const oneParams = params.extend({ name: VariableWord });
  const querystring = z.strictObject({
    environment: Name.optional().describe("Only for steps with this `deployment`; without it for every step"),
  });
  const scopeOf = ({ app }: { app: string }, { environment }: { environment?: string | undefined }): ValueScope => ({
    app,
    pipelines: true,
    ...(environment !== undefined && { environment }),
  });
  const ofScope = <T>({ environment = null }: { environment?: string | null }, all: T[]) =>
    all.map((one) => ({ ...one, environment }));

  server.get(
    "/api/apps/:app/pipeline-variables",
    {
      config: { role: "viewer" },
      schema: { summary: "Variables of pipeline steps", params, response: { 200: z.array(PipelineVariableBody) } },
    },
    async ({ params: { app } }) => {
      await getApp(db, app);
      const scopes = await pipelineScopes(db, app);
      const found = scopes.map(async (scope) => ofScope(scope, (await listVariables(db, scope)).map(viewVariable)));
      return (await Promise.all(found)).flat();
    },
  );

  server.put(
    "/api/apps/:app/pipeline-variables/:name",
    {
      config: { role: "developer" },
      schema: {
        summary: "Set a variable of pipeline steps; pipelines that begin from now on have it",
        params: oneParams,
        querystring,
        body: SetVariableRequest,
        response: { 200: PipelineVariableBody },
      },
    },
    async (request) => {
      const { name, app } = request.params;
      const { environment = null } = request.query;
      await getApp(db, app);
      const scope = scopeOf(request.params, request.query);
      const set = await setVariable(db, scope, name, request.body.value, identityOf(request).name);
      return { ...viewVariable(set), environment };
    },
  );

  server.delete(
    "/api/apps/:app/pipeline-variables/:name",
    {
      config: { role: "developer" },
      schema: {
        summary: "Remove a variable of pipeline steps",
        params: oneParams,
        querystring,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      const scope = scopeOf(request.params, request.query);
      await removeVariable(db, scope, request.params.name, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );

  server.get(
    "/api/apps/:app/pipeline-secrets",
    {
      config: { role: "developer" },
      schema: {
        summary: "Names of pipeline steps' secrets; values are never shown",
        params,
        response: { 200: z.array(PipelineSecretBody) },
      },
    },
    async ({ params: { app } }) => {
      await getApp(db, app);
      const scopes = await pipelineScopes(db, app);
      const found = scopes.map(async (scope) => ofScope(scope, (await secrets.list(scope)).map(viewSecret)));
      return (await Promise.all(found)).flat();
    },
  );

  server.put(
    "/api/apps/:app/pipeline-secrets/:name",
    {
      config: { role: "developer" },
      schema: {
        summary: "Set a secret of pipeline steps; pipelines that begin from now on have it",
        params: oneParams,
        querystring,
        body: SetSecretRequest,
        response: { 200: PipelineSecretBody },
      },
    },
    async (request) => {
      const { name, app } = request.params;
      const { environment = null } = request.query;
      await getApp(db, app);
      const scope = scopeOf(request.params, request.query);
      return {
        ...viewSecret(await secrets.set(scope, name, request.body.value, identityOf(request).name)),
        environment,
      };
    },
  );

  server.delete(
    "/api/apps/:app/pipeline-secrets/:name",
    {
      config: { role: "developer" },
      schema: {
        summary: "Remove a secret of pipeline steps",
        params: oneParams,
        querystring,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      await secrets.remove(scopeOf(request.params, request.query), request.params.name, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
