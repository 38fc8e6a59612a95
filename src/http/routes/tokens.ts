import { z } from "zod";
import { createToken, listTokens, revokeToken } from "../../access/tokens.ts";
import { getApp } from "../../source/apps.ts";
import type { Platform } from "../platform.ts";
import { CreateTokenRequest, TokenBody } from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewToken } from "../views.ts";

export function tokenRoutes(server: TypedServer, { store }: Platform): void {
  server.get(
    "/api/tokens",
    {
      config: { role: "admin", everyApp: true },
      schema: { summary: "Tokens that are not revoked", response: { 200: z.array(TokenBody) } },
    },
    async () => (await listTokens(store.db)).map(viewToken),
  );

  server.post(
    "/api/tokens",
    {
      config: { role: "admin", everyApp: true },
      schema: {
        summary: "Make a token; its text is shown this once",
        body: CreateTokenRequest,
        response: { 201: TokenBody.extend({ token: z.string() }) },
      },
    },
    async (request, reply) => {
      if (request.body.app !== undefined) await getApp(store.db, request.body.app);
      const { token, record } = await createToken(store.db, request.body, identityOf(request).name);
      return reply.status(201).send({ ...viewToken(record), token });
    },
  );

  server.delete(
    "/api/tokens/:id",
    {
      config: { role: "admin", everyApp: true },
      schema: { summary: "Revoke a token at once", params: z.object({ id: z.string() }), response: { 204: z.null() } },
    },
    async (request, reply) => {
      await revokeToken(store.db, request.params.id, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
