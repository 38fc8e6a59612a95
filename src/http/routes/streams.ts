import { z } from "zod";
import { getEnvironment } from "../../environment/environments.ts";
import { lastEventId, readEvents } from "../../events/event-stream.ts";
import { findLogOwner } from "../../release/log-owner.ts";
import { fail } from "../../shared/errors.ts";
import { askRuntime } from "../ask-runtime.ts";
import { followKeptLog } from "../kept-logs.ts";
import type { Platform } from "../platform.ts";
import { EventBody, LogLineBody, TaskLogLineBody } from "../schemas.ts";
import { identityOf, requireApp, type TypedServer } from "../server.ts";
import { sendStream, wantsStream } from "../server-sent-events.ts";
import { followTaskLogs, readTaskLogs } from "../task-logs.ts";
import { viewLogLine } from "../views.ts";

const flag = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");
const eventId = z.coerce.number().int().min(0);

/** Reading the past of a task's log ends by itself; an engine that does not answer must not keep the caller for ever. */
const READ_WITHIN_MS = 30_000;

export function streamRoutes(server: TypedServer, platform: Platform): void {
  const { store, events, logs } = platform;

  server.get(
    "/api/events",
    {
      config: { role: "viewer" },
      schema: {
        summary:
          "The event stream, oldest first. With `Accept: text/event-stream` it stays open and begins after `after` or `Last-Event-ID`, without either now",
        querystring: z.strictObject({
          after: eventId.optional(),
          app: z.string().optional(),
          deliveryId: z.string().optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        headers: z.looseObject({
          "last-event-id": eventId.optional().describe("As browsers send it when they reconnect"),
        }),
        response: { 200: z.array(EventBody) },
      },
    },
    async (request, reply) => {
      const { after, limit, deliveryId } = request.query;
      if (request.query.app !== undefined) requireApp(request, "viewer", request.query.app);
      const filter = { app: request.query.app ?? identityOf(request).app ?? undefined, deliveryId };
      if (!wantsStream(request))
        return readEvents(store.db, { ...filter, limit, ...(after !== undefined && { after }) });
      const from = request.headers["last-event-id"] ?? after ?? (await lastEventId(store.db));
      await sendStream(request, reply, async function* (signal) {
        for await (const event of events.follow({ ...filter, after: from }, signal))
          yield { id: event.id, event: "event", data: event };
      });
      return reply;
    },
  );

  server.get(
    "/api/logs",
    {
      config: { role: "viewer" },
      schema: {
        summary:
          "A kept log (of a step, a build, a release command), by line. With `follow` as server-sent events (`event: line`), with `event: end` when the log is closed",
        querystring: z.strictObject({
          id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "is no name of a log"),
          from: z.coerce.number().int().min(0).default(0),
          limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
          follow: flag,
        }),
        response: { 200: z.array(LogLineBody) },
      },
    },
    async (request, reply) => {
      const { id, from, limit, follow } = request.query;
      const owner = await findLogOwner(store.db, id);
      if (!owner) {
        throw fail("NOT_FOUND", {
          message: `There is no pipeline, delivery or deployment that the log ${id} could be of.`,
          hint: "`shipway pipelines`, `shipway deployments` and `shipway events` show what there is.",
        });
      }
      requireApp(request, "viewer", owner.app);
      if (!follow) return (await logs.read(id, from, limit)).map(viewLogLine);
      await sendStream(request, reply, async function* (signal) {
        for await (const line of followKeptLog(platform, id, from, signal))
          yield { id: line.line, event: "line", data: viewLogLine(line) };
        yield { event: "end", data: {} };
      });
      return reply;
    },
  );

  server.get(
    "/api/apps/:app/environments/:environment/logs",
    {
      config: { role: "viewer" },
      schema: {
        summary:
          "What the tasks print, by default those of the live release. With `follow` as server-sent events (`event: line`), with `event: end` when the tasks are gone",
        params: z.object({ app: z.string(), environment: z.string() }),
        querystring: z.strictObject({
          service: z.string().optional(),
          release: z.coerce.number().int().min(1).optional(),
          since: z.iso.datetime().optional(),
          follow: flag,
        }),
        response: { 200: z.array(TaskLogLineBody) },
      },
    },
    async (request, reply) => {
      const { service, since, follow } = request.query;
      const place = request.params;
      const environment = await getEnvironment(store.db, place);
      const release = request.query.release ?? environment.live_release;
      if (release === null && !follow) return [];
      const sinceMs = since === undefined ? 0 : Date.parse(since);
      const wanted = release === null ? undefined : { release, service, sinceMs };
      if (wanted && !follow) {
        const reading = readTaskLogs(platform, place, wanted, AbortSignal.timeout(READ_WITHIN_MS));
        return askRuntime(platform, place, READ_WITHIN_MS, reading);
      }
      await sendStream(request, reply, async function* (signal) {
        if (wanted)
          for await (const line of followTaskLogs(platform, place, wanted, signal)) yield { event: "line", data: line };
        if (!signal.aborted) yield { event: "end", data: {} };
      });
      return reply;
    },
  );
}
