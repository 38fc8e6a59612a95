import { z } from "zod";
import { getVariable, listVariables, removeVariable, setVariable } from "../../environment/variables.ts";
import { getApp } from "../../source/apps.ts";
import { Name } from "../../source/name.ts";
import type { Platform } from "../platform.ts";
import { SetVariableRequest, VariableBody, VariableName } from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewVariable } from "../views.ts";

/** Configuration of an environment that is no secret. It may be set before anything was deployed there. */
export function variableRoutes(server: TypedServer, { store }: Platform): void {
  const { db } = store;
  const params = z.object({ app: z.string(), environment: Name });
  const oneParams = params.extend({ name: VariableName });

  server.get(
    "/api/apps/:app/environments/:environment/variables",
    {
      config: { role: "viewer", forRuns: true },
      schema: { summary: "Variables of every service there", params, response: { 200: z.array(VariableBody) } },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return (await listVariables(db, request.params)).map(viewVariable);
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/variables/:name",
    {
      config: { role: "viewer", forRuns: true },
      schema: { summary: "One variable", params: oneParams, response: { 200: VariableBody } },
    },
    async (request) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      return viewVariable(await getVariable(db, place, name));
    },
  );

  server.put(
    "/api/apps/:app/environments/:environment/variables/:name",
    {
      config: { role: "developer", forRuns: true },
      schema: {
        summary: "Set a variable; tasks get it with the next deployment",
        params: oneParams,
        body: SetVariableRequest,
        response: { 200: VariableBody },
      },
    },
    async (request) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      return viewVariable(await setVariable(db, place, name, request.body.value, identityOf(request).name));
    },
  );

  server.delete(
    "/api/apps/:app/environments/:environment/variables/:name",
    {
      config: { role: "developer", forRuns: true },
      schema: { summary: "Remove a variable", params: oneParams, response: { 204: z.null() } },
    },
    async (request, reply) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      await removeVariable(db, place, name, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
