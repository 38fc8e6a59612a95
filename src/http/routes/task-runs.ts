import { z } from "zod";
import { cancelTaskRun, getTaskRun, listTaskRuns, requestTaskRun } from "../../release/task-runs.ts";
import { getApp } from "../../source/apps.ts";
import { maskOf } from "../../workflow/deployment-stages.ts";
import type { Platform } from "../platform.ts";
import { TaskRunBody, TaskRunRequest } from "../schemas.ts";
import { identityOf, requireApp, type TypedServer } from "../server.ts";
import { viewTaskRun } from "../views.ts";

/** Commands that people ask for, each in a task of its own. Any code with the environment's secrets: an operator's. */
export function taskRunRoutes(server: TypedServer, platform: Platform): void {
  const { store, engine, infra } = platform;
  const { db } = store;

  server.post(
    "/api/apps/:app/environments/:environment/runs",
    {
      config: { role: "operator" },
      schema: {
        summary: "Run a command once, in a task of its own with the service's image, variables and network",
        params: z.object({ app: z.string(), environment: z.string() }),
        body: TaskRunRequest,
        response: { 202: TaskRunBody },
      },
    },
    async (request, reply) => {
      const { service, command, release, deadlineMs } = request.body;
      const { sealer } = infra;
      const mask = await maskOf({ ...platform, sealer }, request.params);
      const run = await requestTaskRun(
        { db, sealer, mask },
        {
          ...request.params,
          service,
          command,
          release,
          deadlineMs,
          actor: identityOf(request).name,
        },
      );
      await engine.startTaskRun(run.id);
      return reply.status(202).send(viewTaskRun(run));
    },
  );

  server.get(
    "/api/apps/:app/runs",
    {
      config: { role: "viewer" },
      schema: {
        summary: "Commands that were run, newest first",
        params: z.object({ app: z.string() }),
        querystring: z.strictObject({
          environment: z.string().optional(),
          limit: z.coerce.number().int().min(1).max(200).default(20),
        }),
        response: { 200: z.array(TaskRunBody) },
      },
    },
    async (request) => {
      await getApp(db, request.params.app);
      return (await listTaskRuns(db, request.params.app, request.query)).map(viewTaskRun);
    },
  );

  const params = z.object({ id: z.string() });
  server.get(
    "/api/runs/:id",
    {
      config: { role: "viewer" },
      schema: { summary: "One command that was run", params, response: { 200: TaskRunBody } },
    },
    async (request) => {
      const run = await getTaskRun(db, request.params.id);
      requireApp(request, "viewer", run.app);
      return viewTaskRun(run);
    },
  );

  server.post(
    "/api/runs/:id/cancel",
    {
      config: { role: "operator" },
      schema: {
        summary: "Stop a command: SIGTERM, and SIGKILL after the service's stop timeout",
        params,
        response: { 202: TaskRunBody },
      },
    },
    async (request, reply) => {
      const { app, id } = await getTaskRun(db, request.params.id);
      requireApp(request, "operator", app);
      return reply.status(202).send(viewTaskRun(await cancelTaskRun(db, id, identityOf(request).name)));
    },
  );
}
