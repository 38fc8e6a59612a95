import { z } from "zod";
import { getApp } from "../../source/apps.ts";
import { Name } from "../../source/name.ts";
import type { Platform } from "../platform.ts";
import { BackingBody, DataQuery, DeclareBackingRequest } from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewBacking } from "../views.ts";

/** Databases and caches declared for an environment beside those of shipway.yml. Nothing need have been deployed there. */
export function backingRoutes(server: TypedServer, { store, backings }: Platform): void {
  const { db } = store;
  const params = z.object({ app: z.string(), environment: Name });
  const oneParams = params.extend({ name: Name });

  server.get(
    "/api/apps/:app/environments/:environment/backing",
    {
      config: { role: "viewer", forRuns: true },
      schema: {
        summary: "Backing services declared through the API, as they really are",
        params,
        response: { 200: z.array(BackingBody) },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return (await backings.list(request.params)).map(viewBacking);
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/backing/:name",
    {
      config: { role: "viewer", forRuns: true },
      schema: { summary: "One of them", params: oneParams, response: { 200: BackingBody } },
    },
    async (request) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      return viewBacking(await backings.get(place, name));
    },
  );

  server.put(
    "/api/apps/:app/environments/:environment/backing/:name",
    {
      config: { role: "operator", forRuns: true },
      schema: {
        summary: "Declare a backing service, or start it again; answers when it answers a query",
        params: oneParams,
        body: DeclareBackingRequest,
        response: { 200: BackingBody },
      },
    },
    async (request) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      const { name: actor, tokenId, run } = identityOf(request);
      return viewBacking(await backings.put(place, name, request.body, { actor, ...(run && { runId: tokenId }) }));
    },
  );

  server.delete(
    "/api/apps/:app/environments/:environment/backing/:name",
    {
      config: { role: "operator", forRuns: true },
      schema: {
        summary: "Stop and remove a backing service; its data only where asked",
        params: oneParams,
        querystring: DataQuery,
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      const { name, ...place } = request.params;
      await getApp(db, place.app);
      await backings.remove(place, name, request.query.data, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
