import swagger from "@fastify/swagger";
import websocket from "@fastify/websocket";
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaValidationError,
  type FastifyServerOptions,
  LogController,
} from "fastify";
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import { z } from "zod";
import { type Identity, mayActAs, type Role } from "../access/roles.ts";
import { findIdentity } from "../access/tokens.ts";
import { findRunIdentity } from "../infra/run-credential.ts";
import { ERRORS, errorCode, fail, type Problem, toProblem } from "../shared/errors.ts";
import { newId } from "../shared/new-id.ts";
import { EXEC_PROTOCOL } from "./exec-messages.ts";
import type { Platform } from "./platform.ts";
import { appRoutes } from "./routes/apps.ts";
import { backingRoutes } from "./routes/backing.ts";
import { deploymentRoutes } from "./routes/deployments.ts";
import { environmentCostRoutes } from "./routes/environment-cost.ts";
import { environmentRoutes } from "./routes/environments.ts";
import { execRoutes } from "./routes/exec.ts";
import { infraRoutes } from "./routes/infra.ts";
import { infraRepositoryRoutes } from "./routes/infra-repositories.ts";
import { infraStateRoutes } from "./routes/infra-state.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { notifyRoutes } from "./routes/notify.ts";
import { pipelineValueRoutes } from "./routes/pipeline-values.ts";
import { streamRoutes } from "./routes/streams.ts";
import { systemRoutes } from "./routes/system.ts";
import { taskRunRoutes } from "./routes/task-runs.ts";
import { teardownRoutes } from "./routes/teardowns.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { variableRoutes } from "./routes/variables.ts";
import { ErrorBody } from "./schemas.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Who may call this route; `anyone` needs no token. A route without it is refused at start. */
    role?: Role | "anyone";
    /** The route is about the whole installation: a token of one app may not call it, whatever its role. */
    everyApp?: true;
    /** The token of an infra run may call it, too: what Terraform declares through the API. Everything else is closed to it. */
    forRuns?: true;
  }
  interface FastifyInstance {
    publicUrl: string | undefined;
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
    // Counted ids would begin anew at each start, and name many requests in one log.
    genReqId: () => newId("q"),
    frameworkErrors: (error, request, reply) => sendError(error, request, reply),
  });
  server.setSchemaErrorFormatter(
    (problems, part) => new Error(problems.map((one) => nameProblem(part, one)).join("; ")),
  );
  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  server.decorateRequest("identity", undefined);
  server.decorate("publicUrl", platform.publicUrl);
  server.addHook("onRoute", (route) => {
    // Hosted git authenticates by itself: git speaks Basic, with the token as password.
    if (!route.url.startsWith("/git/") && route.config?.role === undefined)
      throw new Error(`${route.url} names no role`);
  });
  // Before our own hook: a refused upgrade's connection is closed only where the plugin's hook came first.
  await server.register(websocket, {
    options: { maxPayload: LARGEST_BODY_BYTES, handleProtocols: () => EXEC_PROTOCOL },
  });
  server.addHook("onRequest", (request) => authorise(platform, request));
  server.setErrorHandler(sendError);
  server.setNotFoundHandler({ preHandler: [] }, (request, reply) =>
    sendError(
      fail("ROUTE_NOT_FOUND", {
        message: `There is nothing at ${request.method} ${request.url.split("?")[0]}.`,
        hint: "The API is described at /api/openapi.json; a client that is newer than the server asks for what it does not have yet.",
      }),
      request,
      reply,
    ),
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
    transform: describeRoute,
  });
  const typed = server.withTypeProvider<ZodTypeProvider>();
  for (const register of [
    systemRoutes,
    appRoutes,
    environmentRoutes,
    environmentCostRoutes,
    metricsRoutes,
    variableRoutes,
    pipelineValueRoutes,
    backingRoutes,
    deploymentRoutes,
    taskRunRoutes,
    teardownRoutes,
    execRoutes,
    streamRoutes,
    tokenRoutes,
    infraRoutes,
    notifyRoutes,
    infraRepositoryRoutes,
  ]) {
    await server.register(async () => register(typed, platform));
  }
  // A scope of its own: it takes bodies as they are.
  await server.register(async (scope) => infraStateRoutes(scope.withTypeProvider<ZodTypeProvider>(), platform));
  return server;
}

export type TypedServer = ReturnType<typeof withZod>;
const withZod = (server: Server) => server.withTypeProvider<ZodTypeProvider>();

async function authorise(platform: Platform, request: FastifyRequest): Promise<void> {
  const role = request.routeOptions.config?.role;
  if (role === undefined || role === "anyone") return;
  const token = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1];
  const identity = token === undefined ? undefined : await findWho(platform, token);
  if (!identity) {
    throw fail("TOKEN_INVALID", {
      message: token === undefined ? "The request carries no token." : "The token is unknown or was revoked.",
      hint: "Pass a token with --token or SHIPWAY_TOKEN; an admin makes one with `shipway token create NAME`.",
    });
  }
  request.identity = identity;
  if (identity.run) requireForRuns(identity, request);
  const { app } = request.params as { app?: string };
  const scope = request.routeOptions.config.everyApp ? undefined : (app ?? identity.app ?? undefined);
  if (!mayActAs(identity, role, scope)) throw forbidden(identity, role, scope);
}

