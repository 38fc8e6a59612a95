import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { getEnvironment } from "../../environment/environments.ts";
import { lastEventId, readEvents } from "../../events/event-stream.ts";
import { newMask } from "../../events/mask-secrets.ts";
import type { Platform } from "../platform.ts";
import { EventBody, LogLineBody, type TaskLogLine, TaskLogLineBody } from "../schemas.ts";
import { identityOf, type TypedServer } from "../server.ts";
import { viewLogLine } from "../views.ts";

/** Proxies cut silent connections; a comment line keeps them open. */
const HEARTBEAT_MS = 15_000;
const flag = z
  .enum(["true", "false"])
  .default("false")
  .transform((text) => text === "true");

export function streamRoutes(server: TypedServer, platform: Platform): void {
  const { store, events, logs, target } = platform;

  server.get(
    "/api/events",
    {
      config: { role: "viewer" },
      schema: {
        summary: "The event stream; with `Accept: text/event-stream` it stays open",
        querystring: z.object({
          after: z.coerce.number().int().min(0).optional(),
          app: z.string().optional(),
          deliveryId: z.string().optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: { 200: z.array(EventBody) },
      },
    },
    async (request, reply) => {
      const { after, limit, deliveryId } = request.query;
      const app = identityOf(request).app ?? request.query.app;
      if (!wantsStream(request))
        return readEvents(store.db, { app, deliveryId, limit, ...(after !== undefined && { after }) });
      const from = Number(request.headers["last-event-id"] ?? after ?? (await lastEventId(store.db)));
      await stream(request, reply, async function* (signal) {
        for await (const event of events.follow({ app, deliveryId, after: from }, signal))
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
        summary: "A kept log, by line; with `follow` it stays open until the log ends",
        querystring: z.object({
          id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/),
          from: z.coerce.number().int().min(0).default(0),
          limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
          follow: flag,
        }),
        response: { 200: z.array(LogLineBody) },
      },
    },
    async (request, reply) => {
      const { id, from, limit, follow } = request.query;
      if (!follow) return (await logs.read(id, from, limit)).map(viewLogLine);
      await stream(request, reply, async function* (signal) {
        for await (const line of logs.follow(id, from, signal))
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
        summary: "What the tasks print",
        params: z.object({ app: z.string(), environment: z.string() }),
        querystring: z.object({
          service: z.string().optional(),
          release: z.coerce.number().int().optional(),
          since: z.iso.datetime().optional(),
          follow: flag,
        }),
        response: { 200: z.array(TaskLogLineBody) },
      },
    },
    async (request, reply) => {
      const { service, since, follow } = request.query;
      const environment = await getEnvironment(store.db, request.params);
      const release = request.query.release ?? environment.live_release ?? 0;
      const sinceMs = since === undefined ? 0 : Date.parse(since);
      const observed = (await target.observe(request.params)).filter(
        (seen) => seen.release === release && (service === undefined || seen.service === service),
      );
      const tasks = observed.flatMap((seen) => seen.tasks.map((task) => task.name));
      if (!follow) return readTaskLogs(platform, request.params, tasks, sinceMs);
      await stream(request, reply, async function* (signal) {
        for await (const line of followTasks(platform, request.params, tasks, sinceMs, signal))
          yield { event: "line", data: line };
        yield { event: "end", data: {} };
      });
      return reply;
    },
  );
}

/** How long reading the past of a task's log may take when it is not followed. */
const READ_MS = 1_500;

async function readTaskLogs(
  platform: Platform,
  place: { app: string; environment: string },
  tasks: string[],
  sinceMs: number,
): Promise<TaskLogLine[]> {
  const lines: TaskLogLine[] = [];
  const past = AbortSignal.timeout(READ_MS);
  for await (const line of followTasks(platform, place, tasks, sinceMs, past)) {
    if (Date.parse(line.at) > Date.now() + 1) break;
    lines.push(line);
  }
  return lines.sort((a, b) => a.at.localeCompare(b.at));
}

async function* followTasks(
  platform: Platform,
  place: { app: string; environment: string },
  tasks: string[],
  sinceMs: number,
  signal: AbortSignal,
): AsyncGenerator<TaskLogLine, void, void> {
  const mask = newMask(await platform.secrets.all(place));
  const queue: TaskLogLine[] = [];
  let wake = () => {};
  let open = tasks.length;
  const done = new AbortController();
  const ends = AbortSignal.any([signal, done.signal]);
  ends.addEventListener("abort", () => wake(), { once: true });
  for (const task of tasks) {
    void platform.target
      .followLogs(
        place,
        task,
        sinceMs,
        (batch) => {
          queue.push(
            ...batch.map(({ at, stream: from, text }) => ({
              task,
              at: new Date(at).toISOString(),
              stream: from,
              text: mask(text),
            })),
          );
          wake();
        },
        ends,
      )
      .catch(() => undefined)
      .finally(() => {
        open -= 1;
        wake();
      });
  }
  try {
    while (open > 0 || queue.length > 0) {
      const line = queue.shift();
      if (line) yield line;
      else if (signal.aborted) return;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  } finally {
    done.abort();
  }
}

const wantsStream = (request: FastifyRequest) => (request.headers.accept ?? "").includes("text/event-stream");

type Frame = { id?: number; event: string; data: unknown };

/** Server-sent events (WHATWG HTML, section 9.2) until the source or the reader ends. */
async function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  source: (signal: AbortSignal) => AsyncGenerator<Frame, void, void>,
): Promise<void> {
  const gone = new AbortController();
  request.raw.on("close", () => gone.abort());
  reply.raw.on("close", () => gone.abort());
  reply.hijack();
  reply.raw.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  reply.raw.write(": open\n\n");
  const heartbeat = setInterval(() => reply.raw.write(": still here\n\n"), HEARTBEAT_MS);
  try {
    for await (const { id, event, data } of source(gone.signal)) {
      const head = id === undefined ? "" : `id: ${id}\n`;
      reply.raw.write(`${head}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    }
  } catch (error) {
    if (!gone.signal.aborted) request.log.error({ err: error }, "stream broke");
  } finally {
    clearInterval(heartbeat);
    reply.raw.end();
  }
}
