import { z } from "zod";
import { requireUnprotected } from "../../infra/ask-destroy.ts";
import { getTeardown, requestTeardown } from "../../release/teardowns.ts";
import { getApp } from "../../source/apps.ts";
import type { Platform } from "../platform.ts";
import { TeardownBody, TeardownRequestBody } from "../schemas.ts";
import { identityOf, requireApp, type TypedServer } from "../server.ts";
import { viewTeardown } from "../views.ts";

/** The end of an environment, as work that goes on whoever watches. */
export function teardownRoutes(server: TypedServer, { store: { db }, engine, infra }: Platform): void {
  server.post(
    "/api/apps/:app/environments/:environment/teardowns",
    {
      config: { role: "operator" },
      schema: {
        summary: "Stop an environment, or remove it; with what its Terraform has made, once an operator approved that",
        params: z.object({ app: z.string(), environment: z.string() }),
        body: TeardownRequestBody,
        response: { 202: TeardownBody },
      },
    },
    async (request, reply) => {
      await getApp(db, request.params.app);
      if (request.body.infra === "destroy" && request.body.overrule === undefined)
        await requireUnprotected(infra, request.params);
      const { teardown, start } = await requestTeardown(db, {
        ...request.params,
        ...request.body,
        actor: identityOf(request).name,
      });
      if (start) await engine.startTeardown(start);
      return reply.status(202).send(viewTeardown(teardown));
    },
  );

  server.get(
    "/api/teardowns/:id",
    {
      config: { role: "viewer" },
      schema: {
        summary: "How far a teardown is",
        params: z.object({ id: z.string() }),
        response: { 200: TeardownBody },
      },
    },
    async (request) => {
      const teardown = await getTeardown(db, request.params.id);
      requireApp(request, "viewer", teardown.app);
      return viewTeardown(teardown);
    },
  );
}
