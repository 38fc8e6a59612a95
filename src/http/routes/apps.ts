import { z } from "zod";
import { everyPlace } from "../../environment/environments.ts";
import { requireNothingBuilt } from "../../infra/states.ts";
import { removeInitialised } from "../../infra/workspace.ts";
import { registriesOf } from "../../release/runtimes.ts";
import { createApp, getApp, listApps, removeApp, requireIdle } from "../../source/apps.ts";
import type { Platform } from "../platform.ts";
import { AppBody, CreateAppRequest, RemovedBody } from "../schemas.ts";
import { identityOf, type TypedServer, urlOf } from "../server.ts";
import { viewApp } from "../views.ts";

export function appRoutes(server: TypedServer, platform: Platform): void {
  const { store, repositories } = platform;

  server.get(
    "/api/apps",
    { config: { role: "viewer", forRuns: true }, schema: { summary: "All apps", response: { 200: z.array(AppBody) } } },
    async (request) => {
      const { app: scope } = identityOf(request);
      return (await listApps(store.db))
        .filter(({ name }) => scope === null || scope === name)
        .map((app) => viewApp(app, urlOf(request)));
    },
  );

  server.post(
    "/api/apps",
    {
      config: { role: "developer", everyApp: true },
      schema: { summary: "Create an app and its repository", body: CreateAppRequest, response: { 201: AppBody } },
    },
    async (request, reply) => {
      const app = await createApp(store.db, repositories, request.body.name, identityOf(request).name);
      return reply.status(201).send(viewApp(app, urlOf(request)));
    },
  );

  const params = z.object({ app: z.string() });

  server.get(
    "/api/apps/:app",
    { config: { role: "viewer", forRuns: true }, schema: { summary: "One app", params, response: { 200: AppBody } } },
    async (request) => viewApp(await getApp(store.db, request.params.app), urlOf(request)),
  );

  server.delete(
    "/api/apps/:app",
    {
      config: { role: "admin" },
      schema: {
        summary: "Stop and remove everything of an app, its data included",
        params,
        querystring: z.strictObject({
          images: z.enum(["keep", "remove"]).default("remove").describe("Those that were pushed to a registry"),
        }),
        response: { 200: RemovedBody },
      },
    },
    async (request) => {
      const app = await getApp(store.db, request.params.app);
      await requireIdle(store.db, app.name);
      await requireNothingBuilt(store.db, app.name);
      const places = await everyPlace(store.db, app.name);
      const remarks: string[] = [];
      for (const place of places) remarks.push(...(await platform.target.destroy(place, "remove")));
      if (request.query.images === "remove")
        for (const registry of await registriesOf(store.db, app.name))
          await platform.publisherAt(registry).removeApp(app.name);
      await platform.forgetCi(app.name);
      // Nothing tidies up behind an app that is not there any more.
      await platform.forgetImages(app.name);
      await removeApp(store.db, repositories, app.name, identityOf(request).name);
      await platform.infra.code.remove(app.name);
      for (const place of places) await removeInitialised(platform.infra.dir, place);
      return { remarks };
    },
  );
}