const findWho = async ({ store }: Platform, token: string): Promise<Identity | undefined> =>
  (await findIdentity(store.db, token)) ?? (await findRunIdentity(store.db, token));

/** @throws FORBIDDEN */
function requireForRuns({ name, run }: Identity, { method, routeOptions }: FastifyRequest): void {
  const isRead = method === "GET" || method === "HEAD";
  if (routeOptions.config.forRuns && (isRead || run?.mayWrite)) return;
  throw fail("FORBIDDEN", {
    message: routeOptions.config.forRuns
      ? `The token is that of ${name}, which only plans: it may change nothing.`
      : `The token is that of ${name}: Terraform may declare what is in its app, and nothing else.`,
    hint: "For more, give the provider a token of your own, as a variable: `secrets: [TF_VAR_shipway_token]` in shipway.yml.",
  });
}

function forbidden(identity: Identity, role: Role, app: string | undefined) {
  return fail("FORBIDDEN", {
    message: `The token "${identity.name}" has the role ${identity.role}${identity.app ? ` of ${identity.app} only` : ""}; this needs ${role} of ${app ?? "every app"}.`,
    hint: "Ask an admin for a token with that role: `shipway token create NAME --role ROLE`.",
  });
}

/**
 * This server as the caller reaches it: its own idea of its address is of no use to a checkout on another machine. Behind a proxy it is what it was told
 * (SHIPWAY_URL), never what a header says.
 */
export function urlOf(request: FastifyRequest): string {
  return request.server.publicUrl ?? `${request.protocol}://${request.host}`;
}

/** The caller, on a route that needs a role. */
export function identityOf(request: FastifyRequest): Identity {
  if (!request.identity) throw new Error(`${request.url} has no identity`);
  return request.identity;
}

/** For a route whose path names no app, once the app is known. @throws FORBIDDEN */
export function requireApp(request: FastifyRequest, role: Role, app: string): void {
  const identity = identityOf(request);
  if (!mayActAs(identity, role, app)) throw forbidden(identity, role, app);
}

/** For what concerns the whole installation. @throws FORBIDDEN to a token of one app */
export function requireEveryApp(request: FastifyRequest, role: Role): void {
  const identity = identityOf(request);
  if (!mayActAs(identity, role)) throw forbidden(identity, role, undefined);
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status, problem } = renderError(error, request.id);
  if (status === 500) request.log.error({ err: error, method: request.method, url: request.url }, "request failed");
  if (status === 401) reply.header("www-authenticate", "Bearer");
  // Straight to text: an answer that fits no schema of its route (a path that cannot be read has none) must arrive, too.
  return reply
    .status(status)
    .type("application/json; charset=utf-8")
    .serializer((body: unknown) => JSON.stringify(body))
    .send({ error: { ...problem, requestId: request.id } });
}

/** What the caller is told: a public code, or the framework's refusal of a malformed request; of a bug nothing but where to look. */
function renderError(error: unknown, requestId: string): { status: number; problem: Problem } {
  const code = errorCode(error);
  if (code !== undefined) return { status: ERRORS[code].http, problem: toProblem(error) };
  const { statusCode, message, validation } = error as { statusCode?: number; message: string; validation?: unknown };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    const hint =
      validation === undefined
        ? "See /api/openapi.json for what the API takes."
        : "Mend what is named above; /api/openapi.json describes it.";
    return { status: statusCode, problem: { code: "REQUEST_INVALID", message, hint } };
  }
  return {
    status: 500,
    problem: {
      code: "BUG",
      message: `Something broke in Shipway (request ${requestId}).`,
      hint: "The reason is in Shipway's log under this request id.",
    },
  };
}

const PARTS: Record<string, string> = { querystring: "query", params: "path", headers: "headers", body: "body" };

/** `body.role: Invalid option: …`, with the caller's own names. */
function nameProblem(part: string, { instancePath, message }: FastifySchemaValidationError): string {
  const path = instancePath.split("/").filter((name) => name !== "");
  return `${[PARTS[part] ?? part, ...path].join(".")}: ${message ?? "is not valid"}`;
}

const byRuns = (method: string | string[]) =>
  method === "GET" ? "Infra runs of the app may call it, too." : "An apply of the app's Terraform may call it, too.";

const PROBLEM_SCHEMA = z.toJSONSchema(ErrorBody, { target: "draft-7", io: "output" });

/** A route's entry in the OpenAPI document, with the role it needs and what any error looks like. */
const describeRoute: typeof jsonSchemaTransform = (document) => {
  const described = jsonSchemaTransform(document);
  const { role, everyApp, forRuns } = document.route.config ?? {};
  const { method } = document.route;
  if (described.schema === undefined || "hide" in described.schema) return described;
  const { response } = described.schema as { response?: object };
  return {
    ...described,
    schema: {
      ...described.schema,
      description:
        role === "anyone"
          ? "Needs no token."
          : `Needs ${role}${everyApp ? " of every app" : ""}.${forRuns ? ` ${byRuns(method)}` : ""}`,
      ...(role === "anyone" && { security: [] }),
      response: { ...response, default: { description: "What went wrong", ...PROBLEM_SCHEMA } },
    },
  };
};
