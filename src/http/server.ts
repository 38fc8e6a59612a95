import swagger from "@fastify/swagger";
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions, LogController } from "fastify";
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import { z } from "zod";
import { type Identity, mayActAs, type Role } from "../access/roles.ts";
import { findIdentity } from "../access/tokens.ts";
import { ERRORS, errorCode, fail, toProblem } from "../shared/errors.ts";
import type { Platform } from "./platform.ts";
import { appRoutes } from "./routes/apps.ts";
import { deploymentRoutes } from "./routes/deployments.ts";
import { environmentRoutes } from "./routes/environments.ts";
import { streamRoutes } from "./routes/streams.ts";
import { systemRoutes } from "./routes/system.ts";
import { tokenRoutes } from "./routes/tokens.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Who may call this route; `anyone` needs no token. A route without it is refused at start. */
    role?: Role | "anyone";
  }
  interface FastifyRequest {
    identity: Identity | undefined;
  }
}

export type Server = FastifyInstance;

/** Requests to the API are small; git has its own limit. */
const LARGEST_BODY_BYTES = 1024 * 1024;

/** The HTTP edge: every route parses with zod, names the role it needs, calls a domain and renders. */
export async function buildServer(
  platform: Platform,
  options: { logger?: FastifyServerOptions["loggerInstance"] } = {},
): Promise<Server> {
  const server = Fastify({
    ...(options.logger
      ? { loggerInstance: options.logger, logController: new LogController({ disableRequestLogging: true }) }
      : { logger: false }),
    bodyLimit: LARGEST_BODY_BYTES,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 500 },
  });
  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  server.decorateRequest("identity", undefined);
  server.addHook("onRoute", (route) => {
    // Hosted git authenticates by itself: git speaks Basic, with the token as password.
    if (!route.url.startsWith("/git/") && route.config?.role === undefined)
      throw new Error(`${route.url} names no role`);
  });
  server.addHook("onRequest", (request) => authorise(platform, request));
  server.setErrorHandler((error, request, reply) => {
    const { status, body } = renderError(error, request.id);
    if (status === 500) request.log.error({ err: error, url: request.url }, "request failed");
    return reply.status(status).send(body);
  });
  server.setNotFoundHandler({ preHandler: [] }, (request, reply) =>
    reply.status(404).send({
      error: {
        code: "NOT_FOUND",
        message: `There is nothing at ${request.method} ${request.url.split("?")[0]}.`,
        hint: "The API is described at /api/openapi.json.",
      },
    }),
  );
  await server.register(swagger, {
    openapi: {
      info: {
        title: "Shipway",
        version: platform.version,
        description: "From git push to a running, watched, reversible release.",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: [{ token: [] }],
    },
    transform: jsonSchemaTransform,
  });
  const typed = server.withTypeProvider<ZodTypeProvider>();
  for (const register of [systemRoutes, appRoutes, environmentRoutes, deploymentRoutes, streamRoutes, tokenRoutes]) {
    await server.register(async () => register(typed, platform));
  }
  return server;
}

export type TypedServer = ReturnType<typeof withZod>;
const withZod = (server: Server) => server.withTypeProvider<ZodTypeProvider>();

async function authorise(platform: Platform, request: FastifyRequest): Promise<void> {
  const role = request.routeOptions.config?.role;
  if (role === undefined || role === "anyone") return;
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  const identity = token === undefined ? undefined : await findIdentity(platform.store.db, token);
  if (!identity) {
    throw fail("TOKEN_INVALID", {
      message: token === undefined ? "The request carries no token." : "The token is unknown or was revoked.",
      hint: "Pass a token with --token or SHIPWAY_TOKEN; an admin makes one with `shipway token create NAME`.",
    });
  }
  request.identity = identity;
  const { app } = request.params as { app?: string };
  if (mayActAs(identity, role, app ?? identity.app ?? undefined)) return;
  throw fail("FORBIDDEN", {
    message: `The token "${identity.name}" is a ${identity.role}${identity.app ? ` of ${identity.app}` : ""}; this needs ${role}${app ? ` of ${app}` : ""}.`,
    hint: "Ask an admin for a token with that role: `shipway token create NAME --role ROLE`.",
  });
}

/** The caller, on a route that needs a role. */
export function identityOf(request: FastifyRequest): Identity {
  if (!request.identity) throw new Error(`${request.url} has no identity`);
  return request.identity;
}

/** Tokens of one app see only that app, also where the path names none. */
export function requireApp(request: FastifyRequest, role: Role, app: string): void {
  const identity = identityOf(request);
  if (mayActAs(identity, role, app)) return;
  throw fail("FORBIDDEN", {
    message: `The token "${identity.name}" may not do this to ${app}.`,
    hint: "Ask an admin for a token with that role.",
  });
}

function renderError(
  error: unknown,
  requestId: string,
): { status: number; body: { error: z.infer<typeof ErrorShape> } } {
  const code = errorCode(error);
  if (code !== undefined) return { status: ERRORS[code].http, body: { error: { ...toProblem(error), requestId } } };
  const { statusCode, message, validation } = error as { statusCode?: number; message: string; validation?: unknown };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    const hint =
      validation === undefined
        ? "See /api/openapi.json for what the API takes."
        : "Mend the fields named above; /api/openapi.json describes them.";
    return { status: statusCode, body: { error: { code: "REQUEST_INVALID", message, hint, requestId } } };
  }
  return {
    status: 500,
    body: {
      error: {
        code: "BUG",
        message: `Something broke in Shipway (request ${requestId}).`,
        hint: "The reason is in Shipway's log under this request id.",
        requestId,
      },
    },
  };
}

const ErrorShape = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  requestId: z.string(),
});
