import { collectDefaultMetrics, Registry } from "prom-client";
import { z } from "zod";
import { listApps } from "../../source/apps.ts";
import type { Platform } from "../platform.ts";
import { StatusBody } from "../schemas.ts";
import { identityOf, type TypedServer, urlOf } from "../server.ts";
import { addServiceGauges } from "../service-gauges.ts";
import { viewApp } from "../views.ts";

export function systemRoutes(server: TypedServer, platform: Platform): void {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "shipway_" });
  addServiceGauges(registry, () => platform.docker?.latestUse() ?? []);

  server.get(
    "/api/ready",
    {
      config: { role: "anyone" },
      schema: {
        summary: "Whether Shipway takes requests",
        response: { 200: z.object({ ready: z.literal(true), version: z.string() }) },
      },
    },
    async () => ({
      ready: true as const,
      version: platform.version,
    }),
  );

  server.get("/api/openapi.json", { config: { role: "anyone" }, schema: { hide: true } }, async () => server.swagger());

  server.get(
    "/metrics",
    { config: { role: "viewer", everyApp: true }, schema: { hide: true } },
    async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  );

  server.get(
    "/api/status",
    { config: { role: "viewer" }, schema: { summary: "The control plane itself", response: { 200: StatusBody } } },
    async (request) => {
      const [version, apps] = await Promise.all([platform.docker?.version(), listApps(platform.store.db)]);
      const { app: scope } = identityOf(request);
      return {
        version: platform.version,
        instance: platform.instance,
        apiUrl: urlOf(request),
        httpPort: platform.httpPort,
        dataDir: platform.dataDir,
        uptimeMs: Date.now() - platform.startedAt,
        docker: { used: platform.docker !== undefined, reachable: version !== undefined, version: version ?? null },
        apps: apps.filter(({ name }) => scope === null || scope === name).map((app) => viewApp(app, urlOf(request))),
      };
    },
  );
}
