import { z } from "zod";
import { getApp } from "../../source/apps.ts";
import {
  createInfraRepository,
  type InfraRepository,
  listInfraRepositories,
  removeInfraRepository,
  usersOf,
} from "../../source/infra-repositories.ts";
import { CreateInfraRepositoryRequest, InfraRepositoryBody, type InfraRepositoryView } from "../infra-schemas.ts";
import type { Platform } from "../platform.ts";
import { identityOf, type TypedServer, urlOf } from "../server.ts";

/** Hosted repositories with infrastructure code, of one app each. */
export function infraRepositoryRoutes(server: TypedServer, { store, repositories }: Platform): void {
  const { db } = store;
  const params = z.object({ app: z.string() });
  const path = "/api/apps/:app/infra/repositories";
  const view = async ({ name, app, createdAt }: InfraRepository, url: string): Promise<InfraRepositoryView> => ({
    name,
    app,
    gitUrl: `${url}/git/${name}.git`,
    createdAt: createdAt.toISOString(),
    environments: await usersOf(db, app, name),
  });

  server.get(
    path,
    {
      config: { role: "viewer" },
      schema: {
        summary: "Hosted infra repositories of an app",
        params,
        response: { 200: z.array(InfraRepositoryBody) },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      const found = await listInfraRepositories(db, request.params.app);
      return Promise.all(found.map((one) => view(one, urlOf(request))));
    },
  );

  server.post(
    path,
    {
      config: { role: "developer" },
      schema: {
        summary: "Create a repository for an app's infrastructure code",
        params,
        body: CreateInfraRepositoryRequest,
        response: { 201: InfraRepositoryBody },
      },
    },
    async (request, reply) => {
      const { name: app } = await getApp(db, request.params.app);
      const wanted = { app, name: request.body.name };
      const created = await createInfraRepository(db, repositories, wanted, identityOf(request).name);
      return reply.status(201).send(await view(created, urlOf(request)));
    },
  );

  server.delete(
    `${path}/:name`,
    {
      config: { role: "admin" },
      schema: {
        summary: "Remove an infra repository that nothing is applied from any more",
        params: params.extend({ name: z.string() }),
        response: { 204: z.null() },
      },
    },
    async (request, reply) => {
      await removeInfraRepository(db, repositories, request.params, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );
}
