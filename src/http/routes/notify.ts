import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { sendTest } from "../../notify/deliver.ts";
import {
  addHook,
  getHook,
  type Hook,
  listHooks,
  listNotifyDeliveries,
  type NotifyDelivery,
  removeHook,
} from "../../notify/hooks.ts";
import { getApp } from "../../source/apps.ts";
import {
  AddHookRequest,
  HookBody,
  type HookView,
  NotifyDeliveryBody,
  type NotifyDeliveryView,
} from "../notify-schemas.ts";
import type { Platform } from "../platform.ts";
import { identityOf, requireApp, requireEveryApp, type TypedServer } from "../server.ts";

const params = z.object({ id: z.string() });

/** Hooks say who is told what; with a token of one app only that app's are seen and made. */
export function notifyRoutes(server: TypedServer, { store, notify }: Platform): void {
  const { db } = store;
  const getOwn = async (request: FastifyRequest, id: string): Promise<Hook> => {
    const hook = await getHook(db, id);
    if (hook.app === null) requireEveryApp(request, "operator");
    else requireApp(request, "operator", hook.app);
    return hook;
  };

  server.post(
    "/api/notify/hooks",
    {
      config: { role: "operator" },
      schema: {
        summary: "Have events sent to a URL; the secret that signs them is shown this once",
        body: AddHookRequest,
        response: { 201: HookBody.extend({ secret: z.string() }) },
      },
    },
    async (request, reply) => {
      const { url, format, on } = request.body;
      const app = request.body.app ?? identityOf(request).app;
      if (app !== null) {
        requireApp(request, "operator", app);
        await getApp(db, app);
      }
      const wanted = { url, app, format, selectors: on };
      const { hook, secret } = await addHook(db, notify.sealer, wanted, identityOf(request).name);
      return reply.status(201).send({ ...viewHook(hook), secret });
    },
  );

  server.get(
    "/api/notify/hooks",
    {
      config: { role: "operator" },
      schema: {
        summary: "Who is told what",
        querystring: z.strictObject({ app: z.string().optional() }),
        response: { 200: z.array(HookBody) },
      },
    },
    async (request) => {
      const app = request.query.app ?? identityOf(request).app ?? undefined;
      if (app !== undefined) requireApp(request, "operator", app);
      return (await listHooks(db, app)).map(viewHook);
    },
  );

  server.delete(
    "/api/notify/hooks/:id",
    {
      config: { role: "operator" },
      schema: { summary: "Tell a hook nothing any more", params, response: { 204: z.null() } },
    },
    async (request, reply) => {
      const { id } = await getOwn(request, request.params.id);
      await removeHook(db, id, identityOf(request).name);
      return reply.status(204).send(null);
    },
  );

  server.post(
    "/api/notify/hooks/:id/test",
    {
      config: { role: "operator" },
      schema: { summary: "Send a test now and give the answer", params, response: { 200: NotifyDeliveryBody } },
    },
    async (request) => {
      const hook = await getOwn(request, request.params.id);
      return viewDelivery(await sendTest(notify, hook, identityOf(request).name));
    },
  );

  server.get(
    "/api/notify/hooks/:id/deliveries",
    {
      config: { role: "operator" },
      schema: {
        summary: "What was sent to it, newest first",
        params,
        querystring: z.strictObject({ limit: z.coerce.number().int().min(1).max(200).default(20) }),
        response: { 200: z.array(NotifyDeliveryBody) },
      },
    },
    async (request) => {
      const { id } = await getOwn(request, request.params.id);
      return (await listNotifyDeliveries(db, id, request.query.limit)).map(viewDelivery);
    },
  );
}

function viewHook(hook: Hook): HookView {
  return {
    id: hook.id,
    app: hook.app,
    url: hook.shown_url,
    format: hook.format,
    on: hook.selectors,
    failingSince: hook.failing_since?.toISOString() ?? null,
    actor: hook.actor,
    createdAt: hook.created_at.toISOString(),
  };
}

function viewDelivery(row: NotifyDelivery): NotifyDeliveryView {
  return {
    id: row.id,
    kind: row.kind,
    eventId: row.event_id === null ? null : Number(row.event_id),
    status: row.status,
    attempts: row.attempts,
    httpStatus: row.http_status,
    answer: row.answer,
    problem: row.problem,
    nextAt: row.next_at?.toISOString() ?? null,
    createdAt: row.created_at.toISOString(),
    endedAt: row.ended_at?.toISOString() ?? null,
  };
}
